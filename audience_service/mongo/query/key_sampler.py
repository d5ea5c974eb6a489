"""Key samples: random sort keys of an org's records, read from the index on sk and cached.

Worked example, with runs of 4 keys and at most 3 kept keys. The org has the keys k0 to k15:

    page              run          kept key (random in its run)    rank
    k0 ... k7         k0 - k3      k2                              2
                      k4 - k7      k5                              5
    k8 ... k15        k8 - k11     k8                              8
                      k12 - k15    k15                             15

Four kept keys exceed the limit, so runs double to 8 keys, and one of each two neighbours survives, at random:

    k0 - k7           k5           rank 5
    k8 - k15          k8           rank 8             KeySample(keys=(k5, k8), ranks=(5, 8), total=16)

A caller cuts the collection at the keys, and estimates sizes from the ranks.

The database cannot return random keys cheaply: $sample reads all records, and `skip` reads all keys before a random
position. The sampler therefore reads all keys once, in short queries.

Invariants:

1. Every key is kept with the same probability. The last run may be incomplete; it then keeps no key if the random
   position is past its end.
2. A page is a whole number of runs, so halving the sample equals reading with longer runs from the start.
3. An org of up to 5 pages is read for each call, within its deadline, and not cached.
4. A larger org is read in the background and cached. After 60 s a call starts a refresh, after 600 s it waits for one.
5. A background scan pauses once every call that asked for it is cancelled. The next call resumes it within 60 s.
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
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.query.lookups import source
from audience_service.observability import metrics
from audience_service.observability.tracing import background_span

PAGE_SIZE = 4_096
"""Keys per query, which take the database about 10 ms."""
MIN_RUN, MAX_KEYS = 4, 8_192
"""The initial run, and the most keys of one sample (1 MB). Runs grow with the org to stay below it."""
MAX_FOREGROUND_PAGES = 5
"""Up to this number of queries, each call reads the keys itself, and the sample is not cached."""
_REFRESH_AFTER_SECONDS, _MAX_AGE_SECONDS = 60.0, 600.0
"""After the first time a sample is refreshed in the background; after the second, calls wait for a new one."""
_PAGE_TIMEOUT_SECONDS = 10.0
_CANCEL_POLL_SECONDS = 0.1
"""How soon a waiting call notices its cancellation."""
_MAX_CONCURRENT_SCANS = 2
_MAX_PAUSED_SCANS = 16
MAX_CACHED_KEYS = 131_072
"""Cached keys of all orgs together: 15 MB. The least recently used samples are dropped."""

CacheKey = tuple[str, str, str, int | None]


class KeyScan:
    """A scan of all keys that can pause and resume."""

    def __init__(
        self,
        database: Database[dict[str, Any]],
        scope: TenantScope,
        org: str,
        population: Population,
        rng: random.Random,
    ) -> None:
        """`rng` selects one key of each run."""
        is_list = isinstance(population, MemberList)
        self._collection = source(database, LISTS if is_list else population.datatype, reads_lists=is_list)
        self._database = database
        self._scope = scope
        self._org = org
        self._audience_match: Document = {"audience": population.list_id} if isinstance(population, MemberList) else {}
        self._rng = rng
        self._run_length = MIN_RUN
        self._keys: list[str] = []
        self._ranks: list[int] = []
        self._last_key = ""
        self._total = 0

    def read_page(self, deadline: Deadline) -> bool:
        """Read the next page, and return whether it was the last."""
        after: Document = {"sk": {"$gt": self._last_key}} if self._last_key else {}
        match = self._scope.match(self._org, self._audience_match, after)
        with with_deadline(self._database, deadline):
            rows = self._collection.find(
                match, {"_id": 0, "sk": 1}, sort=[("sk", 1)], limit=PAGE_SIZE, batch_size=PAGE_SIZE
            )
            page = [row["sk"] for row in rows]
        # An incomplete run keeps a key less often, so that every record has the same probability.
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
        """Return the sample of the keys read so far."""
        return KeySample(tuple(self._keys), array("L", self._ranks), self._total)

    def _downsample(self) -> None:
        """Keep one of each two neighbours, as if runs had been twice as long from the start."""
        # Only runs of the last page can be incomplete, and a page is a whole number of runs.
        indexes = [
            index
            for first in range(0, len(self._keys), 2)
            if (index := first + self._rng.randrange(2)) < len(self._keys)
        ]
        self._keys = [self._keys[index] for index in indexes]
        self._ranks = [self._ranks[index] for index in indexes]
        self._run_length *= 2


@dataclass(frozen=True, slots=True)
class _CachedSample:
    key_sample: KeySample
    created_at: float


@dataclass(slots=True)
class _BackgroundScan:
    """A scan in the background, and the deadlines of the calls that wait for it."""

    scan: KeyScan
    deadlines: list[Deadline] = field(default_factory=list)
    future: "Future[KeySample | None]" = field(default_factory=Future)


class KeySampler:
    """Provides key samples to all threads of a process.

    Without `background`, each call reads the keys itself, without a cache.
    """

    def __init__(
        self,
        database: Database[dict[str, Any]],
        scope: TenantScope,
        *,
        background: bool = True,
        clock: Callable[[], float] = time.monotonic,
        new_random: Callable[[], random.Random] = random.Random,
    ) -> None:
        """`new_random` returns the generator that selects the keys of one scan."""
        self._database = database
        self._scope = scope
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
        """Return a key sample of the population's datatype, or of its member list.

        Raises StoreUnavailable, and OutOfTime while the scan continues in the background.
        """
        key = _cache_key(org, population)
        with self._lock:
            cached = self._cache.get(key)
            if cached:
                self._cache.move_to_end(key)
        age = self._clock() - cached.created_at if cached else _MAX_AGE_SECONDS
        metrics.count_lookup("key_sample", hit=age < _MAX_AGE_SECONDS)
        if cached and age < _MAX_AGE_SECONDS:
            if age >= _REFRESH_AFTER_SECONDS:
                self._start(key, self._new_scan(org, population), deadline)
            return cached.key_sample
        return self._scan(key, self._new_scan(org, population), deadline)

    def close(self) -> None:
        """Stop all scans, and wait for their threads."""
        self._closed.set()
        self._scanners.shutdown(wait=True, cancel_futures=True)

    def _new_scan(self, org: str, population: Population) -> KeyScan:
        return KeyScan(self._database, self._scope, org, population, self._new_random())

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
                raise OutOfTime(f"{error.message} during the first scan of the org's sort keys") from None
            with suppress(NotInTime):
                future.result(_CANCEL_POLL_SECONDS if seconds_left is None else min(seconds_left, _CANCEL_POLL_SECONDS))
        if found := future.result():
            return found
        raise OutOfTime("the caller has cancelled the call")

    def _is_scanning(self, key: CacheKey) -> bool:
        with self._lock:
            return key in self._running or key in self._paused_scans

    def _start(self, key: CacheKey, scan: KeyScan, deadline: Deadline) -> "Future[KeySample | None]":
        """Start a background scan, or resume a recently paused one, unless one is running. Return its future."""
        with self._lock:
            background = self._running.get(key)
            if background is None:
                paused_at, paused_scan = self._paused_scans.pop(key, (0.0, scan))
                background = _BackgroundScan(
                    paused_scan if self._clock() - paused_at < _REFRESH_AFTER_SECONDS else scan
                )
                background.deadlines.append(deadline)
                self._running[key] = background
                background.future = self._scanners.submit(self._run_background_scan, key, background)
            else:
                background.deadlines.append(deadline)
            return background.future

    @background_span("scan sort keys")
    def _run_background_scan(self, key: CacheKey, background: _BackgroundScan) -> KeySample | None:
        try:
            while not background.scan.read_page(Deadline.after(_PAGE_TIMEOUT_SECONDS)):
                if self._closed.is_set():
                    raise StoreUnavailable("the service is stopping")
                if self._pause_if_cancelled(key, background):
                    return None
            key_sample = background.scan.key_sample()
            self._cache_sample(key, key_sample)
            return key_sample
        finally:
            with self._lock:
                if self._running.get(key) is background:
                    del self._running[key]

    def _pause_if_cancelled(self, key: CacheKey, background: _BackgroundScan) -> bool:
        """Pause the scan if all calls that wait for it are cancelled. Return whether it was paused."""
        with self._lock:
            if not all(deadline.is_cancelled for deadline in background.deadlines):
                return False
            del self._running[key]
            self._paused_scans[key] = self._clock(), background.scan
            while len(self._paused_scans) > _MAX_PAUSED_SCANS:
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
        return org, LISTS, population.list_id, population.version
    return org, population.datatype, "", None
