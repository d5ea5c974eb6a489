"""Landmarks: every record has the same chance, reading them can stop and go on, and they are kept for a while."""

import itertools
import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from audience_service.domain.caller import Deadline
from audience_service.domain.errors import OutOfTime, StoreUnavailable
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.ports import ContactList
from audience_service.mongo import landmarks as module
from audience_service.mongo.landmarks import LandmarkReader, Walk
from tests.conftest import Service, seeded
from tests.waiting import eventually

NEVER = Deadline(None)
EVERYONE = FilterCompiler(["contact"]).compile(Filter("contact", {}))


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything a thousandth of its size."""
    for name, value in {"_PAGE": 16, "_SHORTEST_RUN": 2, "_MOST": 16, "_FEW_PAGES": 2}.items():
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def keys(service: Service, org: str) -> Iterator[list[str]]:
    """100 records of an org among others' of like names; their keys in order."""
    for other in (f"{org}2", f"{org}-x", org[:-1] or "o"):
        service.insert(other, [{} for _ in range(3)])
    ids = [f"{n * 37 % 100:03d}" for n in range(100)]
    service.insert(org, [{"id": key, "state": "archived" if key < "050" else "active"} for key in ids])
    yield [f"{org}/contact/{key}" for key in sorted(ids)]
    service.store.database["contact"].delete_many({"sk": {"$regex": f"^{org}/"}})


@pytest.fixture
def reader(service: Service, small: None) -> Iterator[tuple[LandmarkReader, Clock, "Database"]]:
    """A reader of its own with its clock, on a database that counts and can be held up."""
    clock, database = Clock(), Database(service.store.database)
    reader = LandmarkReader(database, clock=clock, new_random=seeded)  # type: ignore[arg-type]
    yield reader, clock, database
    database.open.set()
    reader.close()


class Database:
    """A database whose finds are counted, wait while it is shut, and fail while it is away."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.client, self.read_preference = database.client, database.read_preference
        self.finds: Counter[str] = Counter()
        self.open = threading.Event()
        self.open.set()
        self.away = False
        self.free = 0
        """So many finds go through while it is shut."""

    def __getitem__(self, name: str) -> Any:
        watched, collection = self, self._database[name]

        class Watched:
            def find(self, *args: Any, **kwargs: Any) -> Any:
                watched.finds[name] += 1
                assert watched.finds[name] <= watched.free or watched.open.wait(10)
                if watched.away:
                    raise StoreUnavailable("gone")
                return collection.find(*args, **kwargs)

        return Watched()


def test_landmarks_are_the_orgs_own_in_order_with_their_ranks(
    service: Service, org: str, keys: list[str], small: None
) -> None:
    walk = Walk(service.store.database, org, EVERYONE, seeded())
    while not walk.step(NEVER):
        pass
    found = walk.landmarks()
    assert found.total == 100, "archived ones are counted by what is filtered, not here"
    assert [keys[rank] for rank in found.ranks] == list(found.keys)
    assert list(found.ranks) == sorted(found.ranks)
    assert 12 <= len(found.keys) <= 16, "one of each eight"
    assert max(after - before for before, after in itertools.pairwise(found.ranks)) < 16


def test_every_record_has_the_same_chance(service: Service, org: str, keys: list[str], small: None) -> None:
    drawn: Counter[int] = Counter()
    for seed in range(150):
        walk = Walk(service.store.database, org, EVERYONE, random.Random(seed))
        while not walk.step(NEVER):
            pass
        drawn.update(walk.landmarks().ranks)
    # Of 150 walks one in eight is expected to take a record: 19, and 40 would be five deviations off.
    assert all(1 <= drawn[rank] <= 40 for rank in range(100))
    parts = [sum(drawn[rank] for rank in range(start, start + 20)) for start in range(0, 100, 20)]
    assert all(300 < part < 450 for part in parts), "also at both ends"


def test_a_list_has_landmarks_of_its_own_rows(service: Service, org: str, keys: list[str], small: None) -> None:
    ids = [key.replace(f"{org}/contact/", "contact-") for key in keys]
    contacts = ContactList(f"segment-{org}", "contact")
    service.store.lists.add(
        org, contacts, [one for one, key in zip(ids, keys, strict=True) if key[-3:] >= "050"], NEVER
    )
    walk = Walk(service.store.database, org, contacts, seeded())
    while not walk.step(NEVER):
        pass
    found = walk.landmarks()
    assert found.total == 50
    assert [keys[50 + rank] for rank in found.ranks] == list(found.keys)
    service.store.lists.drop(org, contacts)


Reader = tuple[LandmarkReader, Clock, Database]


def test_few_records_are_read_for_each_call_anew(service: Service, org: str, reader: Reader) -> None:
    service.insert(org, [{"id": f"{n}"} for n in range(10)])
    assert reader[0].get(org, EVERYONE, NEVER).total == 10
    service.insert(org, [{"id": "x"}])
    assert reader[0].get(org, EVERYONE, NEVER).total == 11


def test_many_are_kept_and_read_anew_in_the_background(
    service: Service, org: str, keys: list[str], reader: Reader
) -> None:
    landmarks, clock, database = reader
    first = landmarks.get(org, EVERYONE, NEVER)
    finds = database.finds["contact"]
    assert landmarks.get(org, EVERYONE, NEVER) is first
    assert database.finds["contact"] == finds == 7
    clock.now += 61
    service.insert(org, [{"id": "999"}])
    assert landmarks.get(org, EVERYONE, NEVER) is first, "what is old is good for a while"
    eventually(lambda: landmarks.get(org, EVERYONE, NEVER).total == 101)
    assert database.finds["contact"] == 2 * finds, "once, however many ask"


def test_what_is_too_old_is_waited_for(service: Service, org: str, keys: list[str], reader: Reader) -> None:
    landmarks, clock, _ = reader
    landmarks.get(org, EVERYONE, NEVER)
    clock.now += 601
    service.insert(org, [{"id": "999"}])
    in_a_thousand_years = Deadline.after(60 * 60 * 24 * 365 * 1_000)
    assert landmarks.get(org, EVERYONE, in_a_thousand_years).total == 101


def test_a_call_that_cannot_wait_leaves_the_reading_to_the_next(org: str, keys: list[str], reader: Reader) -> None:
    landmarks, clock, database = reader
    landmarks.get(org, EVERYONE, NEVER)
    finds = database.finds["contact"]
    clock.now += 601
    database.free = finds + 2
    database.open.clear()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(landmarks.get, org, EVERYONE, NEVER)
        eventually(lambda: bool(landmarks._walking))
        with pytest.raises(OutOfTime):
            landmarks.get(org, EVERYONE, Deadline.after(0.05))
        database.open.set()
        assert waiting.result().total == 100
    assert landmarks.get(org, EVERYONE, NEVER).total == 100
    assert database.finds["contact"] == 2 * finds


def test_calls_at_once_read_no_more_than_once_in_the_background(org: str, keys: list[str], reader: Reader) -> None:
    landmarks, _, database = reader
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: landmarks.get(org, EVERYONE, NEVER), range(8)))
    assert {each.total for each in found} == {100}
    assert database.finds["contact"] <= 8 * 2 + 7, "two pages each at most, and what is behind them once"


def test_a_reading_stops_when_all_who_asked_for_it_are_gone_and_the_next_call_goes_on(
    org: str, keys: list[str], reader: Reader
) -> None:
    landmarks, clock, database = reader
    gone, also_gone = threading.Event(), threading.Event()
    database.free = 3
    database.open.clear()
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(landmarks.get, org, EVERYONE, Deadline.after(20, gone))]
        eventually(lambda: bool(landmarks._walking))
        calls.append(pool.submit(landmarks.get, org, EVERYONE, Deadline.after(20, also_gone)))
        [reading] = landmarks._walking.values()
        eventually(lambda: len(reading.calls) == 2)
        gone.set()
        with pytest.raises(OutOfTime):
            calls[0].result()
        assert landmarks._walking, "the other one still waits"
        also_gone.set()
        with pytest.raises(OutOfTime):
            calls[1].result()
    finds = database.finds["contact"]
    database.open.set()
    eventually(lambda: not landmarks._walking)
    assert database.finds["contact"] == finds, "not a page more than the one that was being read"
    assert landmarks.get(org, EVERYONE, NEVER).total == 100
    assert database.finds["contact"] == 7, "as many pages as there are, in the two readings together"
    clock.now += 61
    gone.clear()
    database.free = 7
    database.open.clear()
    landmarks.get(org, EVERYONE, Deadline.after(20, gone))
    gone.set()
    database.open.set()
    eventually(lambda: not landmarks._walking)
    clock.now += 61  # what was stopped longer ago is begun anew
    landmarks.get(org, EVERYONE, NEVER)
    eventually(lambda: database.finds["contact"] == 8 + 7)


def test_an_error_is_told_and_the_next_call_reads_anew(org: str, keys: list[str], reader: Reader) -> None:
    landmarks, _, database = reader
    database.away = True
    with pytest.raises(StoreUnavailable):
        landmarks.get(org, EVERYONE, NEVER)
    database.away = False
    assert landmarks.get(org, EVERYONE, NEVER).total == 100


def test_those_not_asked_for_longest_are_dropped(
    service: Service, org: str, keys: list[str], reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    landmarks, _, database = reader
    other = f"{org}-other"
    service.insert(other, [{"id": f"{n:03d}"} for n in range(100)])
    monkeypatch.setattr(module, "_MOST_KEPT", 20)
    landmarks.get(org, EVERYONE, NEVER)
    finds = database.finds["contact"]
    landmarks.get(other, EVERYONE, NEVER)
    landmarks.get(org, EVERYONE, NEVER)
    assert database.finds["contact"] == 3 * finds
    service.store.database["contact"].delete_many({"sk": {"$regex": f"^{other}/"}})
