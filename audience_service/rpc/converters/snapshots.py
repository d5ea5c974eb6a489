"""Converters of snapshots and their differences."""

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.core.pages import ListedPage
from audience_service.domain.snapshots.diff import DiffBatch
from audience_service.domain.snapshots.model import Snapshot, SnapshotQuery, SnapshotSource
from audience_service.domain.snapshots.service import SnapshotDraft
from audience_service.pb.audience.v1 import membership_service_pb2 as pb
from audience_service.rpc.converters.audiences import CREATION_STATES, decode_selection
from audience_service.rpc.converters.filters import encode_filter
from audience_service.rpc.converters.structs import decode_duration, encode_timestamp


def decode_snapshot_draft(message: pb.CreateSnapshotRequest) -> SnapshotDraft:
    """The snapshot that a request describes. Raises InvalidFilter, InvalidArgument."""
    time_to_live = decode_duration(message.time_to_live, "time_to_live") if message.HasField("time_to_live") else None
    return SnapshotDraft(decode_selection(message), message.name, time_to_live)


def decode_snapshot_query(message: pb.ListSnapshotsRequest) -> SnapshotQuery:
    """The criteria of a list of snapshots. Raises InvalidArgument."""
    return SnapshotQuery(message.audience_id, _decode_state(message.creation_state))


def encode_snapshot(value: Snapshot) -> pb.Snapshot:
    """The message of a snapshot."""
    return pb.Snapshot(
        id=value.id,
        name=value.name,
        creation_state=CREATION_STATES[value.state],
        progress=value.progress,
        error=value.error,
        datatype=value.datatype,
        sources=[_encode_source(source) for source in value.sources],
        filter=None if value.filter is None else encode_filter(value.filter),
        excluded_sources=[_encode_source(source) for source in value.excluded_sources],
        purpose=value.purpose,
        count=value.count,
        digest=value.digest,
        exclusions=[pb.Exclusion(reason=reason, count=count) for reason, count in value.exclusions.items()],
        read_time=encode_timestamp(value.read_at),
        point_in_time=value.point_in_time,
        create_time=encode_timestamp(value.created_at),
        expire_time=encode_timestamp(value.expires_at),
        author=value.author,
    )


def encode_snapshots(value: ListedPage[Snapshot]) -> pb.ListSnapshotsResponse:
    """The message of one page of snapshots."""
    return pb.ListSnapshotsResponse(
        snapshots=[encode_snapshot(snapshot) for snapshot in value.items],
        next_page_token=value.next_page_token,
        total_size=value.total,
    )


def encode_snapshot_diff(value: DiffBatch) -> pb.DiffSnapshotsResponse:
    """The message of a batch of differences, or of the totals."""
    message = pb.DiffSnapshotsResponse(
        entered_ids=[found.pk for found in value.differences if found.entered],
        exited_ids=[found.pk for found in value.differences if not found.entered],
        cursor=value.cursor,
    )
    if value.totals:
        message.totals.entered_count = value.totals.entered
        message.totals.exited_count = value.totals.exited
        message.totals.unchanged_count = value.totals.unchanged
    return message


def _decode_state(number: int) -> str:
    """The creation state to list, "" for every state. Raises InvalidArgument."""
    if not number:
        return ""
    for state, known in CREATION_STATES.items():
        if number == known:
            return state.value
    raise InvalidArgument.at(
        "creation_state", f"{number} is not a CreationState; use one of {', '.join(CREATION_STATES)}"
    )


def _encode_source(value: SnapshotSource) -> pb.SnapshotSource:
    return pb.SnapshotSource(audience_id=value.audience_id, version=value.version, filter=encode_filter(value.filter))
