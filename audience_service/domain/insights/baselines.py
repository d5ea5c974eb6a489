"""Baselines kept in the process: a whole org's breakdown is long in the making and hardly changes in minutes."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from audience_service.domain.caller import Deadline
from audience_service.domain.errors import OutOfTime
from audience_service.domain.insights.breakdown import Breakdown

_MOST = 64


class Baselines:
    """The latest baselines, each for `seconds`. Calls that want the same one at once wait for one to read it."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[float, Breakdown]] = OrderedDict()
        self._reading: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], Breakdown], deadline: Deadline) -> Breakdown:
        """The baseline, read where none is kept. Raises OutOfTime where another call takes too long to read it."""
        if kept := self._find(key):
            return kept
        with self._lock:
            turn = self._reading.setdefault(key, threading.Lock())
        left = deadline.remaining()
        if not turn.acquire(timeout=-1 if left is None else min(left, threading.TIMEOUT_MAX)):
            raise OutOfTime("another call was still reading the baseline at the deadline")
        try:
            return self._find(key) or self.keep(key, read())
        finally:
            turn.release()
            with self._lock:
                self._reading.pop(key, None)

    def keep(self, key: Hashable, baseline: Breakdown) -> Breakdown:
        """Keep a baseline that was just read; the one used longest ago makes room."""
        with self._lock:
            self._kept[key] = self._clock() + self._seconds, baseline
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        return baseline

    def _find(self, key: Hashable) -> Breakdown | None:
        with self._lock:
            until, baseline = self._kept.get(key, (0.0, None))
            if baseline is None or until <= self._clock():
                self._kept.pop(key, None)
                return None
            self._kept.move_to_end(key)
            return baseline
