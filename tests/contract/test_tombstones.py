"""How a process reads tombstones: one failure for all who wait, and no clock that hides them."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pymongo
import pytest

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import StoreUnavailable
from audience_service.domain.erasure.model import Person, Tombstone
from audience_service.domain.erasure.sealing import PersonSealer
from audience_service.mongo.core.collections import ERASURES
from audience_service.mongo.erasure import tombstones as tombstones_module
from audience_service.mongo.erasure.repository import MongoErasures
from audience_service.mongo.erasure.tombstones import Tombstones
from audience_service.mongo.store import Store
from tests.support.waiting import eventually

SEALER = PersonSealer(b"s" * 32)


def stored(name: str, **fields: Any) -> dict[str, Any]:
    """A tombstone of the contact `name`."""
    key = f"acme/{ERASURES}/{name}"
    sealed = SEALER.seal(Person((f"contact-{name}",), (f"acme/contact/{name}",)))
    return {"_id": key, "sk": key, "keys": [], "sealed": sealed, "changed_at": now(), **fields}


def test_a_writer_whose_clock_is_behind_is_not_overlooked(store: Store) -> None:
    """The time of a change is that of the database's clock."""
    collection, tombstones = store.database[ERASURES], Tombstones(store.database, SEALER)
    collection.insert_one(stored("a"))
    assert len(tombstones.sks("acme")) == tombstones.version() == 1
    erasures = MongoErasures(store.database, store.scope, store.snapshot_rows, tombstones.expire)
    hours_ago = now() - timedelta(hours=2)
    person = SEALER.seal(Person(("contact-b",), ("acme/contact/b",)))
    erasures.store("acme", Tombstone("b", frozenset(), person, hours_ago, hours_ago), Deadline.after(10))
    assert tombstones.sks("acme") == {"acme/contact/a", "acme/contact/b"}
    assert tombstones.version() == 2


def test_a_writer_whose_clock_is_ahead_hides_no_one(store: Store) -> None:
    """Its tombstone is from a day later; the next one is read all the same."""
    collection, tombstones = store.database[ERASURES], Tombstones(store.database, SEALER)
    collection.insert_one(stored("a", changed_at=now() + timedelta(days=1)))
    assert tombstones.sks("acme") == {"acme/contact/a"}
    collection.insert_one(stored("b"))
    tombstones.expire()
    assert tombstones.sks("acme") == {"acme/contact/a", "acme/contact/b"}


@pytest.mark.parametrize("problem", ["", "away"])
def test_calls_that_wait_share_a_read(store: Store, monkeypatch: pytest.MonkeyPatch, problem: str) -> None:
    """Each would otherwise wait for a slow read, or for the limit of one that fails, one after the other."""
    reads, arrivals, may_end, passed = [], set[str](), threading.Event(), [0.0]

    class Slow(Tombstones):
        def _read(self) -> None:
            reads.append(1)
            assert may_end.wait(40)
            passed[0] = 2.5
            if problem:
                raise StoreUnavailable(problem)

    def monotonic() -> float:
        found = time.monotonic() + passed[0]
        arrivals.add(threading.current_thread().name)
        return found

    tombstones, callers = Slow(store.database, SEALER), {f"caller_{number}" for number in range(4)}
    monkeypatch.setattr(tombstones_module, "time", SimpleNamespace(monotonic=monotonic))
    with ThreadPoolExecutor(4, "caller") as pool:
        calls = [pool.submit(tombstones.sks, "acme") for _ in callers]
        eventually(lambda: bool(reads) and callers <= arrivals)
        may_end.set()
        assert [str(call.exception() or "") for call in calls] == [problem] * 4
    assert reads == [1]


def test_the_deadline_of_a_call_does_not_end_the_read(store: Store) -> None:
    """Calls of other orgs wait for the same read."""
    tombstones = Tombstones(store.database, SEALER)
    store.database[ERASURES].insert_one(stored("a"))
    with pymongo.timeout(1e-9):
        assert tombstones.sks("acme") == {"acme/contact/a"}


def test_a_read_that_takes_too_long_is_no_passed_deadline(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls that waited have time left, and may try again."""
    monkeypatch.setattr(tombstones_module, "_READ_TIMEOUT_SECONDS", 1e-9)
    with pytest.raises(StoreUnavailable, match="within 1e-09 s"):
        Tombstones(store.database, SEALER).sks("acme")


def test_a_call_after_a_failure_reads_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is back must serve at once."""
    tombstones = Tombstones(store.database, SEALER)
    with monkeypatch.context() as patch:
        patch.setattr(tombstones, "_read", Mock(side_effect=StoreUnavailable("away")))
        with pytest.raises(StoreUnavailable, match="away"):
            tombstones.sks("acme")
    assert tombstones.sks("acme") == frozenset()
