"""Memberships of single contacts, and their explanations, as messages."""

from audience_service.domain.core.errors import FilterTooLarge
from audience_service.domain.explain.membership_explanation import EvaluatedCondition, MembershipExplanation
from audience_service.domain.filters.fields import display_path
from audience_service.domain.membership.checks import ContactAudiences, MembershipCheck
from audience_service.domain.schema.projection import MISSING
from audience_service.pb.audience.v1 import membership_service_pb2 as pb
from audience_service.rpc.converters.structs import encode_timestamp, encode_value

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""What clients take by default."""
_ROOT_DEPTH = 3
"""How many messages deep the whole condition stands, with a value in it."""


def encode_memberships(value: MembershipCheck) -> pb.CheckMembershipResponse:
    """Who is in what, as callers see it."""
    return pb.CheckMembershipResponse(
        memberships=[
            pb.ContactMemberships(contact_id=found.contact_id, audience_ids=found.audience_ids, found=found.found)
            for found in value.memberships
        ],
        read_time=encode_timestamp(value.read_at),
    )


def encode_contact_audiences(value: ContactAudiences) -> pb.ListAudiencesOfContactResponse:
    """A page of what a contact is in, as callers see it."""
    return pb.ListAudiencesOfContactResponse(
        audiences=[
            pb.ContactAudience(id=found.audience.id, name=found.audience.name, type=found.type)
            for found in value.audiences
        ],
        unusable_audience_ids=value.unusable_ids,
        next_page_token=value.next_page_token,
        read_time=encode_timestamp(value.read_at),
    )


def encode_membership_explanation(value: MembershipExplanation) -> pb.ExplainMembershipResponse:
    """Why a contact is a member or is not, as callers see it. Raises FilterTooLarge past what clients take."""
    message = pb.ExplainMembershipResponse(
        member=value.condition.matched,
        condition=_encode_condition(value.condition, _ROOT_DEPTH),
        next_change_time=encode_timestamp(value.condition.next_change_time),
        next_change_unknown=value.next_change_unknown,
        read_time=encode_timestamp(value.read_at),
    )
    if (size := message.ByteSize()) > MAX_MESSAGE_BYTES:
        limit = MAX_MESSAGE_BYTES
        raise FilterTooLarge.at(
            value.condition.condition.field_path,
            f"takes {size:,} bytes to explain, more than {limit:,}",
            limit=str(limit),
        )
    return message


def _encode_condition(value: EvaluatedCondition, depth: int) -> pb.ConditionResult:
    condition = value.condition
    return pb.ConditionResult(
        field_path=condition.field_path,
        description=condition.description,
        matched=value.matched,
        conditions=[_encode_condition(inner, depth + 1) for inner in value.children],
        path=display_path(condition.path),
        value=None if value.value is MISSING else encode_value(value.value, depth),
        next_change_time=encode_timestamp(value.next_change_time),
        error=value.error,
    )
