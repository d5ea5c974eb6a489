"""Watch streams: the events of an audience, each once and in order, from a resume token on."""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import datetime

from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import AudienceNotFound, UnsupportedByStore, UnusableAudience
from audience_service.domain.core.page_tokens import Shape, TokenCodec
from audience_service.domain.history.model import Event, Failure, Watch
from audience_service.domain.watch.errors import ServerStopping
from audience_service.domain.watch.notifier import Notifier, Waiter
from audience_service.domain.watch.registry import WatchRegistry
from audience_service.domain.watch.repository import EventLogRepository
from audience_service.domain.watch.snapshot_start import SnapshotBootstrap, StreamPosition, token_expired
from audience_service.domain.watch.watch_states import WatchStates

BATCH_SIZE = 1_000
_POLL_INTERVAL_SECONDS = 0.25
"""How often a stream looks for events of other processes. This process notifies its own streams."""


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """Events in order, and the token that continues after them. Without events it is a heartbeat."""

    events: Sequence[Event]
    resume_token: str
    watermark: datetime | None
    """The stream has sent every change up to this time; None while more events are pending."""


class WatchStreams:
    """Serves watch streams.

    Each sends a batch at least every `heartbeat_seconds`, and touches its watch as often. `events_available` has one
    topic per audience, the pair of org and audience id.
    """

    def __init__(
        self,
        registry: WatchRegistry,
        event_log: EventLogRepository,
        bootstrap: SnapshotBootstrap,
        audiences: AudienceResolver,
        tokens: TokenCodec,
        heartbeat_seconds: float,
        events_available: Notifier,
    ) -> None:
        self._registry = registry
        self._event_log = event_log
        self._bootstrap = bootstrap
        self._audiences = audiences
        self._tokens = tokens
        self._heartbeat_seconds = heartbeat_seconds
        self._events_available = events_available
        self._states = WatchStates(registry.states, events_available.topics)
        self._stopping = False

    def stop(self) -> None:
        """End all streams, and refuse new ones, with ServerStopping. Takes up to a poll interval."""
        self._stopping = True

    def watch(
        self,
        ctx: RequestContext,
        audience_id: str,
        resume_token: str,
        snapshot_id: str = "",
    ) -> Generator[WatchBatch, None, None]:
        """The events after the token, since the snapshot, or from now on.

        The stream ends when the caller cancels, or with an error. Raises AudienceNotFound, UnusableAudience,
        UnsupportedByStore, InvalidArgument, SnapshotNotFound, SnapshotNotReady, InvalidPageToken, UnknownSealingKey,
        WatchTokenExpired, TooManyWatches; StoreUnavailable, ServerStopping, OutOfTime.
        """
        audience = self._audiences.resolve_id(ctx, audience_id)
        self._bootstrap.check(ctx, audience.population.datatype, snapshot_id, resume_token)
        position = self._open(ctx, audience_id, resume_token) if resume_token else None
        with self._events_available.subscribe((ctx.org, audience_id)) as waiter:
            yield from self._stream(ctx, audience_id, position, snapshot_id, waiter)

    def _stream(
        self, ctx: RequestContext, audience_id: str, position: StreamPosition | None, snapshot_id: str, waiter: Waiter
    ) -> Generator[WatchBatch, None, None]:
        heartbeat_at, touch_at = 0.0, 0.0
        while not ctx.deadline.is_cancelled:
            is_touch_due = time.monotonic() >= touch_at
            watch = self._watch(ctx, audience_id, touch=is_touch_due)
            touch_at = time.monotonic() + self._heartbeat_seconds if is_touch_due else touch_at
            if position is None and watch.watch_epoch:
                position = StreamPosition(watch.watch_epoch, watch.seq, snapshot_id)
            if position is not None:
                events = self._read_after(ctx, watch, position)
                for batch in self._bootstrap.events(ctx, position, watch):
                    position = batch.position
                    # An epoch loses its name before its rows: while it has the name, the batch is complete.
                    self._read_after(ctx, self._watch(ctx, audience_id, touch=False), position)
                    yield self._batch(ctx, audience_id, batch.events, position, None)
                last = events[-1].seq if events else position.seq
                if events or time.monotonic() >= heartbeat_at:
                    position = StreamPosition(position.watch_epoch, last)
                    yield self._batch(
                        ctx, audience_id, events, position, watch.watermark if last == watch.seq else None
                    )
                    heartbeat_at = time.monotonic() + self._heartbeat_seconds
                if last < watch.seq:
                    continue
            if watch.failure:
                self._check(ctx, audience_id, watch.failure)
            self._wait(ctx, watch, waiter, touch_at if position is None else min(heartbeat_at, touch_at))

    def _wait(self, ctx: RequestContext, watch: Watch, waiter: Waiter, until: float) -> None:
        """Wait until the watch may have changed, the call is cancelled, or a time on the monotonic clock has come.

        Raises StoreUnavailable, OutOfTime.
        """
        while (seconds := until - time.monotonic()) > 0:
            remaining = ctx.deadline.remaining()
            is_notified = waiter.wait(min(seconds, _POLL_INTERVAL_SECONDS, seconds if remaining is None else remaining))
            if is_notified or ctx.deadline.is_cancelled or self._stopping:
                return
            if self._states.get((watch.org, watch.audience_id), ctx.deadline) != watch.state:
                return

    def _open(self, ctx: RequestContext, audience_id: str, resume_token: str) -> StreamPosition:
        shapes: tuple[Shape, ...] = ((str, int), (str, int, str, str))
        return StreamPosition(*self._tokens.decode(resume_token, _binding(ctx, audience_id), "resume_token", *shapes))

    def _batch(
        self,
        ctx: RequestContext,
        audience_id: str,
        events: Sequence[Event],
        position: StreamPosition,
        watermark: datetime | None,
    ) -> WatchBatch:
        """The batch of a position, without the events of erased people, which have no id any more."""
        token = self._tokens.encode(_binding(ctx, audience_id), position.as_list())
        return WatchBatch([event for event in events if event.change.pk], token, watermark)

    def _watch(self, ctx: RequestContext, audience_id: str, *, touch: bool) -> Watch:
        """The current watch, with its expiry renewed if `touch`. Raises TooManyWatches, ServerStopping."""
        if self._stopping:
            raise ServerStopping("the server stops; watch again with the last resume token")
        return self._registry.touch(ctx, audience_id) if touch else self._registry.get(ctx, audience_id)

    def _read_after(self, ctx: RequestContext, watch: Watch, position: StreamPosition) -> list[Event]:
        """The next events after a position. Raises WatchTokenExpired if they were deleted."""
        if watch.watch_epoch != position.watch_epoch:
            raise token_expired("the audience had no watch for longer than the retention period")
        if position.seq > watch.seq:
            raise token_expired("the event log was reset to an earlier event")
        if position.seq == watch.seq:
            return []
        events = self._event_log.read(ctx.org, position.watch_epoch, position.seq, watch.seq, BATCH_SIZE, ctx.deadline)
        if not events:
            raise token_expired("the next events are older than the retention period")
        return events

    def _check(self, ctx: RequestContext, audience_id: str, failure: Failure) -> None:
        """Raise the failure of the audience, unless an edit has corrected it."""
        self._audiences.resolve_id(ctx, audience_id)
        if failure.reason == UnsupportedByStore.reason:
            raise UnsupportedByStore(failure.message)
        if failure.reason not in (UnusableAudience.reason, AudienceNotFound.reason):
            metadata = {"id": audience_id, "failure": failure.reason}
            raise UnusableAudience("the audience's filter cannot be run; edit the audience", metadata=metadata)


def _binding(ctx: RequestContext, audience_id: str) -> tuple[str, ...]:
    return ("watch", ctx.org, audience_id)
