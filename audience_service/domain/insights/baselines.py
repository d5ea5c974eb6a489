"""A cache of baselines in the process: an org's breakdown takes long to read and hardly changes within minutes.

Processes do not share it. A shared cache would be another store to keep correct, to save one pass per process.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import OutOfTime
from audience_service.domain.insights.model import Breakdown
from audience_service.observability import metrics

_MAX_BASELINES = 64


class BaselineCache:
    """Caches the 64 most recently used baselines, each for `ttl_seconds`.

    Of concurrent calls for one baseline, one reads it and the others wait.
    """

    def __init__(
        self,
        ttl_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        version: Callable[[], Hashable] = lambda: None,
    ) -> None:
        """Baselines of another `version` count as missing: an erasure of a contact changes it."""
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._version = version
        self._cache: OrderedDict[Hashable, tuple[float, Breakdown]] = OrderedDict()
        self._load_locks: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, load: Callable[[], Breakdown], deadline: Deadline) -> Breakdown:
        """The cached baseline, or else the result of `load`.

        Raises OutOfTime if another call is still reading the baseline at the deadline.
        """
        key = (key, self._version())
        cached = self._get_fresh(key)
        metrics.count_lookup("insights_baseline", hit=cached is not None)
        if cached:
            return cached
        with self._lock:
            load_lock = self._load_locks.setdefault(key, threading.Lock())
        seconds_left = deadline.remaining()
        if not load_lock.acquire(timeout=-1 if seconds_left is None else min(seconds_left, threading.TIMEOUT_MAX)):
            raise OutOfTime("another call was still reading the baseline at the deadline; allow more time")
        try:
            return self._get_fresh(key) or self._put(key, load())
        finally:
            load_lock.release()
            with self._lock:
                self._load_locks.pop(key, None)

    def refresh(self, key: Hashable, load: Callable[[], Breakdown]) -> Breakdown:
        """The result of `load`, which replaces the cached baseline."""
        return self._put((key, self._version()), load())

    def _put(self, key: Hashable, baseline: Breakdown) -> Breakdown:
        """Cache and return a baseline that was just read. A full cache drops the least recently used one."""
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
