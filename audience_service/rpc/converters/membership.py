"""Converters of member batches, membership checks and membership explanations."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import bson

from audience_service.domain.audiences.selection_resolver import Exclusion
from audience_service.domain.core.documents import Documents
from audience_service.domain.core.errors import FilterTooLarge, InvalidArgument
from audience_service.domain.explain.membership_explanation import EvaluatedCondition, MembershipExplanation
from audience_service.domain.filters.fields import display_path
from audience_service.domain.membership.checks import ContactAudiences, MembershipCheck
from audience_service.domain.membership.partitions import Partition
from audience_service.domain.membership.service import MemberBatch, MemberEncoding, count_members
from audience_service.domain.schema.projection import MISSING
from audience_service.pb.audience.v1 import membership_service_pb2 as pb
from audience_service.rpc.converters.member_bytes import SerializedMembers, encode_members
from audience_service.rpc.converters.structs import decode_timestamp, encode_timestamp, encode_value

_MAX_BATCH_BYTES = 3 * 1024 * 1024
MAX_EXPLANATION_BYTES = 4 * 1024 * 1024
"""gRPC's default limit of the messages that a client receives."""
_ROOT_CONDITION_DEPTH = 3
"""The nesting depth, in messages, of a value in the top-level condition."""
_ENCODINGS: "Mapping[pb.MemberEncoding.ValueType, MemberEncoding]" = {
    pb.MEMBER_ENCODING_UNSPECIFIED: MemberEncoding.STRUCT,
    pb.MEMBER_ENCODING_STRUCT: MemberEncoding.STRUCT,
    pb.MEMBER_ENCODING_BSON: MemberEncoding.BSON,
}


def decode_partition(message: pb.StreamMembersRequest) -> Partition | None:
    """The partition of a request, None for all members."""
    if not message.HasField("partition"):
        return None
    return Partition(message.partition.index, message.partition.count)


def decode_as_of(message: pb.StreamMembersRequest) -> datetime | None:
    """The time whose members a request asks for, None for now. Raises InvalidArgument."""
    return decode_timestamp(message.as_of, "as_of") if message.HasField("as_of") else None


def decode_encoding(message: pb.StreamMembersRequest) -> MemberEncoding:
    """The encoding that a request asks for. Raises InvalidArgument."""
    if message.encoding not in _ENCODINGS:
        names = "MEMBER_ENCODING_STRUCT or MEMBER_ENCODING_BSON"
        raise InvalidArgument.at("encoding", f"{message.encoding} is not a member encoding; set {names}")
    return _ENCODINGS[message.encoding]


def encode_exclusions(values: Iterable[Exclusion]) -> list[pb.Exclusion]:
    """The messages of the exclusions: a count for each reason."""
    return [pb.Exclusion(reason=value.reason, count=value.count) for value in values]


def encode_batches(value: MemberBatch, encoding: MemberEncoding) -> Iterator[SerializedMembers]:
    """The StreamMembersResponses of a batch, serialized: one, or as many as keep each below gRPC's limit of 4 MiB."""
    message = _encode_batch(value, encoding)
    if value.split is None or len(message.content) <= _MAX_BATCH_BYTES:
        yield message
    else:
        for half in value.split():
            yield from encode_batches(half, encoding)


def encode_memberships(value: MembershipCheck) -> pb.CheckMembershipResponse:
    """The message of a membership check: the audiences that contain each contact."""
    return pb.CheckMembershipResponse(
        memberships=[
            pb.ContactMemberships(contact_id=found.contact_id, audience_ids=found.audience_ids, found=found.found)
            for found in value.memberships
        ],
        read_time=encode_timestamp(value.read_at),
    )


def encode_contact_audiences(value: ContactAudiences) -> pb.ListAudiencesOfContactResponse:
    """The message of one page of a contact's audiences."""
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
    """The message that explains why a contact is or is not a member.

    Raises FilterTooLarge if the message exceeds 4 MiB, gRPC's default limit for clients.
    """
    message = pb.ExplainMembershipResponse(
        member=value.condition.matched,
        condition=_encode_condition(value.condition, _ROOT_CONDITION_DEPTH),
        next_change_time=encode_timestamp(value.condition.next_change_time),
        next_change_unknown=value.next_change_unknown,
        values_withheld=not value.has_values,
        read_time=encode_timestamp(value.read_at),
    )
    if (size := message.ByteSize()) > MAX_EXPLANATION_BYTES:
        limit = MAX_EXPLANATION_BYTES
        raise FilterTooLarge.at(
            value.condition.condition.field_path,
            f"takes {size:,} bytes to explain, more than {limit:,}; use fewer conditions or shorter lists",
            limit=str(limit),
        )
    return message


def _encode_batch(value: MemberBatch, encoding: MemberEncoding) -> SerializedMembers:
    message = pb.StreamMembersResponse(cursor=value.cursor)
    if value.totals is not None:
        message.totals.member_count = value.totals.members
        message.totals.exclusions.extend(encode_exclusions(value.totals.exclusions))
    members, count, encoded = value.members, count_members(value.members), b""
    if encoding is MemberEncoding.STRUCT:
        encoded = encode_members(members, value.fields)
    else:
        content = members.content if isinstance(members, Documents) else b"".join(map(bson.encode, members))
        message.documents, message.document_count = content, count
    # Serialized messages that follow each other are one message with the fields of both.
    return SerializedMembers(message.SerializeToString() + encoded, count)


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
