"""Memberships of single contacts, and their explanations, as messages."""

from audience_service.domain.errors import FilterTooLarge
from audience_service.domain.explanations.membership_explanation import MembershipExplanation, Truth
from audience_service.domain.fields.fields import MISSING
from audience_service.domain.filters.fields import written_path
from audience_service.domain.membership.checks import ContactAudiences, MembershipCheck
from audience_service.pb.audience.v1 import membership_service_pb2 as pb
from audience_service.rpc.structs import encode_moment, encode_value

_MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""What clients take by default."""
_OUTERMOST = 3
"""How many messages deep the whole condition stands, with a value in it."""


def encode_check(value: MembershipCheck) -> pb.CheckMembershipResponse:
    """Who is in what, as callers see it."""
    return pb.CheckMembershipResponse(
        memberships=[
            pb.ContactMemberships(contact_id=found.contact_id, audience_ids=found.audience_ids, found=found.found)
            for found in value.memberships
        ],
        read_time=encode_moment(value.read_at),
    )


def encode_audiences(value: ContactAudiences) -> pb.ListAudiencesOfContactResponse:
    """A page of what a contact is in, as callers see it."""
    return pb.ListAudiencesOfContactResponse(
        audiences=[
            pb.ContactAudience(id=found.audience.id, name=found.audience.name, type=found.type)
            for found in value.audiences
        ],
        unusable_audience_ids=value.unusable_ids,
        next_page_token=value.next_page_token,
        read_time=encode_moment(value.read_at),
    )


def encode_membership(value: MembershipExplanation) -> pb.ExplainMembershipResponse:
    """Why a contact is a member or is not, as callers see it. Raises FilterTooLarge past what clients take."""
    message = pb.ExplainMembershipResponse(
        member=value.truth.holds,
        condition=_encode_truth(value.truth, _OUTERMOST),
        next_change_time=encode_moment(value.truth.flip_time),
        next_change_unknown=value.time_unknown,
        read_time=encode_moment(value.read_at),
    )
    if (size := message.ByteSize()) > _MAX_MESSAGE_BYTES:
        limit = _MAX_MESSAGE_BYTES
        raise FilterTooLarge.at(
            value.truth.claim.place, f"takes {size:,} bytes to explain, more than {limit:,}", limit=str(limit)
        )
    return message


def _encode_truth(value: Truth, depth: int) -> pb.ConditionResult:
    claim = value.claim
    return pb.ConditionResult(
        field_path=claim.place,
        description=claim.words,
        matched=value.holds,
        conditions=[_encode_truth(inner, depth + 1) for inner in value.inner],
        path=written_path(claim.path),
        value=None if value.value is MISSING else encode_value(value.value, depth),
        next_change_time=encode_moment(value.flip_time),
        error=value.failure,
    )
