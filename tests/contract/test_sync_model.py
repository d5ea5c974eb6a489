"""A model of a platform's list over random histories: at the end it equals the audience.

    AUDIENCE_SYNC_STEPS=2000 AUDIENCE_SYNC_SEEDS=50 pytest -n 0 tests/contract/test_sync_model.py

A seed of 2,000 steps takes 35 to 75 s on a busy machine, so 50 of them take about 45 minutes. AUDIENCE_SYNC_FIRST_SEED
continues after an earlier run.

Contacts share few addresses. They change, consent, leave and are erased; the filter and the fields of the sync change;
members expire on the platform. Two workers run in turn. Each is killed at any call of the storage, also between the
platform's response and the acknowledgement.
"""

import hashlib
import os
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.core.erased import NobodyErased
from audience_service.domain.core.errors import StoreUnavailable
from audience_service.domain.identifiers import platforms
from audience_service.domain.syncs import changes as changes_module
from audience_service.domain.syncs.changes import ChangesPart, ChangesRequest, SyncChanges
from audience_service.domain.syncs.model import Receipt
from audience_service.domain.syncs.scanner import SyncScanner
from audience_service.wiring.core import build_core
from tests.conftest import Service
from tests.support.client import Client
from tests.support.syncs import Key, PlatformList, exported_rows

STEPS = int(os.environ.get("AUDIENCE_SYNC_STEPS", "60"))
SEEDS = int(os.environ.get("AUDIENCE_SYNC_SEEDS", "2"))
FIRST_SEED = int(os.environ.get("AUDIENCE_SYNC_FIRST_SEED", "0"))
CONTACTS = [f"{n:02}" for n in range(12)]
EMAILS = [None, "none", *(f"{name}@example.com" for name in "abcdefg")]
PHONES = [None, *(f"+1202555010{n}" for n in range(6))]
WORKERS = ("one", "two")
REFUSED = hashlib.sha256(b"g@example.com").hexdigest()
"""The platform refuses to add rows with this address."""


class Busy(Exception):
    """Another worker has the lease of the sync."""


class Killed(BaseException):
    """The process of a worker ends here."""


class Fragile:
    """A repository that ends the process at one of its calls, before or after it."""

    def __init__(self, repository: Any, budget: "Budget") -> None:
        self._repository = repository
        self._budget = budget

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._repository, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._budget.spend()
            answer = method(*args, **kwargs)
            self._budget.spend()
            return answer

        return method if name == "check_supported" else call


class Budget:
    """The number of calls before the process is killed; None for ever."""

    def __init__(self) -> None:
        self.left: int | None = None

    def spend(self) -> None:
        """One call less."""
        if self.left == 0:
            raise Killed  # also in what would release a lease
        if self.left:
            self.left -= 1


class World:
    """An org, a sync, the platform's list and two workers."""

    def __init__(self, service: Service, client: Client, org: str, rng: random.Random) -> None:
        self.rng, self.client, self.org = rng, client, org
        self.database = service.store.database
        self.contacts = self.database["contact"]
        self.segment = client.create(name="members", filter=self._filter(40)).id
        self.excluded = client.create(name="excluded", filter={"datatype": "contact", "where": {"tags": "out"}}).id
        self.selection = {
            "audienceIds": [self.segment],
            "excludeAudienceIds": [self.excluded],
            "consentFields": ["ads"],
            "platform": "meta",
            "fields": ["email", "phone", "city"],
        }
        sync = {**self.selection, "name": "list", "resendAfter": "46656000s"}
        self.sync_id = client.call("CreateSync", {"sync": sync}).id
        self.platform = PlatformList("meta", ("email", "phone", "city"))
        self.budget = Budget()
        storage, core = service.store.sync_storage, build_core(service.settings, service.store, NobodyErased())
        parts = (storage.syncs, storage.rows, storage.members, storage.batches)
        syncs, rows, members, batches = (Fragile(each, self.budget) for each in parts)
        scanner: Any = SyncScanner(core.selection_resolver, syncs, rows, members)
        self.changes = SyncChanges(syncs, rows, batches, scanner, core.export_log)
        self.delivered: dict[int, list[tuple[str, ...]]] = {}
        self.open_count = 0
        for key in CONTACTS:
            self.insert(key)

    def steps(self) -> list[tuple[Callable[[], object], int]]:
        """What may happen, and how often."""
        return [
            (lambda: self.edit(email=self.rng.choice(EMAILS)), 6),
            (lambda: self.edit(phone=self.rng.choice(PHONES)), 6),
            (lambda: self.edit(emails=self.rng.sample(EMAILS, 2)), 2),
            (lambda: self.edit(address={"city": self.rng.choice(("Rome", "Oslo"))}), 2),
            (lambda: self.edit(ads=self.rng.random() < 0.7), 4),
            (lambda: self.edit(score=self.rng.randrange(100)), 6),
            (lambda: self.edit(tags=self.rng.choice((["out"], []))), 2),
            (lambda: self.edit(status=self.rng.choice(("active", "unsubscribed"))), 1),
            (self.erase, 3),
            (lambda: self.insert(self.rng.choice(CONTACTS)), 4),
            (self.edit_filter, 1),
            (self.edit_fields, 1),
            (self.expire, 1),
            (self.work, 12),
            (self.run_to_the_end, 1),
        ]

    def insert(self, key: str) -> None:
        """A contact, new or back."""
        sk = f"{self.org}/contact/{key}"
        data = {
            "email": self.rng.choice(EMAILS),
            "phone": self.rng.choice(PHONES),
            "ads": self.rng.random() < 0.8,
            "score": self.rng.randrange(100),
            "address": {"city": "Rome"},
        }
        record = {"pk": f"contact-{key}", "sk": sk, "datatype": "contact", "version": 0, "data": data}
        self.contacts.replace_one({"sk": sk}, record, upsert=True)

    def edit(self, **data: Any) -> None:
        """Change any contact."""
        changes = {f"data.{name}": value for name, value in data.items()}
        self.contacts.update_one({"sk": f"{self.org}/contact/{self.rng.choice(CONTACTS)}"}, {"$set": changes})

    def erase(self) -> None:
        """Delete a contact, or mark it as deleted."""
        match = {"sk": f"{self.org}/contact/{self.rng.choice(CONTACTS)}"}
        if self.rng.random() < 0.5:
            self.contacts.delete_one(match)
        else:
            self.contacts.update_one(match, {"$set": {"state": "deleted"}})

    def edit_filter(self) -> None:
        """Change whose list it is."""
        segment = {"id": self.segment, "filter": self._filter(self.rng.randrange(80))}
        self.client.call("UpdateSegment", {"segment": segment, "updateMask": "filter"})

    def edit_fields(self) -> None:
        """Change the form of the rows."""
        self.selection["fields"] = self.rng.choice((["email"], ["email", "phone"], ["phone", "city", "email"]))
        sync = {"id": self.sync_id, "fields": self.selection["fields"]}
        self.client.call("UpdateSync", {"sync": sync, "updateMask": "fields"})

    def expire(self) -> None:
        """The platform forgets members, 540 days later."""
        old = {"$set": {"sent_at": now() - timedelta(days=541)}}
        self.database["audience_sync_row"].update_many(
            {"sk": {"$regex": f"^{self.org}/"}, "sent_at": {"$exists": True}}, old
        )
        self._age_acknowledgements(timedelta(days=541))
        self.platform.keys.clear()

    def expire_leases(self) -> None:
        """An hour passes: leases of workers that are gone expire, and so do acknowledgements that they began."""
        past = {"$set": {"lease_until": now() - timedelta(hours=1)}}
        for name in ("audience_sync", "audience_sync_batch"):
            match = {"sk": {"$regex": f"^{self.org}/"}, "lease_until": {"$exists": True}}
            self.database[name].update_many(match, past)
        self._age_acknowledgements(timedelta(hours=1))

    def _age_acknowledgements(self, age: timedelta) -> None:
        """Let acknowledgements that began and died be at least this old."""
        match = {"sk": {"$regex": f"^{self.org}/"}, "state": "APPLYING"}
        began = {"$min": {"receipt.acknowledged_at": now() - age}}
        self.database["audience_sync_batch"].update_many(match, began)

    def work(self) -> bool:
        """Run a worker until it is killed. Returns whether it was."""
        if self.rng.random() < 0.3:
            self.expire_leases()
        return self.run_worker(self.rng.choice(WORKERS), self.rng.randrange(1, 60))

    def run_worker(self, worker: str, budget: int) -> bool:
        """Run a worker until it is killed or has no more batches. Returns whether it was killed."""
        self.budget.left = budget
        try:
            # Another worker that was killed may have the lease, or this one repeats what it acknowledged.
            with suppress(Busy, StoreUnavailable):
                self.follow(worker)
        except Killed:
            return True
        finally:
            self.budget.left = None
        return False

    def follow(self, worker: str) -> int:
        """Send the batches of a stream, and acknowledge each immediately or at the end. Returns their number."""
        count, waiting = 0, list[tuple[ChangesPart, list[int]]]()
        stream = self.changes.stream(context(self.org), ChangesRequest(self.sync_id, worker))
        rows: list[tuple[str, ...]] = []
        for part in stream:
            if not isinstance(part, ChangesPart):
                self.open_count = part.open_batch_count
                continue
            rows += [tuple(row) for row in part.rows]
            if not part.ends_batch:
                continue
            earlier = self.delivered.setdefault(part.batch.number, rows)
            assert earlier == rows, "a batch is redelivered as it was"
            waiting.append((part, self.send(part, rows)))
            rows, count = [], count + 1
            self.budget.spend()  # between send and acknowledge
            self.rng.shuffle(waiting)
            while waiting and self.rng.random() < 0.7:
                self.acknowledge(*waiting.pop())
        self.check_open_batches()
        for part, refused in waiting:
            self.acknowledge(part, refused)
        return count

    def send(self, part: ChangesPart, rows: list[tuple[str, ...]]) -> list[int]:
        """The platform applies a batch, and refuses to add some rows. It reads identifiers by their names."""
        refused = [n for n, row in enumerate(rows) if part.batch.operation == "add" and REFUSED in row]
        keys: set[Key] = set()
        for row in (row for n, row in enumerate(rows) if n not in refused):
            for name, indexes in part.format.keys:
                values = [row[index] for index in indexes]
                if all(values):
                    keys.add((name, *values))
        if part.batch.operation == "add":
            self.platform.keys |= keys
        else:
            self.platform.keys -= keys
        return refused

    def acknowledge(self, part: ChangesPart, refused: list[int]) -> None:
        """Acknowledge a batch, often twice."""
        receipt = Receipt(part.batch.row_count, 0, None, len(refused), now())
        for _ in range(self.rng.choice((1, 1, 2))):
            self.changes.acknowledge(context(self.org), self.sync_id, part.batch.number, receipt, refused)

    def check_open_batches(self) -> None:
        """No identifier is in two open batches."""
        in_batch = self.database["audience_sync_row"].find(
            {"sk": {"$regex": f"^{self.org}/"}, "batch": {"$exists": True}}, {"keys": 1, "batch": 1}
        )
        batch_of: dict[str, str] = {}
        for row in in_batch:
            for key in row["keys"]:
                assert batch_of.setdefault(key, row["batch"]) == row["batch"]

    def run_to_the_end(self) -> None:
        """Workers run until there is nothing to send; the list then equals the audience."""
        self.expire_leases()
        for worker in WORKERS * 20:
            self.expire_leases()
            self.open_count = 0
            if self.follow(worker) == 0 and not self.open_count:
                break
        else:
            raise AssertionError("the sync has changes without end")
        model = PlatformList("meta", self.selection["fields"])
        rows = exported_rows(self.client, self.selection)
        accepted = model.keys_of(row for row in rows if REFUSED not in row)
        assert accepted <= self.platform.keys <= model.keys_of(rows)

    def _filter(self, score: int) -> dict[str, Any]:
        return {"datatype": "contact", "where": {"score": {"$gte": score}}}


def context(org: str) -> RequestContext:
    """A call of the org."""
    return RequestContext(Caller("worker", org, frozenset()), Deadline.after(120))


def busy(_: RequestContext) -> None:
    """Do not wait for the lease of a sync."""
    raise Busy


@pytest.fixture
def worlds(real_service: Service, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], World]:
    """A world for each seed. A batch has three rows, and no worker waits."""
    monkeypatch.setattr(changes_module, "pause", busy)
    small = tuple(replace(rules, batch_size=3) for rules in platforms.PLATFORM_RULES)
    monkeypatch.setattr(platforms, "PLATFORM_RULES", small)
    return lambda seed: _world(real_service, seed)


def _world(service: Service, seed: int) -> World:
    org = f"model{next(service.names)}x"
    return World(service, service.client(org), org, random.Random(seed))


@pytest.mark.slow
@pytest.mark.timeout(60 + 2 * STEPS)
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + SEEDS))
def test_after_the_last_acknowledgement_the_list_equals_the_audience(worlds: Callable[[int], World], seed: int) -> None:
    """For any history of contacts, consent, filters, expiries, kills and two workers."""
    world = worlds(seed)
    steps, weights = zip(*world.steps(), strict=True)
    for _ in range(STEPS):
        [step] = world.rng.choices(steps, weights)
        step()
    world.run_to_the_end()
