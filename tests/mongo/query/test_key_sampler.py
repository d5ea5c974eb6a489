"""Landmarks: every record has the same chance, reading them can stop and go on, and they are kept for a while."""

import itertools
import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import OutOfTime, StoreUnavailable
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.filters.member_list import MemberList
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.query import key_sampler
from audience_service.mongo.query.key_sampler import KeySampler, KeyScan
from tests.conftest import Service, seeded
from tests.support.waiting import eventually

NO_DEADLINE = Deadline(None)
ALL_CONTACTS = FilterCompiler(["contact"]).compile(Filter("contact", {}))


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything a thousandth of its size."""
    for name, value in {"PAGE_SIZE": 16, "MIN_RUN": 2, "MAX_KEYS": 16, "MAX_FOREGROUND_PAGES": 2}.items():
        monkeypatch.setattr(key_sampler, name, value)


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
def reader(service: Service, small: None) -> Iterator[tuple[KeySampler, Clock, "Database"]]:
    """A key sampler with its own clock, on a database that counts commands and can be paused."""
    clock, database = Clock(), Database(service.store.database)
    reader = KeySampler(database, TenantScope(), clock=clock, new_random=seeded)  # type: ignore[arg-type]
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
        self.is_down = False
        self.free_finds = 0
        """So many finds go through while it is shut."""

    def __getitem__(self, name: str) -> Any:
        counter, collection = self, self._database[name]

        class CountingCollection:
            def find(self, *args: Any, **kwargs: Any) -> Any:
                counter.finds[name] += 1
                assert counter.finds[name] <= counter.free_finds or counter.open.wait(40)
                if counter.is_down:
                    raise StoreUnavailable("gone")
                return collection.find(*args, **kwargs)

        return CountingCollection()


def test_a_key_sample_holds_the_orgs_keys_in_order_with_ranks(
    service: Service, org: str, keys: list[str], small: None
) -> None:
    scan = KeyScan(service.store.database, TenantScope(), org, ALL_CONTACTS, seeded())
    while not scan.read_page(NO_DEADLINE):
        pass
    found = scan.key_sample()
    assert found.total == 100, "archived ones are counted by what is filtered, not here"
    assert [keys[rank] for rank in found.ranks] == list(found.keys)
    assert list(found.ranks) == sorted(found.ranks)
    assert 12 <= len(found.keys) <= 16, "one of each eight"
    assert max(after - before for before, after in itertools.pairwise(found.ranks)) < 16


@pytest.mark.slow
def test_every_record_is_equally_likely(service: Service, org: str, keys: list[str], small: None) -> None:
    drawn: Counter[int] = Counter()
    for seed in range(150):
        scan = KeyScan(service.store.database, TenantScope(), org, ALL_CONTACTS, random.Random(seed))
        while not scan.read_page(NO_DEADLINE):
            pass
        drawn.update(scan.key_sample().ranks)
    # Of 150 walks one in eight is expected to take a record: 19, and 40 would be five deviations off.
    assert all(1 <= drawn[rank] <= 40 for rank in range(100))
    parts = [sum(drawn[rank] for rank in range(start, start + 20)) for start in range(0, 100, 20)]
    assert all(300 < part < 450 for part in parts), "also at both ends"


def test_a_list_has_a_key_sample_of_its_own_rows(service: Service, org: str, keys: list[str], small: None) -> None:
    ids = [key.replace(f"{org}/contact/", "contact-") for key in keys]
    contacts = MemberList(f"segment-{org}", "contact")
    service.store.lists.add(
        org, contacts, [one for one, key in zip(ids, keys, strict=True) if key[-3:] >= "050"], NO_DEADLINE
    )
    scan = KeyScan(service.store.database, TenantScope(), org, contacts, seeded())
    while not scan.read_page(NO_DEADLINE):
        pass
    found = scan.key_sample()
    assert found.total == 50
    assert [keys[50 + rank] for rank in found.ranks] == list(found.keys)
    service.store.lists.clear(org, contacts)


ReaderFixture = tuple[KeySampler, Clock, Database]


def test_few_records_are_read_by_every_call(service: Service, org: str, reader: ReaderFixture) -> None:
    service.insert(org, [{"id": f"{n}"} for n in range(10)])
    assert reader[0].get(org, ALL_CONTACTS, NO_DEADLINE).total == 10
    service.insert(org, [{"id": "x"}])
    assert reader[0].get(org, ALL_CONTACTS, NO_DEADLINE).total == 11


def test_large_samples_are_cached_and_refreshed_in_the_background(
    service: Service, org: str, keys: list[str], reader: ReaderFixture
) -> None:
    sampler, clock, database = reader
    first = sampler.get(org, ALL_CONTACTS, NO_DEADLINE)
    finds = database.finds["contact"]
    assert sampler.get(org, ALL_CONTACTS, NO_DEADLINE) is first
    assert database.finds["contact"] == finds == 7
    clock.now += 61
    service.insert(org, [{"id": "999"}])
    assert sampler.get(org, ALL_CONTACTS, NO_DEADLINE) is first, "what is old is good for a while"
    eventually(lambda: sampler.get(org, ALL_CONTACTS, NO_DEADLINE).total == 101)
    assert database.finds["contact"] == 2 * finds, "once, however many ask"


def test_a_call_waits_for_a_sample_that_replaces_an_expired_one(
    service: Service, org: str, keys: list[str], reader: ReaderFixture
) -> None:
    sampler, clock, _ = reader
    sampler.get(org, ALL_CONTACTS, NO_DEADLINE)
    clock.now += 601
    service.insert(org, [{"id": "999"}])
    in_a_thousand_years = Deadline.after(60 * 60 * 24 * 365 * 1_000)
    assert sampler.get(org, ALL_CONTACTS, in_a_thousand_years).total == 101


def test_a_timed_out_call_leaves_the_scan_to_the_next(org: str, keys: list[str], reader: ReaderFixture) -> None:
    sampler, clock, database = reader
    sampler.get(org, ALL_CONTACTS, NO_DEADLINE)
    finds = database.finds["contact"]
    clock.now += 601
    database.free_finds = finds + 2
    database.open.clear()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(sampler.get, org, ALL_CONTACTS, NO_DEADLINE)
        eventually(lambda: bool(sampler._running))
        with pytest.raises(OutOfTime):
            sampler.get(org, ALL_CONTACTS, Deadline.after(0.05))
        database.open.set()
        assert waiting.result().total == 100
    assert sampler.get(org, ALL_CONTACTS, NO_DEADLINE).total == 100
    assert database.finds["contact"] == 2 * finds


def test_concurrent_calls_share_one_background_scan(org: str, keys: list[str], reader: ReaderFixture) -> None:
    sampler, _, database = reader
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: sampler.get(org, ALL_CONTACTS, NO_DEADLINE), range(8)))
    assert {each.total for each in found} == {100}
    assert database.finds["contact"] <= 8 * 2 + 7, "two pages each at most, and the rest once"


@pytest.mark.slow
def test_a_scan_pauses_once_all_its_calls_are_cancelled_and_the_next_call_resumes_it(
    org: str, keys: list[str], reader: ReaderFixture
) -> None:
    sampler, clock, database = reader
    first_cancelled, second_cancelled = threading.Event(), threading.Event()
    database.free_finds = 3
    database.open.clear()
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(sampler.get, org, ALL_CONTACTS, Deadline.after(20, first_cancelled))]
        eventually(lambda: bool(sampler._running))
        calls.append(pool.submit(sampler.get, org, ALL_CONTACTS, Deadline.after(20, second_cancelled)))
        [running] = sampler._running.values()
        eventually(lambda: len(running.deadlines) == 2)
        first_cancelled.set()
        with pytest.raises(OutOfTime):
            calls[0].result()
        assert sampler._running, "the other one still waits"
        second_cancelled.set()
        with pytest.raises(OutOfTime):
            calls[1].result()
    finds = database.finds["contact"]
    database.open.set()
    eventually(lambda: not sampler._running)
    assert database.finds["contact"] == finds, "not a page more than the one that was being read"
    assert sampler.get(org, ALL_CONTACTS, NO_DEADLINE).total == 100
    assert database.finds["contact"] == 7, "as many pages as there are, in the two readings together"
    clock.now += 61
    first_cancelled.clear()
    database.free_finds = 7
    database.open.clear()
    sampler.get(org, ALL_CONTACTS, Deadline.after(20, first_cancelled))
    first_cancelled.set()
    database.open.set()
    eventually(lambda: not sampler._running)
    clock.now += 61  # a scan that was stopped longer ago starts again
    sampler.get(org, ALL_CONTACTS, NO_DEADLINE)
    eventually(lambda: database.finds["contact"] == 8 + 7)


def test_an_error_is_raised_and_the_next_call_scans_again(org: str, keys: list[str], reader: ReaderFixture) -> None:
    sampler, _, database = reader
    database.is_down = True
    with pytest.raises(StoreUnavailable):
        sampler.get(org, ALL_CONTACTS, NO_DEADLINE)
    database.is_down = False
    assert sampler.get(org, ALL_CONTACTS, NO_DEADLINE).total == 100


def test_the_least_recently_used_samples_are_evicted(
    service: Service, org: str, keys: list[str], reader: ReaderFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler, _, database = reader
    other = f"{org}-other"
    service.insert(other, [{"id": f"{n:03d}"} for n in range(100)])
    monkeypatch.setattr(key_sampler, "MAX_CACHED_KEYS", 20)
    sampler.get(org, ALL_CONTACTS, NO_DEADLINE)
    finds = database.finds["contact"]
    sampler.get(other, ALL_CONTACTS, NO_DEADLINE)
    sampler.get(org, ALL_CONTACTS, NO_DEADLINE)
    assert database.finds["contact"] == 3 * finds
    service.store.database["contact"].delete_many({"sk": {"$regex": f"^{other}/"}})
