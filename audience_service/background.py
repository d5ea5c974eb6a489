"""The background tasks of a server process: health checks of the database, and sweeps of leftover data."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Sequence

import structlog

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import AudienceError
from audience_service.domain.targeting.platform_ids import PlatformIds
from audience_service.mongo.store import Store
from audience_service.observability import metrics
from audience_service.rpc.server import RpcServer
from audience_service.settings import Settings

_HEALTH_INTERVAL_SECONDS = 3.0

_log = structlog.get_logger()


class BackgroundTasks:
    """Two threads: one checks the health of the database, one runs the sweeps."""

    def __init__(
        self,
        store: Store,
        server: RpcServer,
        settings: Settings,
        sweeps: Sequence[Callable[[], None]],
        platform_ids: PlatformIds,
    ) -> None:
        self._store = store
        self._platform_ids = platform_ids
        self._server = server
        self._datatypes = settings.datatypes, settings.related_datatypes
        self._collections = settings.collections
        self._sweeps = sweeps
        self._sweep_interval_seconds = settings.snapshot_lease_seconds
        self._stop_event = threading.Event()
        self._health_thread = threading.Thread(target=self._health_loop, name="health", daemon=True)
        self._sweep_thread = threading.Thread(target=self._sweep_loop, name="sweeper", daemon=True)

    def start(self) -> None:
        """Start both threads. Call this after the start of the server."""
        self._health_thread.start()
        self._sweep_thread.start()

    def stop(self) -> None:
        """Request the end of both threads."""
        self._stop_event.set()

    def join(self) -> None:
        """Wait until the health thread has ended, after which the server can stop."""
        self._health_thread.join()

    def _health_loop(self) -> None:
        healthy, outage = None, ""
        while not self._stop_event.is_set():
            was_healthy, last_outage = healthy, outage
            try:
                outage = self._store.find_outage()
                healthy = self._check(was_healthy) if not outage else False
            except Exception as error:  # a privilege that is missing, for example; the check repeats after the interval
                healthy, outage = False, f"the health check failed: {error}"
            metrics.DATABASE_REACHABLE.set(not outage)
            if not self._stop_event.is_set():
                if outage and outage != last_outage:
                    _log.warning("database unreachable", reason=outage)
                if healthy != was_healthy:
                    self._server.set_healthy(healthy=healthy)
            self._server.cancel_idle_streams()
            self._stop_event.wait(_HEALTH_INTERVAL_SECONDS)

    def _check(self, was_healthy: bool | None) -> bool:
        """Whether the process may serve, with a database that answers."""
        self._refresh_platform_ids()
        if was_healthy:
            return True
        healthy = self._is_isolated()
        if healthy and not self._stop_event.is_set():
            _log.info("database reachable")
            self._log_missing_indexes()
        return healthy

    def _refresh_platform_ids(self) -> None:
        """Load newly imported platform ids. After a failure calls use the previous ids until the next attempt."""
        try:
            self._platform_ids.refresh(Deadline.after(_HEALTH_INTERVAL_SECONDS))
        except AudienceError:
            pass
        except Exception as error:
            _log.error("loading the imported ids of ad platforms failed", exc_info=error)

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

    def _sweep_loop(self) -> None:
        """Run every sweep now, and then once per interval. A failed sweep does not prevent the others."""
        while True:
            for sweep in self._sweeps:
                try:
                    sweep()
                except AudienceError:
                    pass  # the next sweep repeats it
                except Exception as error:
                    if not self._stop_event.is_set():
                        _log.error("sweep failed", exc_info=error)
            if self._stop_event.wait(self._sweep_interval_seconds):
                return
