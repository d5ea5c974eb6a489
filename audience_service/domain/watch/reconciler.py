"""The rounds in which a watched audience is tracked, by however many processes at once.

A round finds who is in and was not recorded as in, or the reverse, appends an event for each to the ledger, applies the
events to the record of who is in, and notes how far it came. Leases keep two processes from doing the same work; that
they do is never relied on. A process may die, or sleep for minutes and go on, before and after any command.

Why nothing is lost, doubled or invented:

1.  *The ledger has no gaps, and what stands in it stays.* Event n is inserted under a key made of the generation and
    n, which is unique, and only by somebody who has seen event n - 1 there or has just inserted it.
2.  *The record never knows more than the ledger, nor less than `seq` says.* Events are applied after they were
    inserted, each over an older one's work only, so that repeating, delaying or reordering it changes nothing. `seq` is
    set to n when all events up to n have been applied, and only grows. Nobody is told of an event beyond it.
3.  *Whoever appends knows the state that the event changes.* A round reads `seq`, and applies what the ledger has
    beyond it, up to n, before it reads the record. What it then reads is the state after event n, or else a later event
    has been applied, which by 2 is in the ledger, where event n + 1 is thus taken and the round cannot append anything.
    It appends n + 1, n + 2, ... and stops at the first number that is taken; up to there all events since n are its
    own, each of another record. So when an event is inserted the ledger says of its record what the round has read:
    every event is a flip, and none is there twice.
4.  *Events are true.* At a moment between the record's event before it and its insertion the database has judged the
    record, by its key, to be what the event says; by dates as of when the round began, and by the definition of that
    moment, which is read before and behind: where it is another one behind, the record is judged anew, by that. So a
    round ends however often the audience is edited meanwhile. A flip that was undone between two rounds was never seen.
5.  *Nothing is missed for good.* A flip that a round did not get to append, or that a record written during the round
    hid from it, is a difference still, and the next round that looks at everything finds it. A round that ends well
    says as of when nothing is missing: since it began, or as long as nothing has changed but what it was told of; and
    by which definition it has looked and judged.
    One that is told of changes goes on from a look at everything, before which they began to be gathered, and takes
    what was gathered before it judges; time it follows by the dates that it passes (clockwork.py). It looks at
    everything instead where more may have moved somebody: after a round that failed or changes that cannot be told
    (held.py); where the definition is another one by now, or was several in the round before, which then hold for some
    records each; and where it finds events of others behind those of the round before, since a process that stood still
    may have appended what is true no more, of records of which no change will tell.
6.  *A generation begins whole.* The members at its beginning are recorded under a generation that nobody knows, which
    becomes the watch's when that is done, by whoever still holds the lease then. What a process that died or lost the
    lease has recorded is never looked at.
7.  *What is answered for a moment stays.* An answer is of the events up to `seq` that happened by a moment not behind
    `as_of`, both read at once. Both are in one document, where `as_of` is set with `seq` as it is, and `seq` only while
    `as_of` is before the first event that it comes to. So whatever `seq` comes to later happens behind `as_of`. An
    event that was found before and appended after, by a process that had stood still, would not: whoever settles it
    lets it happen a millisecond behind `as_of` as it was when `seq` was before the event, and no sooner than the event
    in front of it. That may be done late or again: once `seq` has come to the event, all of this is so, and nothing is
    changed. So times do not fall either.

It rests on the database keeping what a majority has acknowledged, on commands going to the primary, and on no command
arriving after a generation's events have been kept for their time.
"""

import secrets
import string
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.core.errors import AudienceError, OutOfTime, StoreUnavailable
from audience_service.domain.core.lease import LeaseLost
from audience_service.domain.core.record import Record
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.population import Population
from audience_service.domain.history.model import Cause, Event, Failure, Watch
from audience_service.domain.watch.definition import ResolvedDefinition, resolve_definition
from audience_service.domain.watch.model import FULL_SCAN, ReconcileResult, ScanScope
from audience_service.domain.watch.notifier import Notifier
from audience_service.domain.watch.repository import EventLogRepository, WatchRepository
from audience_service.domain.watch.time_triggers import (
    SAMPLE_LIMIT,
    at_time,
    change_stream_datatype,
    crossing_ranges,
    depends_on_time,
    has_unpredictable_time,
    next_trigger,
)

_RECONCILE_TIMEOUT_SECONDS = 600.0
BATCH_SIZE = 1_000
_MAX_REEVALUATIONS = 10
"""How often candidates are judged while the definition changes each time: judging takes milliseconds, an edit more."""
_TRIMS_PER_RETENTION = 100
"""Events go in a hundredth of the time that they are kept for."""
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ALPHABET = string.ascii_letters + string.digits


@dataclass(slots=True)
class _Reconciliation:
    """A round in progress: how many events it has appended; causes are told by dates as of `since`.

    `latest` is the definition as it was read last, `defined` that by which candidates are looked for. `strayed` is
    whether any were judged by another one.
    """

    ctx: RequestContext
    watch: Watch
    started_at: datetime
    initial_definition: ResolvedDefinition
    latest_definition: ResolvedDefinition
    previous_at: datetime
    appended_count: int = 0
    search_seconds: float = 0.0
    definition_changed: bool = False

    @property
    def definition(self) -> str:
        """The definition by which all candidates were looked for and judged; "" where there were several."""
        return "" if self.definition_changed else self.initial_definition.definition

    def time_search(self, candidates: Iterator[list[str]]) -> Iterator[list[str]]:
        """The same, and how long one waits for them."""
        started = time.monotonic()
        for keys in candidates:
            self.search_seconds += time.monotonic() - started
            yield keys
            started = time.monotonic()
        self.search_seconds += time.monotonic() - started


class Reconciler:
    """Runs rounds, one at a time for each watch."""

    def __init__(
        self,
        watches: WatchRepository,
        event_log: EventLogRepository,
        audiences: AudienceResolver,
        events_available: Notifier,
        retention: timedelta,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._watches = watches
        self._event_log = event_log
        self._audiences = audiences
        self._events_available = events_available
        self._retention = retention
        self._clock = clock
        self._trimmed_before: dict[str, datetime] = {}

    def run(self, watch: Watch, lease: str, scope: ScanScope = FULL_SCAN) -> ReconcileResult:
        """One round of a watch as it was read under the lease, or as the last round has left it.

        Raises Overtaken, and what storage raises.
        """
        ctx = RequestContext(
            Caller("audience-service", watch.org, frozenset()), Deadline.after(_RECONCILE_TIMEOUT_SECONDS)
        )
        for watch_epoch in watch.stale_epochs:
            self._event_log.remove(watch.org, watch_epoch, ctx.deadline)
            self._watches.epoch_deleted(watch, lease, watch_epoch, ctx.deadline)
        timestamp = self._clock()
        if watch.expires_at <= timestamp:
            self._watches.close_epoch(watch, lease, timestamp, ctx.deadline)
            return ReconcileResult(timestamp)
        try:
            if watch.watch_epoch:
                return self._reconcile(ctx, watch, lease, timestamp, scope)
            return self._bootstrap(ctx, watch, lease, timestamp)
        except (StoreUnavailable, OutOfTime):
            raise
        except AudienceError as error:
            self._watches.fail(watch, lease, Failure(error.reason, str(error)), ctx.deadline)
            self._events_available.notify((watch.org, watch.audience_id))
            return ReconcileResult(timestamp)

    def _bootstrap(self, ctx: RequestContext, watch: Watch, lease: str, timestamp: datetime) -> ReconcileResult:
        definition = resolve_definition(ctx, self._audiences.at(timestamp), watch.audience_id)
        watch_epoch = "watch-" + "".join(secrets.choice(_ALPHABET) for _ in range(21))
        self._watches.create_epoch(watch, lease, watch_epoch, ctx.deadline)
        self._event_log.record_members(watch.org, watch_epoch, definition.members, ctx.deadline)
        self._watches.start_epoch(watch, lease, watch_epoch, timestamp, definition.definition, ctx.deadline)
        self._events_available.notify((watch.org, watch.audience_id))
        return self._result(ctx, definition.members, timestamp)

    def _reconcile(
        self, ctx: RequestContext, watch: Watch, lease: str, timestamp: datetime, scope: ScanScope
    ) -> ReconcileResult:
        watch = self._apply_pending(ctx, watch)
        if scope.last_result and scope.last_result.last_seq != watch.seq:
            scope = FULL_SCAN  # others' events may be of records that no change tells of any more
        # Time never goes back in a ledger, though clocks differ: contacts would enter again whom time has made exit.
        started_at = watch.earliest_event_at(timestamp)
        audiences = self._audiences.at(started_at)
        definition = resolve_definition(ctx, audiences, watch.audience_id)
        if definition.definition != watch.definition:
            scope = FULL_SCAN
        reconciliation = _Reconciliation(
            ctx,
            watch,
            started_at,
            definition,
            definition,
            scope.last_result.evaluated_at if scope.last_result else watch.watermark or started_at,
        )
        for keys in reconciliation.time_search(self._find_candidates(reconciliation, scope)):
            if events := self._evaluate(reconciliation, audiences, keys):
                self._event_log.append(watch.org, watch.watch_epoch, events, ctx.deadline)
                reconciliation.appended_count += len(events)
        last_seq = watch.seq + reconciliation.appended_count
        if reconciliation.appended_count:
            watch = self._apply_pending(ctx, watch)
        updated, complete_at = None, started_at if scope.last_result is None else scope.changes.complete_at
        if reconciliation.definition_changed:
            complete_at = complete_at or watch.watermark  # nothing new, but that there were several definitions
        if complete_at:
            watermark = min(started_at, complete_at)
            updated = self._watches.advance_watermark(
                watch, lease, watch.seq, watermark, reconciliation.definition, ctx.deadline
            )
        self._trim_log(ctx, watch, timestamp)
        result = self._result(ctx, definition.members, started_at, scope)
        return replace(result, last_seq=last_seq, search_seconds=reconciliation.search_seconds, watch=updated)

    def _find_candidates(self, reconciliation: _Reconciliation, scope: ScanScope) -> Generator[list[str], None, None]:
        """The sks of those who may have entered or exited, each once."""
        ctx, members = reconciliation.ctx, reconciliation.initial_definition.members
        if scope.last_result is None:
            yield from self._event_log.diff(ctx.org, reconciliation.watch.watch_epoch, members, ctx.deadline)
            return
        changed = sorted(scope.changes.keys)
        for start in range(0, len(changed), BATCH_SIZE):
            yield changed[start : start + BATCH_SIZE]
        if crossed := crossing_ranges(members, scope.last_result.evaluated_at, reconciliation.started_at):
            for keys in self._event_log.find_crossing(ctx.org, members.datatype, crossed, ctx.deadline):
                yield [key for key in keys if key not in scope.changes.keys]

    def _evaluate(
        self, reconciliation: _Reconciliation, audiences: AudienceResolver, keys: Sequence[str]
    ) -> list[Event]:
        """The events of those of the candidates who have entered or exited, by what defined the audience all the while.

        Raises Overtaken where it is edited without a pause.
        """
        for _ in range(_MAX_REEVALUATIONS):
            previous = reconciliation.latest_definition
            if not (events := self._build_events(reconciliation, keys)):
                return []
            reconciliation.latest_definition = resolve_definition(
                reconciliation.ctx, audiences, reconciliation.watch.audience_id
            )
            reconciliation.definition_changed |= (
                reconciliation.latest_definition.definition != reconciliation.initial_definition.definition
            )
            if reconciliation.latest_definition.versions == previous.versions:
                return events
        raise LeaseLost

    def _build_events(self, reconciliation: _Reconciliation, keys: Sequence[str]) -> list[Event]:
        """The events of those of the candidates who have entered or exited by the latest definition."""
        org, watch_epoch, deadline = (
            reconciliation.ctx.org,
            reconciliation.watch.watch_epoch,
            reconciliation.ctx.deadline,
        )
        members, last = (
            reconciliation.latest_definition.members,
            reconciliation.watch.seq + reconciliation.appended_count,
        )
        changes = self._event_log.evaluate(org, watch_epoch, members, keys, deadline)
        causes = dict.fromkeys(changes, Cause.DATA)
        if reconciliation.latest_definition.definition != reconciliation.watch.definition:
            causes = dict.fromkeys(changes, Cause.DEFINITION)
        elif changes and depends_on_time(members):
            changed_keys = [flip.sk for flip in changes]
            without_time = self._event_log.evaluate(
                org, watch_epoch, at_time(members, reconciliation.previous_at), changed_keys, deadline
            )
            causes = {flip: Cause.DATA if flip in without_time else Cause.TIME for flip in changes}
        return [
            Event(last + n, change, causes[change], reconciliation.started_at) for n, change in enumerate(changes, 1)
        ]

    def _result(
        self, ctx: RequestContext, members: Population, evaluated_at: datetime, scope: ScanScope = FULL_SCAN
    ) -> ReconcileResult:
        """What comes next. Until the moment has come that was foreseen, only what changed can bring an earlier one."""
        expected = scope.last_result.next_trigger if scope.last_result else None
        key_filter: Document = {}
        if expected and expected > evaluated_at:
            key_filter = {"sk": {"$in": sorted(scope.changes.keys)}}

        def find_records(conditions: Sequence[Document], paths: Sequence[str]) -> list[Record]:
            restricted = [{**condition, **key_filter} for condition in conditions]
            return self._event_log.find_dated(ctx.org, members.datatype, restricted, paths, SAMPLE_LIMIT, ctx.deadline)

        trigger = (
            expected
            if key_filter and not scope.changes.keys
            else next_trigger(members, evaluated_at, find_records, ctx.deadline)
        )
        if key_filter and expected and trigger:
            trigger = min(expected, trigger)
        return ReconcileResult(evaluated_at, trigger, has_unpredictable_time(members), change_stream_datatype(members))

    def _trim_log(self, ctx: RequestContext, watch: Watch, timestamp: datetime) -> None:
        """Remove, now and then, the events that have been kept for their time."""
        before = timestamp - self._retention
        if before - self._trimmed_before.get(watch.watch_epoch, _UNIX_EPOCH) > self._retention / _TRIMS_PER_RETENTION:
            self._watches.set_retained_from(
                watch, before, ctx.deadline
            )  # first, so that nobody takes what is left for all
            self._event_log.trim(ctx.org, watch.watch_epoch, before, watch.seq, ctx.deadline)
            self._trimmed_before[watch.watch_epoch] = before

    def _apply_pending(self, ctx: RequestContext, watch: Watch) -> Watch:
        """Apply what the ledger has beyond the watch's last event, whoever appended it; answers with how far it is."""
        while events := self._event_log.read(watch.org, watch.watch_epoch, watch.seq, None, BATCH_SIZE, ctx.deadline):
            if late := _find_late(watch, events):
                self._event_log.adjust_timestamps(watch.org, watch.watch_epoch, *late, ctx.deadline)
                continue
            self._event_log.apply(watch.org, watch.watch_epoch, events, ctx.deadline)
            self._watches.advance_seq(watch, events, ctx.deadline)
            watch = replace(watch, seq=events[-1].seq, last_event_at=events[-1].at)
            self._events_available.notify((watch.org, watch.audience_id))
        return watch


def _find_late(watch: Watch, events: Sequence[Event]) -> tuple[int, datetime] | None:
    """The number behind which events are to be postponed, and until when; None where all happen in time."""
    last, earliest = watch.seq, watch.earliest_event_at(_UNIX_EPOCH)
    for event in events:
        if event.at < earliest:
            return last, earliest
        last, earliest = event.seq, event.at
    return None
