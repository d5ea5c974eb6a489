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

from audience_service.domain.caller import Deadline
from audience_service.domain.errors import OutOfTime, StoreUnavailable
from audience_service.domain.filters.filter import Document
from audience_service.domain.ports import ContactList, Population
from audience_service.domain.reach.landmarks import Landmarks
from audience_service.mongo.collections import LISTS
from audience_service.mongo.failures import limited
from audience_service.mongo.scope import scoped

_PAGE = 4_096
"""Keys that a query reads: some 10 ms of the database's time."""
_SHORTEST_RUN, _MOST = 4, 8_192
"""Each run of keys leaves one, and runs grow as an org does, so that none has more than so many landmarks: 1 MB."""
_FEW_PAGES = 5
"""What takes no more queries than this is read for each call anew, in its own time, and not kept."""
_FRESH_SECONDS, _USABLE_SECONDS = 60.0, 600.0
"""After the former, landmarks are read anew in the background; after the latter, calls wait until they have been."""
_PAGE_SECONDS = 10.0
_NOTICE_SECONDS = 0.1
"""How soon a call that waits for a reading notices that its caller has gone."""
_WALKS = 2
_MOST_STOPPED = 16
_MOST_KEPT = 131_072
"""Landmarks of all orgs together: 15 MB. Those that have not been asked for longest are dropped."""

Key = tuple[str, str, str, int | None]


class Walk:
    """One reading of all keys, which can stop and go on."""

    def __init__(
        self, database: Database[dict[str, Any]], org: str, population: Population, chance: random.Random
    ) -> None:
        """`chance` chooses one key of each run."""
        on_list = isinstance(population, ContactList)
        self._collection = database[LISTS if on_list else population.datatype]
        self._database = database
        self._org = org
        self._audience: Document = {"audience": population.audience_id} if isinstance(population, ContactList) else {}
        self._chance = chance
        self._run = _SHORTEST_RUN
        self._keys: list[str] = []
        self._ranks: list[int] = []
        self._last = ""
        self._total = 0

    def step(self, deadline: Deadline) -> bool:
        """Read on by a page; answers with whether that was the last."""
        behind: Document = {"sk": {"$gt": self._last}} if self._last else {}
        match = scoped(self._org, self._audience, behind)
        with limited(self._database, deadline):
            rows = self._collection.find(match, {"_id": 0, "sk": 1}, sort=[("sk", 1)], limit=_PAGE, batch_size=_PAGE)
            page = [row["sk"] for row in rows]
        # A run that is not full has less of a chance, so that every record has the same.
        for start in range(0, len(page), self._run):
            place = start + self._chance.randrange(self._run)
            if place < len(page):
                self._keys.append(page[place])
                self._ranks.append(self._total + place)
        self._total += len(page)
        self._last = page[-1] if page else self._last
        while len(self._keys) > _MOST and self._run < _PAGE:
            self._thin()
        return len(page) < _PAGE

    def landmarks(self) -> Landmarks:
        """Those of the keys read so far."""
        return Landmarks(tuple(self._keys), array("L", self._ranks), self._total)

    def _thin(self) -> None:
        """One of each two neighbours stays, as if runs had been twice as long from the beginning."""
        # All runs but the last page's have been full, and pages are whole numbers of runs.
        kept = [
            place
            for first in range(0, len(self._keys), 2)
            if (place := first + self._chance.randrange(2)) < len(self._keys)
        ]
        self._keys = [self._keys[place] for place in kept]
        self._ranks = [self._ranks[place] for place in kept]
        self._run *= 2


@dataclass(frozen=True, slots=True)
class _Kept:
    landmarks: Landmarks
    at: float


@dataclass(slots=True)
class _Reading:
    """A walk in the background, and the deadlines of the calls that have asked for it."""

    walk: Walk
    calls: list[Deadline] = field(default_factory=list)
    done: "Future[Landmarks | None]" = field(default_factory=Future)


class LandmarkReader:
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
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._walking: dict[Key, _Reading] = {}
        self._stopped: OrderedDict[Key, tuple[float, Walk]] = OrderedDict()
        self._walkers = ThreadPoolExecutor(_WALKS, thread_name_prefix="landmarks")
        self._closed = threading.Event()

    def get(self, org: str, population: Population, deadline: Deadline) -> Landmarks:
        """The landmarks of what the population is drawn from.

        Raises StoreUnavailable and, while they are read on, OutOfTime.
        """
        key = _key(org, population)
        with self._lock:
            kept = self._kept.get(key)
            if kept:
                self._kept.move_to_end(key)
        age = self._clock() - kept.at if kept else _USABLE_SECONDS
        if kept and age < _USABLE_SECONDS:
            if age >= _FRESH_SECONDS:
                self._begin(key, self._walk(org, population), deadline)
            return kept.landmarks
        return self._read(key, self._walk(org, population), deadline)

    def close(self) -> None:
        """Read no more."""
        self._closed.set()
        self._walkers.shutdown(wait=True, cancel_futures=True)

    def _walk(self, org: str, population: Population) -> Walk:
        return Walk(self._database, org, population, self._new_random())

    def _read(self, key: Key, walk: Walk, deadline: Deadline) -> Landmarks:
        pages = 0
        while not self._is_begun(key) and (pages < _FEW_PAGES or not self._background):
            if walk.step(deadline):
                return walk.landmarks()
            pages += 1
        done = self._begin(key, walk, deadline)
        while not done.done():
            try:
                left = deadline.remaining()
            except OutOfTime as error:
                raise OutOfTime(
                    f"{error.message} while the org's records were looked over for the first time"
                ) from None
            with suppress(NotInTime):
                done.result(_NOTICE_SECONDS if left is None else min(left, _NOTICE_SECONDS))
        if found := done.result():
            return found
        raise OutOfTime("the caller has cancelled the call")

    def _is_begun(self, key: Key) -> bool:
        with self._lock:
            return key in self._walking or key in self._stopped

    def _begin(self, key: Key, walk: Walk, deadline: Deadline) -> "Future[Landmarks | None]":
        """Read in the background, unless that is under way, or go on where it was stopped lately."""
        with self._lock:
            reading = self._walking.get(key)
            if reading is None:
                stopped_at, stopped = self._stopped.pop(key, (0.0, walk))
                reading = _Reading(stopped if self._clock() - stopped_at < _FRESH_SECONDS else walk)
                reading.calls.append(deadline)
                self._walking[key] = reading
                reading.done = self._walkers.submit(self._finish, key, reading)
            else:
                reading.calls.append(deadline)
            return reading.done

    def _finish(self, key: Key, reading: _Reading) -> Landmarks | None:
        try:
            while not reading.walk.step(Deadline.after(_PAGE_SECONDS)):
                if self._closed.is_set():
                    raise StoreUnavailable("the service is stopping")
                if self._is_stopped(key, reading):
                    return None
            landmarks = reading.walk.landmarks()
            self._keep(key, landmarks)
            return landmarks
        finally:
            with self._lock:
                if self._walking.get(key) is reading:
                    del self._walking[key]

    def _is_stopped(self, key: Key, reading: _Reading) -> bool:
        """Whether nobody is left who wants it; if so, it is put aside."""
        with self._lock:
            if not all(call.is_cancelled for call in reading.calls):
                return False
            del self._walking[key]
            self._stopped[key] = self._clock(), reading.walk
            while len(self._stopped) > _MOST_STOPPED:
                self._stopped.popitem(last=False)
            return True

    def _keep(self, key: Key, landmarks: Landmarks) -> None:
        with self._lock:
            self._kept[key] = _Kept(landmarks, self._clock())
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and sum(len(kept.landmarks.keys) for kept in self._kept.values()) > _MOST_KEPT:
                self._kept.popitem(last=False)


def _key(org: str, population: Population) -> Key:
    if isinstance(population, ContactList):
        return org, LISTS, population.audience_id, population.version
    return org, population.datatype, "", None
