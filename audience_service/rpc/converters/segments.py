"""Converters of segments and their versions."""

from collections.abc import Iterable

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.filters import FilterWarning
from audience_service.domain.segments.model import (
    ListSource,
    Segment,
    SegmentDraft,
    SegmentQuery,
    check_order,
    check_type,
)
from audience_service.domain.segments.version import SegmentVersion
from audience_service.pb.audience.v1 import resources_pb2 as pb
from audience_service.pb.audience.v1 import segment_service_pb2 as segment_pb
from audience_service.rpc.converters.filters import decode_filter, encode_filter, encode_warnings
from audience_service.rpc.converters.structs import encode_timestamp

_MAX_TEXT_LENGTH = 200


def decode_segment_draft(message: pb.Segment) -> SegmentDraft:
    """The fields of a segment that a caller may set; output-only fields are ignored. Raises InvalidFilter."""
    return SegmentDraft(
        name=message.name,
        description=message.description,
        type=message.type,
        filter=decode_filter(message.filter, "segment.filter") if message.HasField("filter") else None,
        contact_ids=tuple(message.contact_ids),
    )


def decode_segment_source(message: segment_pb.CreateSegmentRequest) -> ListSource | None:
    """The source of a static segment's member list, None if the request has none. Raises InvalidFilter."""
    if not message.HasField("source"):
        return None
    source = message.source
    if source.HasField("filter"):
        return ListSource(filter=decode_filter(source.filter, "source.filter"))
    return ListSource(audience_id=source.audience_id)


def decode_segment_query(message: segment_pb.ListSegmentsRequest) -> SegmentQuery:
    """The criteria and the order of a list of segments. Raises InvalidArgument."""
    for name in ("name", "state"):
        text = getattr(message, name)
        if len(text) > _MAX_TEXT_LENGTH or "\0" in text:
            raise InvalidArgument.at(
                name,
                f"is longer than {_MAX_TEXT_LENGTH} characters or contains NUL; "
                f"use at most {_MAX_TEXT_LENGTH} characters without NUL",
            )
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
    """The version that a write expects, None for any version."""
    return message.version if message.HasField("version") else None


def decode_target_version(message: segment_pb.RollbackSegmentRequest) -> int:
    """The version to roll back to. Raises InvalidArgument if it is missing."""
    if not message.HasField("target_version"):
        raise InvalidArgument.at("target_version", "is missing; set a version of ListSegmentVersions")
    return message.target_version


def encode_segment(value: Segment, warnings: Iterable[FilterWarning] = ()) -> pb.Segment:
    """The message of a segment, with the warnings of its filter."""
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
        warnings=encode_warnings(warnings),
    )


def encode_segment_version(value: SegmentVersion) -> segment_pb.SegmentVersion:
    """The message of a segment's version."""
    return segment_pb.SegmentVersion(
        version=value.segment.version,
        segment=encode_segment(value.segment),
        editor=value.segment.editor,
        update_time=encode_timestamp(value.segment.updated_at),
        changed_fields=value.changed_fields,
    )
