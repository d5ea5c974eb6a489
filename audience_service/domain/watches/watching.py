"""The use case of a watcher: the events of an audience, each once, for as long as it listens and from where it was."""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import datetime

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.caller import Call
from audience_service.domain.errors import AudienceNotFound, UnsupportedByStore, UnusableAudience
from audience_service.domain.tokens import TokenSealer
from audience_service.domain.watches.bell import Bell, Ear
from audience_service.domain.watches.errors import ServerStopping
from audience_service.domain.watches.ports import LedgerRepository
from audience_service.domain.watches.starts import Position, Starts, expired
from audience_service.domain.watches.wanted import Wanted
from audience_service.domain.watches.watch import Event, Failure, Watch

_BATCH = 1_000
_POLL_SECONDS = 0.25
"""How often the watch is looked at for what other processes have found; what this one finds rings the bell."""


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """Events in order, and the token to go on behind them; without events a checkpoint.

    `as_of` is when nothing was missing from the events up to here; None where more are known of already.
    """

    events: Sequence[Event]
    resume_token: str
    as_of: datetime | None


class Watching:
    """Follows ledgers.

    Every `checkpoint_seconds` a watcher is sent a sign at least, and the audience is wanted again. `told` rings for the
    org and id of an audience when there is something to tell.
    """

    def __init__(
        self,
        wanted: Wanted,
        ledger: LedgerRepository,
        starts: Starts,
        audiences: Audiences,
        sealer: TokenSealer,
        checkpoint_seconds: float,
        told: Bell,
    ) -> None:
        self._wanted = wanted
        self._ledger = ledger
        self._starts = starts
        self._audiences = audiences
        self._sealer = sealer
        self._checkpoint_seconds = checkpoint_seconds
        self._told = told
        self._stopping = False

    def stop(self) -> None:
        """Let whoever listens, or comes to, be told that the server stops, within the time of a poll."""
        self._stopping = True

    def watch(
        self,
        call: Call,
        audience_id: str,
        resume_token: str,
        snapshot_id: str = "",
    ) -> Generator[WatchBatch, None, None]:
        """Who enters and exits behind the token; since a snapshot; or from now on.

        Ends when the caller has gone, or with an error. Raises AudienceNotFound, UnusableAudience, InvalidArgument,
        SnapshotNotFound, SnapshotNotReady, InvalidPageToken, WatchTokenExpired, TooManyWatches; StoreUnavailable,
        ServerStopping, OutOfTime.
        """
        audience = self._audiences.named(call, audience_id)
        self._starts.check(call, audience.population.datatype, snapshot_id, resume_token)
        position = self._opened(call, audience_id, resume_token) if resume_token else None
        with self._told.listen((call.org, audience_id)) as ear:
            yield from self._follow(call, audience_id, position, snapshot_id, ear)

    def _follow(
        self, call: Call, audience_id: str, position: Position | None, snapshot_id: str, ear: Ear
    ) -> Generator[WatchBatch, None, None]:
        checkpoint_at, want_at = 0.0, 0.0
        while not call.deadline.is_cancelled:
            again = time.monotonic() >= want_at
            watch = self._watch(call, audience_id, again=again)
            want_at = time.monotonic() + self._checkpoint_seconds if again else want_at
            if position is None and watch.generation:
                position = Position(watch.generation, watch.seq, snapshot_id)
            if position is not None:
                events = self._behind(call, watch, position)
                for batch in self._starts.events(call, position, watch):
                    position = batch.position
                    # A generation that ends loses its name before its rows: while it has it, no row was missing.
                    self._behind(call, self._watch(call, audience_id, again=False), position)
                    yield self._batch(call, audience_id, batch.events, position, None)
                last = events[-1].seq if events else position.seq
                if events or time.monotonic() >= checkpoint_at:
                    position = Position(position.generation, last)
                    yield self._batch(call, audience_id, events, position, watch.as_of if last == watch.seq else None)
                    checkpoint_at = time.monotonic() + self._checkpoint_seconds
                if last < watch.seq:
                    continue
            if watch.failure:
                self._check(call, audience_id, watch.failure)
            left = call.deadline.remaining()
            ear.wait(_POLL_SECONDS if left is None else min(left, _POLL_SECONDS))

    def _opened(self, call: Call, audience_id: str, resume_token: str) -> Position:
        return Position(*self._sealer.open(resume_token, _binding(call, audience_id), "resume_token"))

    def _batch(
        self, call: Call, audience_id: str, events: Sequence[Event], position: Position, as_of: datetime | None
    ) -> WatchBatch:
        token = self._sealer.seal(_binding(call, audience_id), position.as_list())
        return WatchBatch(events, token, as_of)

    def _watch(self, call: Call, audience_id: str, *, again: bool) -> Watch:
        """The watch as it is; said to be wanted again now and then. Raises TooManyWatches, ServerStopping."""
        if self._stopping:
            raise ServerStopping("the server stops; resume with the last token")
        return self._wanted.want(call, audience_id) if again else self._wanted.get(call, audience_id)

    def _behind(self, call: Call, watch: Watch, position: Position) -> list[Event]:
        """The next events behind a position. Raises WatchTokenExpired where they are not there any more."""
        if watch.generation != position.generation:
            raise expired("the audience had no watch for longer than the retention period")
        if position.seq > watch.seq:
            raise expired("the event log was reset to an earlier event")
        if position.seq == watch.seq:
            return []
        events = self._ledger.read(call.org, position.generation, position.seq, watch.seq, _BATCH, call.deadline)
        if not events:
            raise expired("the next events are older than the retention period")
        return events

    def _check(self, call: Call, audience_id: str, failure: Failure) -> None:
        """Raise what keeps the audience from being tracked, unless it has been put right since."""
        self._audiences.named(call, audience_id)
        if failure.reason == UnsupportedByStore.reason:
            raise UnsupportedByStore(failure.message)
        if failure.reason not in (UnusableAudience.reason, AudienceNotFound.reason):
            metadata = {"id": audience_id, "failure": failure.reason}
            raise UnusableAudience("the audience's saved filter cannot be run", metadata=metadata)


def _binding(call: Call, audience_id: str) -> tuple[str, ...]:
    return ("watch", call.org, audience_id)
