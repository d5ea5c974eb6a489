"""Converters of uploads."""

from collections.abc import Iterator, Mapping

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.core.pages import ListedPage
from audience_service.domain.uploads.model import Column, Rejection, Upload, UploadHeader, UploadMode, UploadState
from audience_service.domain.uploads.rows import REASONS
from audience_service.domain.uploads.service import UnmatchedBatch
from audience_service.domain.uploads.stream_messages import Chunk, Trailer, UploadMessage
from audience_service.pb.audience.v1 import custom_audience_service_pb2 as pb
from audience_service.rpc.converters.structs import encode_timestamp

_MODES: "Mapping[pb.UploadMode.ValueType, UploadMode]" = {
    pb.UPLOAD_MODE_APPEND: UploadMode.APPEND,
    pb.UPLOAD_MODE_REMOVE: UploadMode.REMOVE,
    pb.UPLOAD_MODE_REPLACE: UploadMode.REPLACE,
}
_STATES: "Mapping[UploadState, pb.UploadState.ValueType]" = {
    UploadState.OPEN: pb.UPLOAD_STATE_OPEN,
    UploadState.PUBLISHED: pb.UPLOAD_STATE_PUBLISHED,
    UploadState.FAILED: pb.UPLOAD_STATE_FAILED,
}


def decode_upload_messages(messages: Iterator[pb.UploadMembersRequest]) -> Iterator[UploadMessage]:
    """The contents of a stream's messages. Raises InvalidArgument for a message without content."""
    for message in messages:
        match message.WhichOneof("content"):
            case "header":
                yield _decode_header(message.header)
            case "chunk":
                yield Chunk(message.chunk.offset, message.chunk.data, message.chunk.crc32)
            case "trailer":
                yield Trailer(message.trailer.size_bytes, message.trailer.crc32)
            case _:
                raise InvalidArgument.at("content", "is missing; set header, chunk or trailer")


def _decode_header(message: pb.UploadHeader) -> UploadHeader:
    return UploadHeader(
        audience_id=message.audience_id,
        upload_id=message.upload_id,
        mode=_decode_mode(message.mode),
        encoding=message.encoding,
        delimiter=message.delimiter,
        has_header=message.has_header or not message.HasField("has_header"),
        columns=tuple(Column(column.field, column.name, column.position) for column in message.columns),
        default_region=message.default_region,
        phones_have_country_code=message.phones_have_country_code,
        force=message.force,
    )


def _decode_mode(value: "pb.UploadMode.ValueType") -> UploadMode:
    try:
        return _MODES[value]
    except KeyError:
        names = ", ".join(pb.UploadMode.Name(known) for known in _MODES)
        problem = f"{value} is not an upload mode" if value else "is missing"
        raise InvalidArgument.at("header.mode", f"{problem}; set one of {names}") from None


def encode_upload(value: Upload) -> pb.Upload:
    """The message of an upload."""
    counts = value.row_counts
    return pb.Upload(
        audience_id=value.header.audience_id,
        upload_id=value.header.upload_id,
        state=_STATES[value.state],
        next_offset=value.position.offset,
        row_count=counts.rows,
        accepted_row_count=counts.accepted,
        matched_row_count=counts.matched,
        duplicate_row_count=counts.duplicate,
        unmatched_row_count=counts.unmatched,
        rejected_row_counts=counts.rejected,
        rejections=map(_encode_rejection, counts.rejections),
        matched_contact_count=counts.matched_contacts,
        error=value.error,
        create_time=encode_timestamp(value.created_at),
        publish_time=encode_timestamp(value.published_at),
        list_size=value.list_size,
        delimiter=value.position.delimiter,
        changed_row_counts=counts.changes,
    )


def encode_rejected_rows(value: ListedPage[Rejection]) -> pb.ListRejectedRowsResponse:
    """The message of a page of rejected rows."""
    return pb.ListRejectedRowsResponse(
        rejections=map(_encode_rejection, value.items),
        next_page_token=value.next_page_token,
        total_size=value.total,
    )


def _encode_rejection(value: Rejection) -> pb.RowRejection:
    return pb.RowRejection(
        line=value.line,
        column=value.column,
        reason=value.reason,
        description=value.detail or REASONS[value.reason],
    )


def encode_unmatched_rows(value: UnmatchedBatch) -> pb.StreamUnmatchedRowsResponse:
    """The message of a batch of unmatched rows, or of their total."""
    return pb.StreamUnmatchedRowsResponse(
        rows=[pb.UnmatchedRow(line=row.line, cells=row.cells) for row in value.rows],
        upload_id=value.upload_id,
        columns=value.columns,
        cursor=value.cursor,
        total_row_count=value.total,
    )
