"""The background tasks of a server process: health checks of the database, and sweeps of leftover data."""

import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import structlog

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import AudienceError
from audience_service.domain.targeting.platform_ids import PlatformIds
from audience_service.mongo.store import Store
from audience_service.observability import metrics
from audience_service.observability.tracing import background_span
from audience_service.rpc.server import RpcServer
from audience_service.settings import Settings

_HEALTH_INTERVAL_SECONDS = 3.0
_RECHECK_SECONDS = 1.0
"""The interval after a failed check."""
_JOIN_SECONDS = 2.0
"""How long a stop waits for a check that runs."""
_MIN_HEALTH_FAILURES = 2
"""Failed checks in a row that make the service unhealthy. A single one is a slow answer or a step-down."""

Sweeps = Mapping[str, Callable[[], None]]
"""Sweeps by name, which run one after another in a thread of their own."""

_log = structlog.get_logger()


class BackgroundTasks:
    """Threads: one checks the health of the database, the others run the sweeps.

    All survive every exception. `failure_counts` has the number of exceptions by task, expected ones excepted.
    """

    def __init__(
        self,
        store: Store,
        server: RpcServer,
        settings: Settings,
        sweeps: Sequence[Sweeps],
        platform_ids: PlatformIds,
    ) -> None:
        self._store = store
        self._platform_ids = platform_ids
        self._server = server
        self._datatypes = settings.datatypes, settings.related_datatypes
        self._collections = settings.collections
        self._sweep_interval_seconds = settings.snapshot_lease_seconds
        self.failure_counts: Counter[str] = Counter()
        self._healthy: bool | None = None
        self._failed_checks = 0
        self._stop_event = threading.Event()
        self._health_thread = threading.Thread(target=self._health_loop, name="health", daemon=True)
        self._sweep_threads = [
            threading.Thread(target=self._sweep_loop, args=(group,), name="sweeper", daemon=True) for group in sweeps
        ]

    def start(self) -> None:
        """Start the threads. Call this after the start of the server."""
        for thread in (self._health_thread, *self._sweep_threads):
            thread.start()

    def stop(self) -> None:
        """Request the end of the threads."""
        self._stop_event.set()

    def join(self) -> None:
        """Wait until the health thread has ended, or for two seconds."""
        self._health_thread.join(_JOIN_SECONDS)

    def _health_loop(self) -> None:
        while not self._stop_event.is_set():
            with self._surviving("health check"):
                self._check_health()
            self._stop_event.wait(_RECHECK_SECONDS if self._failed_checks else _HEALTH_INTERVAL_SECONDS)

    def _check_health(self) -> None:
        """Set the health to the state of the database: to healthy at once, to unhealthy after failures in a row."""
        problem = self._find_problem()
        metrics.DATABASE_REACHABLE.set(not problem)
        if self._stop_event.is_set():
            return
        self._failed_checks = self._failed_checks + 1 if problem else 0
        if not problem and not self._healthy:
            _log.info("database reachability changed", reachable=True)
            self._healthy = self._is_isolated()
            self._server.set_healthy(healthy=self._healthy)
            if self._healthy:
                self._log_missing_indexes()
        elif self._failed_checks >= _MIN_HEALTH_FAILURES and self._healthy is not False:
            _log.warning("database reachability changed", reachable=False, reason=problem)
            self._healthy = False
            self._server.set_healthy(healthy=False)
        if not problem:
            self._refresh_platform_ids()

    def _find_problem(self) -> str:
        """Return why the database cannot serve calls; empty if it can. A defect of the check counts as a problem."""
        try:
            return self._store.find_outage()
        except Exception as error:
            self._record("health check", error)
            return type(error).__name__

    @contextlib.contextmanager
    def _surviving(self, task: str) -> Iterator[None]:
        """Count and log any exception of the body. An AudienceError is expected: the next round tries again."""
        try:
            yield
        except AudienceError:
            pass
        except Exception as error:
            self._record(task, error)

    def _record(self, task: str, error: Exception) -> None:
        self.failure_counts[task] += 1
        if not self._stop_event.is_set():
            _log.error(f"{task} failed", failures=self.failure_counts[task], exc_info=error)

    def _refresh_platform_ids(self) -> None:
        """Load newly imported platform ids. After a failure calls use the previous ids until the next attempt."""
        with self._surviving("loading of platform ids"):
            self._platform_ids.refresh(Deadline.after(_HEALTH_INTERVAL_SECONDS))

    def _is_isolated(self) -> bool:
        """Whether no default collation breaks tenant isolation. If one does, end the process."""
        try:
            unsafe = self._store.collated_collections(self._collections)
        except AudienceError:
            return False  # unreachable again; the check repeats after the interval
        if unsafe:
            _log.critical(
                "collections have a default collation, which could expose an org's records to others",
                collections=unsafe,
            )
            os.kill(os.getpid(), signal.SIGTERM)
        return not unsafe

    def _log_missing_indexes(self) -> None:
        with contextlib.suppress(AudienceError):
            if missing := self._store.missing_indexes(*self._datatypes):
                names = [str(index) for index in missing]
                _log.warning("indexes are missing; run `audience-service indexes`", indexes=names)

    def _sweep_loop(self, sweeps: Sweeps) -> None:
        """Run every sweep now, and then once per interval. A failed sweep does not prevent the others."""
        while True:
            for name, sweep in sweeps.items():
                with self._surviving(f"sweep of {name}"), background_span(f"sweep {name}"):
                    self._sweep(name, sweep)
            if self._stop_event.wait(self._sweep_interval_seconds):
                return

    def _sweep(self, name: str, sweep: Callable[[], None]) -> None:
        """Run a sweep, and log an expected failure: data that should be gone is still there."""
        try:
            sweep()
        except AudienceError as error:
            if not self._stop_event.is_set():
                _log.warning(
                    f"sweep of {name} is incomplete; the next one continues", reason=error.reason, error=str(error)
                )
            raise
