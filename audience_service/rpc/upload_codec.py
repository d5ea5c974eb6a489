"""Uploads as messages."""

from collections.abc import Iterator

from audience_service.domain.errors import InvalidArgument
from audience_service.domain.uploads.arrivals import Chunk, End, Part
from audience_service.domain.uploads.rows import REASONS
from audience_service.domain.uploads.upload import Column, Upload, UploadHeader
from audience_service.domain.uploads.uploads import UnmatchedBatch
from audience_service.pb.audience.v1 import custom_audience_service_pb2 as pb
from audience_service.rpc.structs import encode_moment


def decode_parts(messages: Iterator[pb.UploadMembersRequest]) -> Iterator[Part]:
    """What the messages of a stream carry. Raises InvalidArgument for one that carries nothing."""
    for message in messages:
        match message.WhichOneof("part"):
            case "header":
                yield _header(message.header)
            case "chunk":
                yield Chunk(message.chunk.offset, message.chunk.data, message.chunk.crc32)
            case "end":
                yield End(message.end.size, message.end.crc32)
            case _:
                raise InvalidArgument.at("part", "is missing; a message carries a header, a chunk or an end")


def _header(message: pb.UploadHeader) -> UploadHeader:
    return UploadHeader(
        audience_id=message.audience_id,
        upload_id=message.upload_id,
        mode=message.mode,
        encoding=message.encoding,
        delimiter=message.delimiter,
        no_header=message.no_header,
        columns=tuple(Column(column.field, column.name, column.position) for column in message.columns),
        default_region=message.default_region,
    )


def encode_upload(value: Upload) -> pb.Upload:
    """An upload as callers see it."""
    tally = value.tally
    return pb.Upload(
        audience_id=value.header.audience_id,
        upload_id=value.header.upload_id,
        state=value.state,
        next_offset=value.position.offset,
        rows=tally.rows,
        accepted=tally.accepted,
        matched=tally.matched,
        duplicate=tally.duplicate,
        unmatched=tally.unmatched,
        rejected=tally.rejected,
        rejections=[
            pb.RowRejection(
                line=rejection.line,
                column=rejection.column,
                reason=rejection.reason,
                description=REASONS[rejection.reason],
            )
            for rejection in tally.rejections
        ],
        contacts=tally.contacts,
        failure=value.failure,
        create_time=encode_moment(value.create_time),
        publish_time=encode_moment(value.publish_time),
        contact_count=value.contact_count,
    )


def encode_unmatched(value: UnmatchedBatch) -> pb.StreamUnmatchedRowsResponse:
    """A batch of rows, or the total, as callers see it."""
    return pb.StreamUnmatchedRowsResponse(
        rows=[pb.UploadedRow(line=row.line, cells=row.cells) for row in value.rows],
        upload_id=value.upload_id,
        columns=value.columns,
        cursor=value.cursor,
        total=value.total,
    )
