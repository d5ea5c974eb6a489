"""Baselines kept in the process: a whole org's breakdown is long in the making and hardly changes in minutes."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import OutOfTime
from audience_service.domain.insights.model import Breakdown

_MAX_BASELINES = 64


class BaselineCache:
    """The latest baselines, each for `seconds`. Calls that want the same one at once wait for one to read it."""

    def __init__(self, ttl_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._cache: OrderedDict[Hashable, tuple[float, Breakdown]] = OrderedDict()
        self._load_locks: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, load: Callable[[], Breakdown], deadline: Deadline) -> Breakdown:
        """The baseline, read where none is kept. Raises OutOfTime where another call takes too long to read it."""
        if cached := self._get_fresh(key):
            return cached
        with self._lock:
            load_lock = self._load_locks.setdefault(key, threading.Lock())
        seconds_left = deadline.remaining()
        if not load_lock.acquire(timeout=-1 if seconds_left is None else min(seconds_left, threading.TIMEOUT_MAX)):
            raise OutOfTime("another call was still reading the baseline at the deadline")
        try:
            return self._get_fresh(key) or self.put(key, load())
        finally:
            load_lock.release()
            with self._lock:
                self._load_locks.pop(key, None)

    def put(self, key: Hashable, baseline: Breakdown) -> Breakdown:
        """Keep a baseline that was just read; the one used longest ago makes room."""
        with self._lock:
            self._cache[key] = self._clock() + self._ttl_seconds, baseline
            self._cache.move_to_end(key)
            while len(self._cache) > _MAX_BASELINES:
                self._cache.popitem(last=False)
        return baseline

    def _get_fresh(self, key: Hashable) -> Breakdown | None:
        with self._lock:
            expires_at, baseline = self._cache.get(key, (0.0, None))
            if baseline is None or expires_at <= self._clock():
                self._cache.pop(key, None)
                return None
            self._cache.move_to_end(key)
            return baseline
