"""Between messages and the domain's dataclasses."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Literal, Protocol

from google.protobuf.descriptor import Descriptor

from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.audiences.selection_resolver import Exclusion
from audience_service.domain.core.error_path import prefix_error_path
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.filters import Filter, FilterWarning, Limits, fits_struct, parse_text, print_text
from audience_service.domain.membership.partitions import Partition
from audience_service.domain.membership.service import MemberBatch
from audience_service.domain.reach.service import ReachEstimate, ReachProgress
from audience_service.domain.segments.model import (
    ListSource,
    Segment,
    SegmentDraft,
    SegmentQuery,
    check_order,
    check_type,
)
from audience_service.domain.segments.version import SegmentVersion
from audience_service.pb.audience.v1 import membership_service_pb2 as membership_pb
from audience_service.pb.audience.v1 import reach_service_pb2 as reach_pb
from audience_service.pb.audience.v1 import resources_pb2 as pb
from audience_service.pb.audience.v1 import segment_service_pb2 as segment_pb
from audience_service.rpc.converters.structs import (
    decode_struct,
    decode_timestamp,
    encode_struct,
    encode_timestamp,
    fill_struct,
)

_MAX_TEXT_LENGTH = 200
_MAX_MESSAGE_BYTES = 3 * 1024 * 1024
_SELECTOR_FIELDS = ("audience_id", "filter", "snapshot_id", "audience_ids", "exclude_audience_ids", "purpose")


def decode_filter(message: pb.Filter, field_path: str) -> Filter:
    """The filter; without conditions its `where` is None. Raises InvalidFilter at `place` for text that is no JSON."""
    match message.WhichOneof("conditions"):
        case "where":
            return Filter(message.datatype, decode_struct(message.where), exact=False)
        case "where_json":
            with prefix_error_path(field_path):
                where = parse_text(message.where_json, "where_json", Limits().size_bytes)
            return Filter(message.datatype, where)
        case _:
            return Filter(message.datatype, None)


def encode_filter(value: Filter) -> pb.Filter:
    """The filter, in `where` if an object can hold it exactly, else in `where_json`."""
    if value.where is None:
        return pb.Filter(datatype=value.datatype)
    if fits_struct(value.where):
        return pb.Filter(datatype=value.datatype, where=encode_struct(value.where))
    return pb.Filter(datatype=value.datatype, where_json=print_text(value.where))


class SelectorRequest(Protocol):
    """A request with the member selector: all of its fields, or only a part."""

    DESCRIPTOR: Descriptor

    def HasField(self, field_name: Literal["filter"]) -> bool:  # noqa: N802 - protobuf's name
        """Whether the request has a filter."""


def decode_selection(message: SelectorRequest) -> AudienceSelector:
    """The selector of a request; a field that the request's type lacks is empty. Raises InvalidFilter."""
    fields = message.DESCRIPTOR.fields_by_name
    given: dict[str, Any] = {name: getattr(message, name) for name in _SELECTOR_FIELDS if name in fields}
    has_filter = "filter" in fields and message.HasField("filter")
    return AudienceSelector(
        audience_id=given.get("audience_id", ""),
        filter=decode_filter(given["filter"], "filter") if has_filter else None,
        snapshot_id=given.get("snapshot_id", ""),
        audience_ids=tuple(given.get("audience_ids", ())),
        exclude_audience_ids=tuple(given.get("exclude_audience_ids", ())),
        purpose=given.get("purpose", ""),
    )


def decode_partition(message: membership_pb.StreamMembersRequest) -> Partition | None:
    """The part that is wanted, None for all."""
    if not message.HasField("partition"):
        return None
    return Partition(message.partition.index, message.partition.count)


def decode_as_of(message: membership_pb.StreamMembersRequest) -> datetime | None:
    """The moment whose members are wanted, None for now. Raises InvalidArgument."""
    return decode_timestamp(message.as_of, "as_of") if message.HasField("as_of") else None


def decode_budget(message: reach_pb.EstimateReachRequest) -> float | None:
    """How many seconds an exact count may take, None where the caller does not say. Raises InvalidArgument."""
    if not message.HasField("budget"):
        return None
    seconds = message.budget.seconds + message.budget.nanos / 1e9
    if seconds < 0:
        raise InvalidArgument.at("budget", "is negative")
    return seconds


def decode_segment_draft(message: pb.Segment) -> SegmentDraft:
    """What a caller may set of a segment; output-only fields are passed over. Raises InvalidFilter."""
    return SegmentDraft(
        name=message.name,
        description=message.description,
        type=message.type,
        filter=decode_filter(message.filter, "segment.filter") if message.HasField("filter") else None,
        contact_ids=tuple(message.contact_ids),
    )


def decode_segment_source(message: segment_pb.CreateSegmentRequest) -> ListSource | None:
    """What to freeze, if anything. Raises InvalidFilter."""
    if not message.HasField("source"):
        return None
    source = message.source
    if source.HasField("filter"):
        return ListSource(filter=decode_filter(source.filter, "source.filter"))
    return ListSource(audience_id=source.audience_id)


def decode_segment_query(message: segment_pb.ListSegmentsRequest) -> SegmentQuery:
    """Which segments to list. Raises InvalidArgument."""
    for name in ("name", "state"):
        text = getattr(message, name)
        if len(text) > _MAX_TEXT_LENGTH or "\0" in text:
            raise InvalidArgument.at(name, f"has more than {_MAX_TEXT_LENGTH} characters, or a NUL")
    order, descending = check_order(message.order_by)
    return SegmentQuery(
        name=message.name,
        type=check_type(message.type, "type").value if message.type else "",
        state=message.state,
        order=order,
        descending=descending,
    )


def decode_segment_version(
    message: pb.Segment
    | segment_pb.DeleteSegmentRequest
    | segment_pb.UndeleteSegmentRequest
    | segment_pb.RollbackSegmentRequest,
) -> int | None:
    """The version that a write is to be made on, None for whatever is there."""
    return message.version if message.HasField("version") else None


def decode_target_version(message: segment_pb.RollbackSegmentRequest) -> int:
    """The version to roll back to. Raises InvalidArgument if it is missing."""
    if not message.HasField("target_version"):
        raise InvalidArgument.at("target_version", "is missing; give a version of ListSegmentVersions")
    return message.target_version


def decode_size(size: int, field_path: str, *, default: int, maximum: int) -> int:
    """A page or batch size: the default for 0, at most the maximum (AIP-158). Raises InvalidArgument if negative."""
    if size < 0:
        raise InvalidArgument.at(field_path, "is negative")
    return min(size or default, maximum)


def encode_segment(value: Segment, warnings: Iterable[FilterWarning] = ()) -> pb.Segment:
    """The segment as callers see it, with what its filter is warned about."""
    return pb.Segment(
        id=value.id,
        name=value.name,
        description=value.description,
        filter=encode_filter(value.filter),
        type=value.type,
        contact_count=value.contact_count,
        state=value.state,
        version=value.version,
        create_time=encode_timestamp(value.created_at),
        update_time=encode_timestamp(value.updated_at),
        author=value.author,
        warnings=[
            pb.FilterWarning(field_path=w.field_path, reason=w.reason, description=w.description) for w in warnings
        ],
    )


def encode_reach(value: ReachEstimate) -> reach_pb.EstimateReachResponse:
    """The count, the interval around it, and a member."""
    return reach_pb.EstimateReachResponse(
        count=value.estimate.count,
        sample_profile=None if value.sample_profile is None else encode_struct(value.sample_profile),
        read_time=encode_timestamp(value.read_at),
        exact=value.estimate.exact,
        lower_bound=value.estimate.lower_bound,
        upper_bound=value.estimate.upper_bound,
    )


def encode_reach_progress(value: ReachProgress) -> reach_pb.StreamReachResponse:
    """The same, and how far the count is."""
    return reach_pb.StreamReachResponse(
        count=value.estimate.count,
        sample_profile=None if value.sample_profile is None else encode_struct(value.sample_profile),
        read_time=encode_timestamp(value.read_at),
        exact=value.estimate.exact,
        lower_bound=value.estimate.lower_bound,
        upper_bound=value.estimate.upper_bound,
        scanned_count=value.scanned_count,
        total_count=value.total_count,
    )


def encode_segment_version(value: SegmentVersion) -> segment_pb.SegmentVersion:
    """The version as callers see it."""
    return segment_pb.SegmentVersion(
        version=value.segment.version,
        segment=encode_segment(value.segment),
        editor=value.segment.editor,
        update_time=encode_timestamp(value.segment.updated_at),
        changed_fields=value.changed_fields,
    )


def encode_exclusions(values: Iterable[Exclusion]) -> list[membership_pb.Exclusion]:
    """Who was left out, by reason."""
    return [membership_pb.Exclusion(reason=value.reason, count=value.count) for value in values]


def encode_batches(value: MemberBatch) -> Iterator[membership_pb.StreamMembersResponse]:
    """The batch in one message, or in as many as it takes for each to be one that clients accept by default."""
    message = _encode_batch(value)
    if value.split is None or message.ByteSize() <= _MAX_MESSAGE_BYTES:
        yield message
    else:
        for half in value.split():
            yield from encode_batches(half)


def _encode_batch(value: MemberBatch) -> membership_pb.StreamMembersResponse:
    message = membership_pb.StreamMembersResponse(cursor=value.cursor)
    if value.totals is not None:
        message.totals.member_count = value.totals.members
        message.totals.exclusions.extend(encode_exclusions(value.totals.exclusions))
    # Filled in place, and fields left out where none were asked for: this runs for every member of every stream.
    add = message.members.add
    if not value.fields.paths:
        for record in value.records:
            add().id = str(record.get("pk", ""))
        return message
    for record in value.records:
        member = add()
        member.id = str(record.get("pk", ""))
        fill_struct(member.fields, value.fields.values(record))
    return message
