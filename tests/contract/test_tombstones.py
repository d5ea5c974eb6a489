"""How a process reads tombstones: one failure for all who wait, and no clock that hides them."""

from datetime import timedelta
from typing import Any

import pytest

from audience_service.domain.core.clock import now
from audience_service.domain.core.errors import StoreUnavailable
from audience_service.domain.erasure.model import Person
from audience_service.domain.erasure.sealing import PersonSealer
from audience_service.mongo.core.collections import ERASURES
from audience_service.mongo.erasure import tombstones as tombstones_module
from audience_service.mongo.erasure.tombstones import Tombstones
from audience_service.mongo.store import Store

SEALER = PersonSealer(b"s" * 32)


def stored(name: str, **fields: Any) -> dict[str, Any]:
    """A tombstone of the contact `name`."""
    key = f"acme/{ERASURES}/{name}"
    sealed = SEALER.seal(Person((f"contact-{name}",), (f"acme/contact/{name}",)))
    return {"_id": key, "sk": key, "keys": [], "sealed": sealed, "changed_at": now(), **fields}


def test_a_writer_whose_clock_is_ahead_hides_no_one(store: Store) -> None:
    """Its tombstone is from a day later; the next one is read all the same."""
    collection, tombstones = store.database[ERASURES], Tombstones(store.database, SEALER)
    collection.insert_one(stored("a", changed_at=now() + timedelta(days=1)))
    assert tombstones.sks("acme") == {"acme/contact/a"}
    collection.insert_one(stored("b"))
    tombstones.expire()
    assert tombstones.sks("acme") == {"acme/contact/a", "acme/contact/b"}


def test_calls_that_wait_share_a_failure(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would otherwise wait for the limit of a read, one after the other."""
    tombstones, reads = Tombstones(store.database, SEALER), 0

    def fail(_: Tombstones) -> None:
        nonlocal reads
        reads += 1
        raise StoreUnavailable("away")

    monkeypatch.setattr(tombstones_module.Tombstones, "_read", fail)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="away"):
            tombstones.sks("acme")
    assert reads == 1
