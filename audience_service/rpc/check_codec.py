"""Memberships of single contacts, and their explanations, as messages."""

from audience_service.domain.checks import ContactAudiences, MembershipCheck
from audience_service.pb.audience.v1 import membership_service_pb2 as pb
from audience_service.rpc.structs import encode_moment


def encode_check(value: MembershipCheck) -> pb.CheckMembershipResponse:
    """Who is in what, as callers see it."""
    return pb.CheckMembershipResponse(
        memberships=[
            pb.ContactMemberships(contact_id=found.contact_id, audience_ids=found.audience_ids, found=found.found)
            for found in value.memberships
        ],
        read_at=encode_moment(value.read_at),
    )


def encode_audiences(value: ContactAudiences) -> pb.ListAudiencesOfContactResponse:
    """A page of what a contact is in, as callers see it."""
    return pb.ListAudiencesOfContactResponse(
        audiences=[
            pb.ContactAudience(id=segment.id, name=segment.name, type=segment.type) for segment in value.segments
        ],
        unusable_audience_ids=value.unusable_ids,
        next_page_token=value.next_page_token,
        read_at=encode_moment(value.read_at),
    )
