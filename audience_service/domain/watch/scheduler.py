"""The scheduler of a process: it leases watches, and runs their reconciliations when they are due."""

import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import AudienceError
from audience_service.domain.core.lease import LeaseLost
from audience_service.domain.watch.model import ScanScope
from audience_service.domain.watch.reconciler import Reconciler
from audience_service.domain.watch.repository import ChangeStream, WatchRepository
from audience_service.domain.watch.schedule import PollingConfig, ScheduledWatch
from audience_service.observability import metrics
from audience_service.observability.tracing import background_span

_RENEWALS_PER_LEASE = 3
"""Leases are renewed each time that a third of the lease duration has passed."""
_ACQUIRE_INTERVAL_SECONDS = 1.0
_CALL_TIMEOUT_SECONDS = 10.0

_log = structlog.get_logger()


class WatchScheduler:
    """Runs reconciliations. Any number of threads may call `step`; each runs a different watch."""

    def __init__(
        self,
        watches: WatchRepository,
        reconciler: Reconciler,
        change_stream: ChangeStream,
        config: PollingConfig,
        clock: Callable[[], datetime] = now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watches = watches
        self._reconciler = reconciler
        self._change_stream = change_stream
        self._clock = clock
        self._monotonic = monotonic
        self._config = config
        self._scheduled: list[ScheduledWatch] = []
        self._lock = threading.Lock()
        self._acquire_at = 0.0

    def step(self) -> float:
        """Run the reconciliation that is due for longest, if any. Returns the seconds until the next may be due."""
        self._acquire()
        found = self._next()
        if found is None:
            return self._idle_seconds()
        watch, scope = found
        started = self._monotonic()
        try:
            self._run(watch, scope)
        finally:
            finished = self._monotonic()
            outcome = "ok" if watch.last_result else "failed"
            metrics.RECONCILE_SECONDS.labels(outcome).observe(finished - started)
            with self._lock:
                watch.record_finish(scope, started, finished, self._config)
        return self._idle_seconds()

    def wake(self) -> None:
        """Let the next `step` try to lease a new watch without waiting for the acquire interval."""
        self._acquire_at = 0.0

    @property
    def renew_interval_seconds(self) -> float:
        """How often to call `renew_leases`."""
        return self._config.lease_seconds / _RENEWALS_PER_LEASE

    def renew_leases(self) -> None:
        """Extend all leases. A reconciliation, and the pause between two, may take longer than a lease lasts."""
        with self._lock:
            monotonic, timestamp = self._monotonic(), self._clock()
            metrics.WATCH_LAG_SECONDS.set(
                max((each.lag_seconds(monotonic, timestamp) for each in self._scheduled), default=0.0)
            )
            leases = [(each.org, each.audience_id, each.lease) for each in self._scheduled]
        if leases:
            self._watches.renew_all(leases, self._lease_end(), Deadline.after(_CALL_TIMEOUT_SECONDS))

    def release(self) -> None:
        """Release all watches, so other processes can acquire them immediately. Call it after the last `step`."""
        while self._scheduled:
            watch = self._scheduled.pop()
            _count_lease("released")
            watch.unsubscribe()
            self._watches.release(watch.org, watch.audience_id, watch.lease, Deadline.after(_CALL_TIMEOUT_SECONDS))

    def _acquire(self) -> None:
        """Lease one watch per call, so that processes that start at the same time share the watches."""
        with self._lock:
            if self._monotonic() < self._acquire_at:
                return
            self._acquire_at = self._monotonic() + _ACQUIRE_INTERVAL_SECONDS
        lease = uuid.uuid4().hex
        found = self._watches.acquire(lease, self._clock(), self._lease_end(), Deadline.after(_CALL_TIMEOUT_SECONDS))
        if found:
            with self._lock:
                self._scheduled.append(ScheduledWatch(*found, lease, acquired_at=self._monotonic()))
                self._acquire_at = 0.0
            _count_lease("acquired")

    def _next(self) -> tuple[ScheduledWatch, ScanScope] | None:
        with self._lock:
            free = [watch for watch in self._scheduled if not watch.running]
            if not free:
                return None
            monotonic, timestamp = self._monotonic(), self._clock()
            chosen = min(free, key=lambda watch: watch.seconds_until_due(monotonic, timestamp))
            if chosen.seconds_until_due(monotonic, timestamp) > 0:
                return None
            chosen.overdue_since = monotonic - chosen.lag_seconds(monotonic, timestamp)
            chosen.running = True
            return chosen, chosen.next_scope(monotonic)

    def _idle_seconds(self) -> float:
        with self._lock:
            monotonic, timestamp = self._monotonic(), self._clock()
            pauses = [watch.seconds_until_due(monotonic, timestamp) for watch in self._scheduled if not watch.running]
            return max(min([self._acquire_at - monotonic, *pauses]), 0.0)

    def _run(self, scheduled: ScheduledWatch, scope: ScanScope) -> None:
        watch, scheduled.last_result = scheduled.last_result and scheduled.last_result.watch, None
        try:
            # The watch of the last run may be outdated. Writes match the lease or an event number, and then fail.
            watch = watch or self._watches.renew(
                scheduled.org,
                scheduled.audience_id,
                scheduled.lease,
                self._lease_end(),
                Deadline.after(_CALL_TIMEOUT_SECONDS),
            )
            if watch is None:
                self._drop(scheduled)
                return
            with background_span("reconcile audience", org=scheduled.org, audience=scheduled.audience_id):
                scheduled.last_result = self._reconciler.run(watch, scheduled.lease, scope)
            scheduled.update_subscription(self._change_stream)
        except LeaseLost:
            _log.info("lease lost", org=scheduled.org, audience=scheduled.audience_id)
        except AudienceError as error:
            _log.warning(
                "reconciliation failed", org=scheduled.org, audience=scheduled.audience_id, reason=error.reason
            )
        except Exception as error:  # a defect, which must not stop other audiences
            _log.error("reconciliation failed", org=scheduled.org, audience=scheduled.audience_id, exc_info=error)

    def _lease_end(self) -> datetime:
        return self._clock() + timedelta(seconds=self._config.lease_seconds)

    def _drop(self, watch: ScheduledWatch) -> None:
        watch.unsubscribe()
        with self._lock:
            if watch in self._scheduled:  # `release` may have removed it
                self._scheduled.remove(watch)
                _count_lease("lost")


def _count_lease(change: str) -> None:
    metrics.WATCH_LEASES.labels(change).inc()
    metrics.WATCHES_LEASED.inc(1 if change == "acquired" else -1)
