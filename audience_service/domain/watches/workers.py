"""The threads of a process that track watched audiences."""

import threading
from typing import Any

import structlog

from audience_service.domain.errors import AudienceError
from audience_service.domain.watches.bell import Bell
from audience_service.domain.watches.tracker import Tracker

_THREADS = 2
"""A slow round of one audience leaves the others a thread. A third one extends the leases."""
_RETRY_SECONDS = 1.0
_STOP_SECONDS = 5.0

_log = structlog.get_logger()


class Workers:
    """Let a tracker step whenever something is due, or the bell is rung: somebody asks, or something has changed."""

    def __init__(self, tracker: Tracker, asked: Bell) -> None:
        self._tracker = tracker
        self._asked = asked
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"tracker-{number}", daemon=True) for number in range(_THREADS)
        ]
        self._threads.append(threading.Thread(target=self._keep, name="tracker-leases", daemon=True))

    def start(self) -> None:
        """Begin to track."""
        for thread in self._threads:
            thread.start()

    def ask(self) -> None:
        """There is something new to track."""
        self._tracker.look()
        self._asked.ring()

    def stop(self) -> None:
        """End after the rounds under way, or in the midst of them where they take long, and leave all to others."""
        self._stopping.set()
        self._asked.ring()
        for thread in self._threads:
            thread.join(_STOP_SECONDS)
        try:
            self._tracker.release()
        except AudienceError as error:
            _log.warning("leases are left to end by themselves", reason=error.reason)

    def _keep(self) -> None:
        while not self._stopping.wait(self._tracker.keep_seconds):
            try:
                self._tracker.keep()
            except Exception as error:
                _log.warning("leases are not extended", **_why(error))

    def _work(self) -> None:
        failing = False
        with self._asked.listen() as ear:
            while not self._stopping.is_set():
                try:
                    pause = self._tracker.step()
                    failing = False
                except Exception as error:
                    if not failing:
                        _log.warning("tracking failed", **_why(error))
                    pause, failing = _RETRY_SECONDS, True
                ear.wait(pause)


def _why(error: Exception) -> dict[str, Any]:
    """What the log says of an error: the reason of one that is expected, the whole of a defect."""
    return {"reason": error.reason} if isinstance(error, AudienceError) else {"exc_info": error}
