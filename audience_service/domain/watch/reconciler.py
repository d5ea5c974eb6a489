"""Finds the membership changes of a watched audience, and appends them to its event log.

One run of `Reconciler.run` is a reconciliation. Example: the filter of an audience is "score above 5". The log has 7
events, and the members by the member states are b and c. Since the last run, a got score 9, and b got score 2.

    1. pending     read the log after event 7: no other process has appended events
    2. definition  read the filter: it is the one of the previous run
    3. find        compare the members {a, c} with the member states {b, c}: a and b are candidates
    4. evaluate    evaluate a and b by key: a entered, b exited
                   read the filter again: its version is the same, so both results are valid
    5. append      insert event 8 "a entered" and event 9 "b exited"
    6. apply       update the member states to {a, c}, then store seq = 9: watchers receive both events
    7. watermark   store the start of this run: events 1 to 9 include every change up to it

Steps 3 to 5 repeat for each batch of candidates. An incremental run differs in step 3 only: its candidates are the
records that changed, and those that crossed a date of the filter (time_triggers.py).

Several processes may reconcile one audience concurrently. A process may crash, or pause for minutes and continue,
before or after any command. Leases avoid duplicate work, but correctness does not depend on them. It depends on these
invariants, which docs/explanation/watch-consistency.md explains:

I1. The event log has no gaps, and an appended event is never replaced.
I2. The member states include every event up to `seq`, and only events of the log. Watchers receive events up to `seq`.
I3. An event changes the state that the events before it left: for each record, ENTERED and EXITED alternate.
I4. An event was true at some time between the record's previous event and its own insertion.
I5. The next full scan finds every change that a run missed. The watermark covers found changes only.
I6. An epoch starts with complete member states.
I7. The answer for a time up to the watermark never changes.
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
from audience_service.domain.history.model import Cause, Event, Failure, MembershipChange, Watch
from audience_service.domain.watch.definition import ResolvedDefinition, resolve_definition
from audience_service.domain.watch.model import FULL_SCAN, ReconcileResult, ScanScope
from audience_service.domain.watch.notifier import Notifier
from audience_service.domain.watch.repository import EventLogRepository, WatchRepository
from audience_service.domain.watch.time_triggers import (
    SAMPLE_LIMIT,
    at_time,
    change_stream_datatype,
    crossings,
    depends_on_time,
    has_unpredictable_time,
    next_trigger,
)

_RECONCILE_TIMEOUT_SECONDS = 600.0
BATCH_SIZE = 1_000
_MAX_REEVALUATIONS = 10
"""How often a batch is evaluated again after an edit. Evaluation takes milliseconds, so edits rarely come that fast."""
_TRIMS_PER_RETENTION = 100
"""The log is trimmed each time that a hundredth of the retention period has passed."""
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ALPHABET = string.ascii_letters + string.digits


@dataclass(slots=True)
class _Reconciliation:
    """The state of one reconciliation of a watch with an epoch."""

    ctx: RequestContext
    watch: Watch
    """The watch at the start, with all pending events applied."""
    started_at: datetime
    """The time of all events, at which relative dates are evaluated."""
    scope: ScanScope
    members: Population
    """The members by the definition at the start, by which candidates are found."""
    definition: str
    """The digest of the definition by which every candidate was found and evaluated; "" if there were several."""
    latest_definition: ResolvedDefinition
    """The definition that was read last, by which the next batch is evaluated."""
    appended_count: int = 0
    search_seconds: float = 0.0

    @property
    def previous_at(self) -> datetime:
        """When the previous reconciliation evaluated relative dates; a change since then may be due to time."""
        if self.scope.last_result:
            return self.scope.last_result.evaluated_at
        return self.watch.watermark or self.started_at

    @property
    def complete_at(self) -> datetime | None:
        """The time up to which this reconciliation finds every change; None if the change stream reported none."""
        if self.scope.last_result is None:
            return self.started_at
        complete_at = self.scope.changes.complete_at
        if complete_at is None and not self.definition:
            complete_at = self.watch.watermark  # to store that there were several definitions
        return complete_at and min(self.started_at, complete_at)

    def time_search(self, candidates: Iterator[list[str]]) -> Iterator[list[str]]:
        """The same batches; adds the time of waiting for them to `search_seconds`."""
        started = time.monotonic()
        for keys in candidates:
            self.search_seconds += time.monotonic() - started
            yield keys
            started = time.monotonic()
        self.search_seconds += time.monotonic() - started


class Reconciler:
    """Runs reconciliations. Callers run one at a time for each watch, and any number for different watches."""

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
        """The result of one reconciliation, from which the next one continues.

        `watch` is as it was read under the lease, or as the previous reconciliation returned it. A watch without an
        epoch gets one; an expired watch is closed. Stores the error of an audience that cannot be evaluated. Raises
        LeaseLost, StoreUnavailable, OutOfTime.
        """
        ctx = RequestContext(
            Caller("audience-service", watch.org, frozenset()), Deadline.after(_RECONCILE_TIMEOUT_SECONDS)
        )
        for watch_epoch in watch.stale_epochs:
            self._event_log.remove(watch.org, watch_epoch, ctx.deadline)
            self._watches.forget_stale_epoch(watch, lease, watch_epoch, ctx.deadline)
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
        """Start an epoch: record the current members, and make the epoch the watch's only then (I6)."""
        definition = resolve_definition(ctx, self._audiences.at(timestamp), watch.audience_id)
        watch_epoch = "watch-" + "".join(secrets.choice(_ALPHABET) for _ in range(21))
        self._watches.create_epoch(watch, lease, watch_epoch, ctx.deadline)
        self._event_log.record_members(watch.org, watch_epoch, definition.members, ctx.deadline)
        self._watches.start_epoch(watch, lease, watch_epoch, timestamp, definition.definition, ctx.deadline)
        self._events_available.notify((watch.org, watch.audience_id))
        return self._result(ctx, definition.members, timestamp, FULL_SCAN)

    def _reconcile(
        self, ctx: RequestContext, watch: Watch, lease: str, timestamp: datetime, scope: ScanScope
    ) -> ReconcileResult:
        watch = self._apply_pending(ctx, watch)
        if scope.last_result and scope.last_result.last_seq != watch.seq:
            scope = FULL_SCAN  # a slow process may have appended outdated events, whose records change no more (I5)
        # Clocks differ, but times in a log never decrease: a contact that exited by time must not enter again.
        started_at = watch.earliest_event_at(timestamp)
        audiences = self._audiences.at(started_at)
        definition = resolve_definition(ctx, audiences, watch.audience_id)
        if definition.definition != watch.definition:
            scope = FULL_SCAN
        run = _Reconciliation(ctx, watch, started_at, scope, definition.members, definition.definition, definition)
        for keys in run.time_search(self._find_candidates(run)):
            if events := self._evaluate(run, audiences, keys):
                self._event_log.append(watch.org, watch.watch_epoch, events, ctx.deadline)
                run.appended_count += len(events)
        last_seq = watch.seq + run.appended_count
        if run.appended_count:
            watch = self._apply_pending(ctx, watch)
        updated = None
        if complete_at := run.complete_at:
            updated = self._watches.advance_watermark(
                watch, lease, watch.seq, complete_at, run.definition, ctx.deadline
            )
        self._trim_log(ctx, watch, timestamp)
        result = self._result(ctx, definition.members, started_at, scope)
        return replace(result, last_seq=last_seq, search_seconds=run.search_seconds, watch=updated)

    def _find_candidates(self, run: _Reconciliation) -> Generator[list[str], None, None]:
        """Batches of the sks of all records whose membership may have changed, each once."""
        scope, members, org, deadline = run.scope, run.members, run.ctx.org, run.ctx.deadline
        if scope.last_result is None:
            yield from self._event_log.diff(org, run.watch.watch_epoch, members, deadline)
            return
        changed = sorted(scope.changes.keys)
        for start in range(0, len(changed), BATCH_SIZE):
            yield changed[start : start + BATCH_SIZE]
        seen = set(scope.changes.keys)
        crossed = crossings(members, scope.last_result.evaluated_at, run.started_at)
        for population in crossed:
            for keys in self._event_log.find_crossing(org, population, deadline):
                yield [key for key in keys if key not in seen]
                if population is not crossed[-1]:
                    seen.update(keys)

    def _evaluate(self, run: _Reconciliation, audiences: AudienceResolver, keys: Sequence[str]) -> list[Event]:
        """The events of a batch of candidates, by a definition that was valid before and after evaluation (I4).

        Raises LeaseLost if every evaluation meets another edit.
        """
        for _ in range(_MAX_REEVALUATIONS):
            used = run.latest_definition
            if not (events := self._build_events(run, keys)):
                return []
            run.latest_definition = resolve_definition(run.ctx, audiences, run.watch.audience_id)
            if run.latest_definition.definition != run.definition:
                run.definition = ""
            if run.latest_definition.versions == used.versions:
                return events
        raise LeaseLost

    def _build_events(self, run: _Reconciliation, keys: Sequence[str]) -> list[Event]:
        """The events of a batch of candidates by the latest definition, numbered after those appended so far."""
        changes = self._evaluate_at(run, keys, run.latest_definition.members)
        causes = dict.fromkeys(changes, Cause.DATA)
        if run.latest_definition.definition != run.watch.definition:
            causes = dict.fromkeys(changes, Cause.DEFINITION)
        elif changes and depends_on_time(run.latest_definition.members):
            without_time = at_time(run.latest_definition.members, run.previous_at)
            by_data = self._evaluate_at(run, [change.sk for change in changes], without_time)
            causes = {change: Cause.DATA if change in by_data else Cause.TIME for change in changes}
        first = run.watch.seq + run.appended_count + 1
        return [Event(seq, change, causes[change], run.started_at) for seq, change in enumerate(changes, first)]

    def _evaluate_at(
        self, run: _Reconciliation, keys: Sequence[str], population: Population
    ) -> Sequence[MembershipChange]:
        return self._event_log.evaluate(run.ctx.org, run.watch.watch_epoch, population, keys, run.ctx.deadline)

    def _result(
        self, ctx: RequestContext, members: Population, evaluated_at: datetime, scope: ScanScope
    ) -> ReconcileResult:
        trigger = self._next_trigger(ctx, members, evaluated_at, scope)
        return ReconcileResult(evaluated_at, trigger, has_unpredictable_time(members), change_stream_datatype(members))

    def _next_trigger(
        self, ctx: RequestContext, members: Population, evaluated_at: datetime, scope: ScanScope
    ) -> datetime | None:
        """The next time trigger. Only changed records can bring it before a previous trigger that is still ahead."""
        previous = scope.last_result.next_trigger if scope.last_result else None
        if previous and previous <= evaluated_at:
            previous = None
        changed = sorted(scope.changes.keys)
        if previous and not changed:
            return previous
        key_filter: Document = {"sk": {"$in": changed}} if previous else {}

        def find_records(datatype: str, conditions: Sequence[Document], paths: Sequence[str]) -> list[Record]:
            restricted = [{**each, **(key_filter if datatype == members.datatype else {})} for each in conditions]
            return self._event_log.find_dated(ctx.org, datatype, restricted, paths, SAMPLE_LIMIT, ctx.deadline)

        trigger = next_trigger(members, evaluated_at, find_records, ctx.deadline)
        return min(previous, trigger) if previous and trigger else trigger

    def _trim_log(self, ctx: RequestContext, watch: Watch, timestamp: datetime) -> None:
        """Delete events that are older than the retention period, from time to time."""
        before = timestamp - self._retention
        if before - self._trimmed_before.get(watch.watch_epoch, _UNIX_EPOCH) > self._retention / _TRIMS_PER_RETENTION:
            # Stored before the deletion, so that readers never take a trimmed log for a complete one.
            self._watches.set_retained_from(watch, before, ctx.deadline)
            self._event_log.trim(ctx.org, watch.watch_epoch, before, watch.seq, ctx.deadline)
            self._trimmed_before[watch.watch_epoch] = before

    def _apply_pending(self, ctx: RequestContext, watch: Watch) -> Watch:
        """The watch after applying every event beyond its `seq`, of this or any other process (I2)."""
        while events := self._event_log.read(watch.org, watch.watch_epoch, watch.seq, None, BATCH_SIZE, ctx.deadline):
            if late := _find_late(watch, events):
                self._event_log.adjust_timestamps(watch.org, watch.watch_epoch, *late, ctx.deadline)
                continue
            self._event_log.apply(watch.org, watch.watch_epoch, events, ctx.deadline)
            self._watches.advance_seq(watch, events, ctx.deadline)
            watch = replace(watch, seq=events[-1].seq, last_event_at=events[-1].occurred_at)
            self._events_available.notify((watch.org, watch.audience_id))
        return watch


def _find_late(watch: Watch, events: Sequence[Event]) -> tuple[int, datetime] | None:
    """The event before the first late one, and the time to move later events to; None if none is late (I7)."""
    last, earliest = watch.seq, watch.earliest_event_at(_UNIX_EPOCH)
    for event in events:
        if event.occurred_at < earliest:
            return last, earliest
        last, earliest = event.seq, event.occurred_at
    return None
