"""A world of contacts as a model knows it, and a change feed over it that is late and breaks."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from audience_service.domain.watch.model import ChangedKeys
from tests.conftest import envelope

ORG, AUDIENCE = "model", "segment-watched"
KEYS = [f"{number:02}" for number in range(14)]
START = datetime(2026, 3, 1, tzinfo=UTC)
MONTH_AGO = {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}


@dataclass(frozen=True)
class Contact:
    """What the model knows of a contact."""

    score: int
    opened: datetime
    state: str = "active"


def opened_recently(contact: Contact, clock: datetime) -> bool:
    return contact.opened >= clock - timedelta(days=30)


DEFINITIONS: list[tuple[dict[str, Any], Callable[[Contact, datetime], bool]]] = [
    ({"score": {"$gte": 5}}, lambda contact, _: contact.score >= 5),
    ({"score": {"$lt": 4}}, lambda contact, _: contact.score < 4),
    ({"lastOpened": {"$gte": MONTH_AGO}}, opened_recently),
    (
        {"$or": [{"score": 9}, {"score": {"$gte": 2}, "lastOpened": {"$gte": MONTH_AGO}}]},
        lambda contact, clock: contact.score == 9 or (contact.score >= 2 and opened_recently(contact, clock)),
    ),
]


@dataclass
class World:
    """The truth: contacts, the definition, the clock; and for each contact what was true since its last event."""

    database: Any
    clock: datetime = START
    definition: int = 0
    version: int = -1
    contacts: dict[str, Contact] = field(default_factory=dict)
    truths: dict[str, set[Any]] = field(default_factory=lambda: {key: set() for key in KEYS})
    events: list[dict[str, Any]] = field(default_factory=list)
    members_by_events: set[str] = field(default_factory=set)
    change_stream: "FakeChangeStream" = field(default_factory=lambda: FakeChangeStream())
    causes: set[str] = field(default_factory=set)

    def members(self) -> set[str]:
        """The current members."""
        return {key for key in KEYS if self._is_member((self.contacts.get(key), self.definition), self.clock)}

    def write(self, key: str, contact: Contact | None) -> None:
        """Write a contact, or delete its record."""
        self.change_stream.record_change(key, removed=contact is None)
        collection = self.database["contact"]
        if contact is None:
            self.contacts.pop(key, None)
            collection.delete_one({"sk": f"{ORG}/contact/{key}"})
        else:
            self.contacts[key] = contact
            data = {"score": contact.score, "lastOpened": contact.opened}
            record = envelope(ORG, {"id": key, "state": contact.state, "data": data})
            collection.replace_one({"sk": record["sk"]}, record, upsert=True)

    def define(self, number: int) -> None:
        """Edit the segment."""
        self.definition = number
        self.version += 1
        record = {"pk": AUDIENCE, "sk": f"{ORG}/segment/watched", "datatype": "segment", "version": self.version}
        data = {"name": "m", "type": "dynamic", "filter": {"datatype": "contact", "where": DEFINITIONS[number][0]}}
        # Inserted, since the test engine writes the time in for "$$NOW" in an update.
        self.database["segment"].delete_one({"pk": AUDIENCE})
        self.database["segment"].insert_one({**record, "name": "m", "data": data})

    def record_truth(self) -> None:
        """Note what is true now."""
        for key, truths in self.truths.items():
            truths.add((self.contacts.get(key), self.definition, self.clock))

    def check_inserted(self, rows: list[dict[str, Any]]) -> None:
        """Check the events that were inserted into the event log."""
        for row in rows:
            key, entered = row["sk"].rpartition("/")[2], row["change"] == "entered"
            assert row["seq"] == len(self.events) + 1, "the event log has a gap"
            assert entered == (key not in self.members_by_events), "an event is doubled"
            clocks = {row["at"], self.clock}
            seen = [
                self._is_member((contact, definition), clock)
                for contact, definition, truth_time in self.truths[key]
                for clock in (*clocks, truth_time)
            ]
            assert entered in seen, "an event is invented"
            assert not self.events or row["at"] >= self.events[-1]["at"], "time goes back"
            (self.members_by_events.add if entered else self.members_by_events.discard)(key)
            self.truths[key] = {(self.contacts.get(key), self.definition, self.clock)}
            self.events.append(row)
            self.causes.add(row["cause"])

    def _is_member(self, evaluated: tuple[Contact | None, int], clock: datetime) -> bool:
        contact, definition = evaluated
        return contact is not None and contact.state == "active" and DEFINITIONS[definition][1](contact, clock)


class FakeChangeStream:
    """A change feed that is late, that breaks and goes on, as the model decides."""

    def __init__(self) -> None:
        self.is_streaming = True
        self.pending: list[tuple[str, bool]] = []
        self.complete_at: datetime | None = None
        self.subscriptions: list[FakeSubscription] = []

    def subscribe(self, org: str, datatype: str) -> "FakeSubscription":
        self.subscriptions.append(FakeSubscription(self, datatype))
        return self.subscriptions[-1]

    def close(self) -> None:
        """A fake subscription holds no resources."""

    def record_change(self, key: str, *, removed: bool) -> None:
        """Record a write, which `deliver` sends later."""
        self.pending.append((key, removed))

    def deliver(self, clock: datetime, limit: int = 10**6) -> None:
        """Send the recorded changes in order."""
        delivered, self.pending = self.pending[:limit], self.pending[limit:]
        for subscription in self.subscriptions:
            for key, removed in delivered:
                subscription.keys.add(f"{ORG}/contact/{key}")
                subscription.complete = subscription.complete and not removed
        if not self.pending:
            self.complete_at = clock

    def advance(self, rng: random.Random, clock: datetime) -> None:
        """Send some changes; fail and recover now and then."""
        self.deliver(clock, rng.choice([1, 3, 100]))
        if rng.random() < 0.05:
            self.pending = []
            for subscription in self.subscriptions:
                subscription.keys, subscription.complete = set(), False


class FakeSubscription:
    """A subscriber to the world's changes."""

    def __init__(self, change_stream: FakeChangeStream, datatype: str) -> None:
        self._change_stream = change_stream
        self.datatype = datatype
        self.keys: set[str] = set()
        self.complete = False

    @property
    def is_streaming(self) -> bool:
        return self._change_stream.is_streaming

    @property
    def has_pending(self) -> bool:
        return bool(self.keys) or not self.complete

    @property
    def is_complete(self) -> bool:
        return self.complete

    def drain(self) -> ChangedKeys:
        complete = self.complete and self.is_streaming
        drained = ChangedKeys(frozenset(self.keys), complete, self._change_stream.complete_at if complete else None)
        self.keys, self.complete = set(), self.is_streaming
        return drained

    def close(self) -> None:
        if self in self._change_stream.subscriptions:
            self._change_stream.subscriptions.remove(self)
