"""Converters of the export log."""

from collections.abc import Mapping

from audience_service.domain.core.pages import ListedPage
from audience_service.domain.export_log.model import ExportQuery, ExportRecord, ExportState
from audience_service.pb.audience.v1 import audience_service_pb2 as pb
from audience_service.rpc.converters.structs import decode_timestamp, encode_timestamp

_STATES: "Mapping[ExportState, pb.ExportState.ValueType]" = {
    ExportState.SENDING: pb.EXPORT_STATE_SENDING,
    ExportState.COMPLETED: pb.EXPORT_STATE_COMPLETED,
    ExportState.FAILED: pb.EXPORT_STATE_FAILED,
    ExportState.CANCELLED: pb.EXPORT_STATE_CANCELLED,
}


def decode_export_query(message: pb.ListExportsRequest) -> ExportQuery:
    """The criteria of a list of exports. Raises InvalidArgument."""
    since, until = (
        decode_timestamp(getattr(message, name), name) if message.HasField(name) else None
        for name in ("start_time", "end_time")
    )
    return ExportQuery(message.audience_id, message.platform, since, until)


def encode_exports(value: ListedPage[ExportRecord]) -> pb.ListExportsResponse:
    """The message of a page of exports."""
    return pb.ListExportsResponse(exports=map(_encode_export, value.items), next_page_token=value.next_page_token)


def _encode_export(value: ExportRecord) -> pb.Export:
    content = value.content
    return pb.Export(
        id=value.id,
        rpc=content.rpc,
        subject=value.subject,
        request_id=value.request_id,
        audience_ids=content.audience_ids,
        exclude_audience_ids=content.exclude_audience_ids,
        has_filter=content.has_filter,
        purpose=content.purpose,
        platform=content.platform,
        fields=content.fields,
        sync_id=content.sync_id,
        start_time=encode_timestamp(value.started_at),
        end_time=encode_timestamp(value.ended_at),
        state=_STATES[value.state],
        row_count=value.row_count,
        reason=value.reason,
    )
