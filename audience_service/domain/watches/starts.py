"""Where a watch goes on, and how it begins from a snapshot: with what has happened since, and then with the ledger."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from audience_service.domain.caller import Call
from audience_service.domain.clock import now
from audience_service.domain.errors import InvalidArgument
from audience_service.domain.snapshots.ready import ReadySnapshots
from audience_service.domain.watches.errors import WatchTokenExpired
from audience_service.domain.watches.ports import Overtaken, StartRepository
from audience_service.domain.watches.watch import Cause, Event, Watch


@dataclass(frozen=True, slots=True)
class Position:
    """Behind an event of a generation's ledger.

    Where a snapshot is named, what has happened since it up to that event is to be told first, from behind `after` on.
    """

    generation: str
    seq: int
    snapshot_id: str = ""
    after: str = ""

    def as_list(self) -> list[Any]:
        """In JSON values, without the snapshot where all since it has been told."""
        return [self.generation, self.seq, *([self.snapshot_id, self.after] if self.snapshot_id else [])]


@dataclass(frozen=True, slots=True)
class StartBatch:
    """Events since the snapshot, and where the watch is behind them."""

    events: Sequence[Event]
    position: Position


class Starts:
    """Begins watches from snapshots."""

    def __init__(self, repository: StartRepository, snapshots: ReadySnapshots) -> None:
        self._repository = repository
        self._snapshots = snapshots

    def check(self, call: Call, datatype: str, snapshot_id: str, resume_token: str) -> None:
        """Raise where a watch of an audience cannot begin from a snapshot.

        Raises InvalidArgument, SnapshotNotFound, SnapshotNotReady.
        """
        if not snapshot_id:
            return
        if resume_token:
            raise InvalidArgument.at("since_snapshot_id", "excludes resume_token; set one of them")
        found = self._snapshots.ready(call, snapshot_id)
        if found.datatype != datatype:
            raise InvalidArgument.at("since_snapshot_id", f"is a snapshot of {found.datatype}, not of {datatype}")

    def events(self, call: Call, position: Position, watch: Watch) -> Generator[StartBatch, None, None]:
        """What has happened between the snapshot and the position's event, if it names one.

        Raises SnapshotNotFound, WatchTokenExpired.
        """
        if not position.snapshot_id:
            return
        snapshot = self._snapshots.ready(call, position.snapshot_id)
        batches = self._repository.differences(
            call.org, position.generation, position.seq, snapshot, position.after, call.deadline
        )
        at = watch.as_of or now()
        try:
            with closing(batches):
                for flips, after in batches:
                    # What is deleted loses its manifest first: while that is there, no row was missing.
                    self._snapshots.ready(call, snapshot.id)
                    events = [Event(position.seq, flip, Cause.SNAPSHOT, at) for flip in flips]
                    yield StartBatch(events, Position(position.generation, position.seq, snapshot.id, after))
        except Overtaken:
            raise expired("the next events are older than the retention period") from None
        self._snapshots.ready(call, snapshot.id)  # of those that were missing behind the last batch, too
        yield StartBatch((), Position(position.generation, position.seq))


def expired(why: str) -> WatchTokenExpired:
    """The error that the events after a position were deleted, with the cause."""
    message = f"{why}; watch again without a token and read the current members"
    return WatchTokenExpired(message, metadata={"cause": why})
