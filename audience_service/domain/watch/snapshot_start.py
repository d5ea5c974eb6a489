"""The position of a watch stream, and the start of a stream from a snapshot.

Such a stream first sends the changes between the snapshot and one event of the log, then the events after that one.

The start is an event, not a time, because member states change while they are read. Each contains the number of its
event, and rows of later events are reverted.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.core.lease import LeaseLost
from audience_service.domain.history.model import Cause, Event, Watch
from audience_service.domain.history.repository import HistoryRepository
from audience_service.domain.snapshots.reader import SnapshotReader
from audience_service.domain.watch.errors import WatchTokenExpired


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """A position after the event `seq` of a watch epoch.

    If `snapshot_id` is set, the changes from that snapshot to event `seq` come first, from the first sk after `after`.
    """

    watch_epoch: str
    seq: int
    snapshot_id: str = ""
    after: str = ""

    def as_list(self) -> list[Any]:
        """The position as JSON values; without the snapshot once all its changes are sent."""
        return [self.watch_epoch, self.seq, *([self.snapshot_id, self.after] if self.snapshot_id else [])]


@dataclass(frozen=True, slots=True)
class BootstrapBatch:
    """Changes since the snapshot, and the position after them."""

    events: Sequence[Event]
    position: StreamPosition


class SnapshotBootstrap:
    """Starts watch streams from snapshots."""

    def __init__(self, repository: HistoryRepository, snapshots: SnapshotReader) -> None:
        self._repository = repository
        self._snapshots = snapshots

    def check(self, ctx: RequestContext, datatype: str, snapshot_id: str, resume_token: str) -> None:
        """Check that a stream of a datatype can start from the snapshot; "" needs no check.

        Raises InvalidArgument, SnapshotNotFound, SnapshotNotReady.
        """
        if not snapshot_id:
            return
        if resume_token:
            raise InvalidArgument.at("since_snapshot_id", "excludes resume_token; set one of them")
        found = self._snapshots.get_ready(ctx, snapshot_id)
        if found.datatype != datatype:
            raise InvalidArgument.at("since_snapshot_id", f"is a snapshot of {found.datatype}; must be of {datatype}")

    def events(
        self, ctx: RequestContext, position: StreamPosition, watch: Watch
    ) -> Generator[BootstrapBatch, None, None]:
        """Batches of the changes from the snapshot of the position to its event; none without a snapshot.

        Raises SnapshotNotFound, WatchTokenExpired.
        """
        if not position.snapshot_id:
            return
        snapshot = self._snapshots.get_ready(ctx, position.snapshot_id)
        batches = self._repository.diff_snapshot(
            ctx.org, position.watch_epoch, position.seq, snapshot, position.after, ctx.deadline
        )
        at = watch.watermark or now()
        try:
            with closing(batches):
                for changes, after in batches:
                    # Deletion removes the manifest before the rows: while the manifest exists, the batch is complete.
                    self._snapshots.get_ready(ctx, snapshot.id)
                    events = [Event(position.seq, change, Cause.SNAPSHOT, at) for change in changes]
                    yield BootstrapBatch(events, StreamPosition(position.watch_epoch, position.seq, snapshot.id, after))
        except LeaseLost:
            raise token_expired("the next events are older than the retention period") from None
        self._snapshots.get_ready(ctx, snapshot.id)  # rows after the last batch may have been deleted
        yield BootstrapBatch((), StreamPosition(position.watch_epoch, position.seq))


def token_expired(cause: str) -> WatchTokenExpired:
    """The error for a position whose next events were deleted, with the cause."""
    message = f"{cause}; watch again without a token and read the current members"
    return WatchTokenExpired(message, metadata={"cause": cause})
