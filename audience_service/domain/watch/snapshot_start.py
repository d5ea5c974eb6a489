"""Where a watch goes on, and how it begins from a snapshot: with what has happened since, and then with the ledger."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.core.lease import LeaseLost
from audience_service.domain.history.model import Cause, Event, Watch
from audience_service.domain.snapshots.reader import SnapshotReader
from audience_service.domain.watch.errors import WatchTokenExpired
from audience_service.domain.watch.repository import SnapshotBootstrapRepository


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """Behind an event of a generation's ledger.

    Where a snapshot is named, what has happened since it up to that event is to be told first, from behind `after` on.
    """

    watch_epoch: str
    seq: int
    snapshot_id: str = ""
    after: str = ""

    def as_list(self) -> list[Any]:
        """In JSON values, without the snapshot where all since it has been told."""
        return [self.watch_epoch, self.seq, *([self.snapshot_id, self.after] if self.snapshot_id else [])]


@dataclass(frozen=True, slots=True)
class BootstrapBatch:
    """Events since the snapshot, and where the watch is behind them."""

    events: Sequence[Event]
    position: StreamPosition


class SnapshotBootstrap:
    """Begins watches from snapshots."""

    def __init__(self, repository: SnapshotBootstrapRepository, snapshots: SnapshotReader) -> None:
        self._repository = repository
        self._snapshots = snapshots

    def check(self, ctx: RequestContext, datatype: str, snapshot_id: str, resume_token: str) -> None:
        """Raise where a watch of an audience cannot begin from a snapshot.

        Raises InvalidArgument, SnapshotNotFound, SnapshotNotReady.
        """
        if not snapshot_id:
            return
        if resume_token:
            raise InvalidArgument.at("since_snapshot_id", "excludes resume_token; set one of them")
        found = self._snapshots.get_ready(ctx, snapshot_id)
        if found.datatype != datatype:
            raise InvalidArgument.at("since_snapshot_id", f"is a snapshot of {found.datatype}, not of {datatype}")

    def events(
        self, ctx: RequestContext, position: StreamPosition, watch: Watch
    ) -> Generator[BootstrapBatch, None, None]:
        """What has happened between the snapshot and the position's event, if it names one.

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
                    # What is deleted loses its manifest first: while that is there, no row was missing.
                    self._snapshots.get_ready(ctx, snapshot.id)
                    events = [Event(position.seq, change, Cause.SNAPSHOT, at) for change in changes]
                    yield BootstrapBatch(events, StreamPosition(position.watch_epoch, position.seq, snapshot.id, after))
        except LeaseLost:
            raise token_expired("the next events are older than the retention period") from None
        self._snapshots.get_ready(ctx, snapshot.id)  # of those that were missing behind the last batch, too
        yield BootstrapBatch((), StreamPosition(position.watch_epoch, position.seq))


def token_expired(cause: str) -> WatchTokenExpired:
    """The error that the events after a position were deleted, with the cause."""
    message = f"{cause}; watch again without a token and read the current members"
    return WatchTokenExpired(message, metadata={"cause": cause})
