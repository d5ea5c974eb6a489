"""Landmarks of an org's records, read from the index on sk in short queries, and kept for a while.

Random keys cannot be had of the database itself for less than a look at every record: $sample reads them all, and a
random place in the order of keys is reached by skipping what lies before it. So all keys of the org are read once and
some are kept: one out of each run, at random.
"""

import random
import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pymongo.database import Database

from audience_service.domain.audiences.key_sample import KeySample
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import OutOfTime, StoreUnavailable
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.population import Population
from audience_service.mongo.core.collections import LISTS
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import tenant_match

PAGE_SIZE = 4_096
"""Keys that a query reads: some 10 ms of the database's time."""
MIN_RUN, MAX_KEYS = 4, 8_192
"""Each run of keys leaves one, and runs grow as an org does, so that none has more than so many landmarks: 1 MB."""
MAX_FOREGROUND_PAGES = 5
"""What takes no more queries than this is read for each call anew, in its own time, and not kept."""
_REFRESH_AFTER_SECONDS, _MAX_AGE_SECONDS = 60.0, 600.0
"""After the former, landmarks are read anew in the background; after the latter, calls wait until they have been."""
_PAGE_TIMEOUT_SECONDS = 10.0
_CANCEL_POLL_SECONDS = 0.1
"""How soon a call that waits for a reading notices that its caller has gone."""
_MAX_CONCURRENT_SCANS = 2
_MAX_STOPPED = 16
MAX_CACHED_KEYS = 131_072
"""Landmarks of all orgs together: 15 MB. Those that have not been asked for longest are dropped."""

CacheKey = tuple[str, str, str, int | None]


class KeyScan:
    """One reading of all keys, which can stop and go on."""

    def __init__(
        self, database: Database[dict[str, Any]], org: str, population: Population, rng: random.Random
    ) -> None:
        """`chance` chooses one key of each run."""
        is_list = isinstance(population, MemberList)
        self._collection = database[LISTS if is_list else population.datatype]
        self._database = database
        self._org = org
        self._audience_match: Document = (
            {"audience": population.audience_id} if isinstance(population, MemberList) else {}
        )
        self._rng = rng
        self._run_length = MIN_RUN
        self._keys: list[str] = []
        self._ranks: list[int] = []
        self._last_key = ""
        self._total = 0

    def read_page(self, deadline: Deadline) -> bool:
        """Read on by a page; answers with whether that was the last."""
        after: Document = {"sk": {"$gt": self._last_key}} if self._last_key else {}
        match = tenant_match(self._org, self._audience_match, after)
        with with_deadline(self._database, deadline):
            rows = self._collection.find(
                match, {"_id": 0, "sk": 1}, sort=[("sk", 1)], limit=PAGE_SIZE, batch_size=PAGE_SIZE
            )
            page = [row["sk"] for row in rows]
        # A run that is not full has less of a chance, so that every record has the same.
        for start in range(0, len(page), self._run_length):
            index = start + self._rng.randrange(self._run_length)
            if index < len(page):
                self._keys.append(page[index])
                self._ranks.append(self._total + index)
        self._total += len(page)
        self._last_key = page[-1] if page else self._last_key
        while len(self._keys) > MAX_KEYS and self._run_length < PAGE_SIZE:
            self._downsample()
        return len(page) < PAGE_SIZE

    def key_sample(self) -> KeySample:
        """Those of the keys read so far."""
        return KeySample(tuple(self._keys), array("L", self._ranks), self._total)

    def _downsample(self) -> None:
        """One of each two neighbours stays, as if runs had been twice as long from the beginning."""
        # All runs but the last page's have been full, and pages are whole numbers of runs.
        indexes = [
            place
            for first in range(0, len(self._keys), 2)
            if (place := first + self._rng.randrange(2)) < len(self._keys)
        ]
        self._keys = [self._keys[index] for index in indexes]
        self._ranks = [self._ranks[place] for place in indexes]
        self._run_length *= 2


@dataclass(frozen=True, slots=True)
class _CachedSample:
    key_sample: KeySample
    created_at: float


@dataclass(slots=True)
class _BackgroundScan:
    """A walk in the background, and the deadlines of the calls that have asked for it."""

    scan: KeyScan
    deadlines: list[Deadline] = field(default_factory=list)
    future: "Future[KeySample | None]" = field(default_factory=Future)


class KeySampler:
    """The landmarks of orgs, for all threads of a process.

    What is read in the background stops once all calls that have asked for it are cancelled; the next one goes on.
    Without `background` everything is read in the caller's own time, and nothing kept.
    """

    def __init__(
        self,
        database: Database[dict[str, Any]],
        *,
        background: bool = True,
        clock: Callable[[], float] = time.monotonic,
        new_random: Callable[[], random.Random] = random.Random,
    ) -> None:
        """`new_random` returns the generator that chooses the landmarks of one reading."""
        self._database = database
        self._background = background
        self._clock = clock
        self._new_random = new_random
        self._lock = threading.Lock()
        self._cache: OrderedDict[CacheKey, _CachedSample] = OrderedDict()
        self._running: dict[CacheKey, _BackgroundScan] = {}
        self._paused_scans: OrderedDict[CacheKey, tuple[float, KeyScan]] = OrderedDict()
        self._scanners = ThreadPoolExecutor(_MAX_CONCURRENT_SCANS, thread_name_prefix="key-sampler")
        self._closed = threading.Event()

    def get(self, org: str, population: Population, deadline: Deadline) -> KeySample:
        """The landmarks of what the population is drawn from.

        Raises StoreUnavailable and, while they are read on, OutOfTime.
        """
        key = _cache_key(org, population)
        with self._lock:
            cached = self._cache.get(key)
            if cached:
                self._cache.move_to_end(key)
        age = self._clock() - cached.created_at if cached else _MAX_AGE_SECONDS
        if cached and age < _MAX_AGE_SECONDS:
            if age >= _REFRESH_AFTER_SECONDS:
                self._start(key, self._walk(org, population), deadline)
            return cached.key_sample
        return self._scan(key, self._walk(org, population), deadline)

    def close(self) -> None:
        """Read no more."""
        self._closed.set()
        self._scanners.shutdown(wait=True, cancel_futures=True)

    def _walk(self, org: str, population: Population) -> KeyScan:
        return KeyScan(self._database, org, population, self._new_random())

    def _scan(self, key: CacheKey, scan: KeyScan, deadline: Deadline) -> KeySample:
        pages = 0
        while not self._is_scanning(key) and (pages < MAX_FOREGROUND_PAGES or not self._background):
            if scan.read_page(deadline):
                return scan.key_sample()
            pages += 1
        future = self._start(key, scan, deadline)
        while not future.done():
            try:
                seconds_left = deadline.remaining()
            except OutOfTime as error:
                raise OutOfTime(
                    f"{error.message} while the org's records were looked over for the first time"
                ) from None
            with suppress(NotInTime):
                future.result(_CANCEL_POLL_SECONDS if seconds_left is None else min(seconds_left, _CANCEL_POLL_SECONDS))
        if found := future.result():
            return found
        raise OutOfTime("the caller has cancelled the call")

    def _is_scanning(self, key: CacheKey) -> bool:
        with self._lock:
            return key in self._running or key in self._paused_scans

    def _start(self, key: CacheKey, scan: KeyScan, deadline: Deadline) -> "Future[KeySample | None]":
        """Read in the background, unless that is under way, or go on where it was stopped lately."""
        with self._lock:
            background = self._running.get(key)
            if background is None:
                paused_at, stopped_scan = self._paused_scans.pop(key, (0.0, scan))
                background = _BackgroundScan(
                    stopped_scan if self._clock() - paused_at < _REFRESH_AFTER_SECONDS else scan
                )
                background.deadlines.append(deadline)
                self._running[key] = background
                background.future = self._scanners.submit(self._run_background_scan, key, background)
            else:
                background.deadlines.append(deadline)
            return background.future

    def _run_background_scan(self, key: CacheKey, background: _BackgroundScan) -> KeySample | None:
        try:
            while not background.scan.read_page(Deadline.after(_PAGE_TIMEOUT_SECONDS)):
                if self._closed.is_set():
                    raise StoreUnavailable("the service is stopping")
                if self._stop_if_cancelled(key, background):
                    return None
            key_sample = background.scan.key_sample()
            self._cache_sample(key, key_sample)
            return key_sample
        finally:
            with self._lock:
                if self._running.get(key) is background:
                    del self._running[key]

    def _stop_if_cancelled(self, key: CacheKey, background: _BackgroundScan) -> bool:
        """Whether nobody is left who wants it; if so, it is put aside."""
        with self._lock:
            if not all(deadline.is_cancelled for deadline in background.deadlines):
                return False
            del self._running[key]
            self._paused_scans[key] = self._clock(), background.scan
            while len(self._paused_scans) > _MAX_STOPPED:
                self._paused_scans.popitem(last=False)
            return True

    def _cache_sample(self, key: CacheKey, key_sample: KeySample) -> None:
        with self._lock:
            self._cache[key] = _CachedSample(key_sample, self._clock())
            self._cache.move_to_end(key)
            while (
                len(self._cache) > 1
                and sum(len(cached.key_sample.keys) for cached in self._cache.values()) > MAX_CACHED_KEYS
            ):
                self._cache.popitem(last=False)


def _cache_key(org: str, population: Population) -> CacheKey:
    if isinstance(population, MemberList):
        return org, LISTS, population.audience_id, population.version
    return org, population.datatype, "", None
