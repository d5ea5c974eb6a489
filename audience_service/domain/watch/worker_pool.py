"""The threads of a process that reconcile watched audiences."""

import threading
from typing import Any

import structlog

from audience_service.domain.core.errors import AudienceError
from audience_service.domain.watch.notifier import Notifier
from audience_service.domain.watch.scheduler import WatchScheduler

_THREADS = 2
"""Worker threads. During a slow reconciliation the other thread serves the other audiences."""
_RETRY_SECONDS = 1.0
_STOP_TIMEOUT_SECONDS = 5.0

_log = structlog.get_logger()


class WorkerPool:
    """Threads that call the scheduler when a scan is due or `work_available` notifies; one more renews the leases."""

    def __init__(self, scheduler: WatchScheduler, work_available: Notifier) -> None:
        self._scheduler = scheduler
        self._work_available = work_available
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._work_loop, name=f"watch-worker-{number}", daemon=True)
            for number in range(_THREADS)
        ]
        self._threads.append(threading.Thread(target=self._lease_loop, name="watch-leases", daemon=True))

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Reconcile a new watch without delay."""
        self._scheduler.wake()
        self._work_available.notify()

    def stop(self) -> None:
        """Stop the threads and release the watches. A reconciliation that takes longer than 5 s is abandoned."""
        self._stopping.set()
        self._work_available.notify()
        for thread in self._threads:
            thread.join(_STOP_TIMEOUT_SECONDS)
        try:
            self._scheduler.release()
        except AudienceError as error:
            _log.warning("releasing the watch leases failed", reason=error.reason)

    def _lease_loop(self) -> None:
        while not self._stopping.wait(self._scheduler.renew_interval_seconds):
            try:
                self._scheduler.renew_leases()
            except Exception as error:
                _log.warning("renewing the watch leases failed", **_log_fields(error))

    def _work_loop(self) -> None:
        failing = False
        with self._work_available.subscribe() as waiter:
            while not self._stopping.is_set():
                try:
                    pause = self._scheduler.step()
                    failing = False
                except Exception as error:
                    if not failing:
                        _log.warning("watch scheduling failed", **_log_fields(error))
                    pause, failing = _RETRY_SECONDS, True
                waiter.wait(pause)


def _log_fields(error: Exception) -> dict[str, Any]:
    """The log fields of an error: the reason of an expected one, the traceback of a defect."""
    return {"reason": error.reason} if isinstance(error, AudienceError) else {"exc_info": error}
