"""Tracking against a plain model: random writes, edits, clocks, kills and two servers at once, on the real engine.

Two trackers, each with a store of its own, run in threads of which one at a time goes on, from one command to the
database to the next, as the model decides. So a tracker may stand still before any command while the other one takes
over, and go on when nobody counts on it any more; it may be killed before, after and in the midst of a command, or told
that the connection broke. What is inserted into the ledger is checked at once, what watchers are told is checked at
every rest.
"""

import random
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, BulkWriteError

from audience_service.domain.audiences import Audiences
from audience_service.domain.caller import Call, Caller, Deadline
from audience_service.domain.errors import StoreUnavailable
from audience_service.domain.filters import FilterCompiler
from audience_service.domain.ready_snapshots import ReadySnapshots
from audience_service.domain.tokens import TokenSealer
from audience_service.domain.watches import rounds as rounds_module
from audience_service.domain.watches import watching as watching_module
from audience_service.domain.watches.bell import Bell
from audience_service.domain.watches.held import Pace
from audience_service.domain.watches.past import Past
from audience_service.domain.watches.rounds import Rounds
from audience_service.domain.watches.sizes import Sizes, Span
from audience_service.domain.watches.starts import Starts
from audience_service.domain.watches.tracker import Tracker
from audience_service.domain.watches.wanted import Wanted
from audience_service.domain.watches.watch import Change, Changes, Event, Watch
from audience_service.domain.watches.watching import Watching
from audience_service.mongo import ledger as ledger_module
from audience_service.mongo import past as past_module
from audience_service.mongo.ledger import MongoLedger
from audience_service.mongo.past import MongoPast
from audience_service.mongo.segments import MongoSegments
from audience_service.mongo.starts import MongoStarts
from audience_service.mongo.watches import MongoWatches
from tests.conftest import Service, envelope

STEPS = 3_000
ORG, AUDIENCE = "model", "segment-watched"
CALL = Call(Caller("model", ORG, frozenset()), Deadline(None))
KEYS = [f"{number:02}" for number in range(14)]
START = datetime(2026, 3, 1, tzinfo=UTC)
MONTH_AGO = {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}


@dataclass(frozen=True)
class Contact:
    """What the model knows of a contact."""

    score: int
    opened: datetime
    state: str = "active"


def opened_lately(contact: Contact, clock: datetime) -> bool:
    return contact.opened >= clock - timedelta(days=30)


DEFINITIONS: list[tuple[dict[str, Any], Callable[[Contact, datetime], bool]]] = [
    ({"score": {"$gte": 5}}, lambda contact, _: contact.score >= 5),
    ({"score": {"$lt": 4}}, lambda contact, _: contact.score < 4),
    ({"lastOpened": {"$gte": MONTH_AGO}}, opened_lately),
    (
        {"$or": [{"score": 9}, {"score": {"$gte": 2}, "lastOpened": {"$gte": MONTH_AGO}}]},
        lambda contact, clock: contact.score == 9 or (contact.score >= 2 and opened_lately(contact, clock)),
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
    past: dict[str, set[Any]] = field(default_factory=lambda: {key: set() for key in KEYS})
    ledger: list[dict[str, Any]] = field(default_factory=list)
    inside: set[str] = field(default_factory=set)
    feed: "Feed" = field(default_factory=lambda: Feed())
    causes: set[str] = field(default_factory=set)

    def members(self) -> set[str]:
        """Who is in now."""
        return {key for key in KEYS if self._is_in((self.contacts.get(key), self.definition), self.clock)}

    def put(self, key: str, contact: Contact | None) -> None:
        """Write a contact, or delete its record."""
        self.feed.changed(key, removed=contact is None)
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

    def remember(self) -> None:
        """Note what is true now."""
        for key, past in self.past.items():
            past.add((self.contacts.get(key), self.definition, self.clock))

    def inserted(self, rows: list[dict[str, Any]]) -> None:
        """Check events that have come to stand in the ledger."""
        for row in rows:
            key, entered = row["sk"].rpartition("/")[2], row["change"] == "entered"
            assert row["seq"] == len(self.ledger) + 1, "the ledger has a gap"
            assert entered == (key not in self.inside), "an event is doubled"
            clocks = {row["at"], self.clock}
            seen = [
                self._is_in((contact, definition), clock)
                for contact, definition, then in self.past[key]
                for clock in (*clocks, then)
            ]
            assert entered in seen, "an event is invented"
            assert not self.ledger or row["at"] >= self.ledger[-1]["at"], "time goes back"
            (self.inside.add if entered else self.inside.discard)(key)
            self.past[key] = {(self.contacts.get(key), self.definition, self.clock)}
            self.ledger.append(row)
            self.causes.add(row["cause"])

    def _is_in(self, truth: tuple[Contact | None, int], clock: datetime) -> bool:
        contact, definition = truth
        return contact is not None and contact.state == "active" and DEFINITIONS[definition][1](contact, clock)


class Feed:
    """A change feed that is late, that breaks and goes on, as the model decides."""

    def __init__(self) -> None:
        self.follows = True
        self.late: list[tuple[str, bool]] = []
        self.complete_at: datetime | None = None
        self.subscriptions: list[Subscribed] = []

    def subscribe(self, org: str, datatype: str) -> "Subscribed":
        self.subscriptions.append(Subscribed(self, datatype))
        return self.subscriptions[-1]

    def close(self) -> None:
        """Nothing to do."""

    def changed(self, key: str, *, removed: bool) -> None:
        """A record is written, of which will be told later."""
        self.late.append((key, removed))

    def deliver(self, clock: datetime, most: int = 10**6) -> None:
        """Tell of what has happened, in order."""
        told, self.late = self.late[:most], self.late[most:]
        for subscription in self.subscriptions:
            for key, removed in told:
                subscription.keys.add(f"{ORG}/contact/{key}")
                subscription.complete = subscription.complete and not removed
        if not self.late:
            self.complete_at = clock

    def happen(self, chance: random.Random, clock: datetime) -> None:
        """Tell of some changes; break down and come back now and then."""
        self.deliver(clock, chance.choice([1, 3, 100]))
        if chance.random() < 0.05:
            self.late = []
            for subscription in self.subscriptions:
                subscription.keys, subscription.complete = set(), False


class Subscribed:
    """One who is told."""

    def __init__(self, feed: Feed, datatype: str) -> None:
        self._feed = feed
        self.datatype = datatype
        self.keys: set[str] = set()
        self.complete = False

    @property
    def follows(self) -> bool:
        return self._feed.follows

    @property
    def has_news(self) -> bool:
        return bool(self.keys) or not self.complete

    @property
    def is_complete(self) -> bool:
        return self.complete

    def take(self) -> Changes:
        complete = self.complete and self.follows
        taken = Changes(frozenset(self.keys), complete, self._feed.complete_at if complete else None)
        self.keys, self.complete = set(), self.follows
        return taken

    def close(self) -> None:
        if self in self._feed.subscriptions:
            self._feed.subscriptions.remove(self)


class Killed(BaseException):
    """The process is gone."""


class Refuted(BaseException):
    """What the tracker did is wrong; no error that it could take for one of its own."""


class Baton:
    """Lets a tracker's thread go on by one command at a time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._go, self._stands = threading.Semaphore(0), threading.Semaphore(0)
        self._fate = ""
        self.stands_at = ""
        self.kills = 0

    def grant(self, fate: str = "") -> None:
        """Let the command run at which the tracker stands, with what becomes of it, until it stands at the next."""
        self._fate = fate
        self._go.release()
        self.await_stand()

    def await_stand(self) -> None:
        """Wait until the tracker stands at a command."""
        assert self._stands.acquire(timeout=20), "a tracker hangs"

    def run(self, name: str, operation: Callable[..., Any], arguments: Any) -> Any:
        """Run a command as the fate has it."""
        self.stands_at = name
        self._stands.release()
        self._go.acquire()
        fate = self._fate
        if fate in ("stop", "kill before"):
            raise Killed(fate)
        if fate == "break before":
            raise AutoReconnect("broken")
        answer = self._checked(name, operation, arguments, cut=fate == "kill midst")
        if fate.startswith("kill"):
            raise Killed(fate)
        if fate == "break after":
            raise AutoReconnect("broken")
        return answer

    def _checked(self, name: str, operation: Callable[..., Any], arguments: Any, *, cut: bool) -> Any:
        if name != "insert_many":
            return operation()
        try:
            return self._insert(operation, *arguments, cut=cut)
        except AssertionError as error:
            raise Refuted from error

    def _insert(self, operation: Callable[..., Any], rows: Any, *, cut: bool) -> Any:
        if cut:
            del rows[(len(rows) + 1) // 2 :]
        try:
            answer = operation()
        except BulkWriteError as error:
            self._world.inserted(rows[: error.details["nInserted"]])
            raise
        self._world.inserted(rows)
        return answer

    def stopped(self, thread: threading.Thread) -> None:
        """End the tracker's thread."""
        self._fate = "stop"
        self._go.release()
        thread.join(20)


class Gated:
    """A database, or a collection of it, whose commands wait for the baton."""

    READS = ("find", "find_one", "aggregate")
    WRITES = (
        "insert_many",
        "bulk_write",
        "update_one",
        "update_many",
        "delete_one",
        "delete_many",
        "find_one_and_update",
    )

    def __init__(self, inner: Any, baton: Baton) -> None:
        self._inner, self._baton = inner, baton

    def __getitem__(self, name: str) -> "Gated":
        return Gated(self._inner[name], self._baton)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in (*self.READS, *self.WRITES):
            return found

        def command(*args: Any, **kwargs: Any) -> Any:
            return self._baton.run(name, lambda: found(*args, **kwargs), args)

        return command


class Server:
    """A process that tracks, in a thread; killed, it begins anew."""

    def __init__(self, world: World) -> None:
        self.baton = Baton(world)
        self._world = world
        self._database: Any = Gated(world.database, self.baton)
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._live, daemon=True)
        self.thread.start()
        self.baton.await_stand()

    def grant(self, fate: str = "") -> None:
        self.baton.grant(fate)
        if self.error:
            raise self.error

    def _live(self) -> None:
        while self.error is None:
            try:
                tracker = self._tracker()
                while True:
                    with suppress(StoreUnavailable):
                        tracker.step()
            except Killed as killed:
                if str(killed) == "stop":
                    return
                self.baton.kills += 1
            except BaseException as error:
                self.error = error
                self.baton.run("", lambda: None, ())

    def _tracker(self) -> Tracker:
        watches, ledger = MongoWatches(self._database), MongoLedger(self._database)
        audiences = Audiences(MongoSegments(self._database), FilterCompiler(["contact"]))
        rounds = Rounds(watches, ledger, audiences, Bell(), timedelta(days=100_000), lambda: self._world.clock)
        ticks = iter(range(0, 10**9, 2))  # every look at the watch takes two seconds, so that all is due soon
        clock = lambda: self._world.clock  # noqa: E731
        return Tracker(watches, rounds, self._world.feed, Pace(0), clock, lambda: float(next(ticks)))


class Listener:
    """A client that watches, goes away at any message, and resumes with the token of the last it has dealt with."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._idle = threading.Event()
        watches, ledger = MongoWatches(world.database), MongoLedger(world.database)
        audiences = Audiences(MongoSegments(world.database), FilterCompiler(["contact"]))
        wanted = Wanted(watches, timedelta(days=100_000), 1, lambda: None, lambda: self._world.clock)
        bell: Any = self
        sealer = TokenSealer(b"model")
        starts = Starts(MongoStarts(world.database), ReadySnapshots(None, None))  # type: ignore[arg-type]
        self._watching = Watching(wanted, ledger, starts, audiences, sealer, 1e9, bell)
        self.token = ""
        self.begun_at: int | None = None
        self.told: list[tuple[str, str]] = []

    def listen(self, reason: Any) -> Any:
        """In place of the bell."""
        return nullcontext(self)

    def wait(self, seconds: float) -> None:
        """There is nothing more to tell now."""
        self._idle.set()

    def take(self, most: int) -> None:
        """Take up to so many messages."""
        self._idle.clear()
        call = Call(CALL.caller, Deadline(None, self._idle))
        stream = self._watching.watch(call, AUDIENCE, self.token)
        for _, batch in zip(range(most), stream, strict=False):
            self.told += [(event.flip.change.value, event.flip.sk) for event in batch.events]
            self.token = batch.resume_token
            if self.begun_at is None:
                self.begun_at = len(self._world.ledger)
                assert not batch.events
        stream.close()


class Model:
    """One run."""

    def __init__(self, database: Any, seed: int, *, followed: bool) -> None:
        self.random = random.Random(seed)
        self.world = World(database)
        self.world.feed.follows = followed
        self.world.define(0)
        for key in KEYS:
            self.world.put(key, self.contact())
        self.listeners = [Listener(self.world) for _ in range(3)]
        self.servers = [Server(self.world) for _ in range(2)]
        self.turn = 0
        self.watches, self.repository = MongoWatches(database), MongoPast(database)
        audiences = Audiences(MongoSegments(database), FilterCompiler(["contact"]))
        self.past = Past(self.watches, self.repository, audiences)
        self.answers: list[tuple[datetime, list[str]]] = []
        self.late = 0

    def contact(self) -> Contact:
        days = self.random.choice([0, 1, 5, 29, 30, 31, 90])
        state = "archived" if self.random.random() < 0.15 else "active"
        return Contact(self.random.randrange(10), self.world.clock - timedelta(days=days), state)

    def begin(self) -> None:
        """The first watch; nothing else happens until it has begun."""
        self.listeners[0].take(1)
        self.rest()
        self.world.inside = self.world.members()
        self.world.remember()
        for listener in self.listeners:
            listener.take(1)
            assert listener.begun_at == 0
        self.began = self.world.members()

    def step(self) -> None:
        """Whatever happens next."""
        chance = self.random.random()
        if chance < 0.7:
            if self.servers[self.turn].baton.stands_at == "insert_many" and self.random.random() < 0.3:
                self.stall()
            if self.random.random() < 0.04:
                self.turn = 1 - self.turn
            fates = ["kill before", "kill after", "kill midst", "break before", "break after"]
            self.servers[self.turn].grant(self.random.choice(fates) if self.random.random() < 0.015 else "")
        elif chance < 0.88:
            key = self.random.choice(KEYS)
            self.world.put(key, None if self.random.random() < 0.04 else self.contact())
        elif chance < 0.895:
            self.world.clock += timedelta(seconds=self.random.choice([1, 10, 20, 3_600, 86_400, 5 * 86_400]))
        elif chance < 0.905:
            self.world.define(self.random.randrange(len(DEFINITIONS)))
            self.world.remember()
            for key in self.random.sample(KEYS, 6):
                self.world.put(key, self.contact())
        else:
            self.world.feed.happen(self.random, self.world.clock)
            self.random.choice(self.listeners).take(self.random.choice([1, 2, 100]))
            if self.random.random() < 0.3:
                self.ask()
        self.world.remember()

    def stall(self) -> None:
        """A tracker stands still with events that it has found, until another may look, who finds nothing any more."""
        self.turn = 1 - self.turn
        self.world.clock += timedelta(seconds=self.random.choice([1, 20, 60]))
        self.world.remember()
        for key in self.world.inside ^ self.world.members():
            while (key in self.world.inside) != (key in self.world.members()):
                self.world.put(key, self.contact())

    def ask(self) -> None:
        """Ask who was in at a moment, and remember what was answered."""
        watch = self.watch()
        assert watch.known_since is not None
        assert watch.as_of is not None
        seconds = (watch.as_of - watch.known_since).total_seconds()
        at = watch.known_since + timedelta(seconds=self.random.uniform(0, seconds))
        at = self.random.choice([at, watch.as_of, watch.known_since])
        self.answers.append((at, self.answer(at)))

    def answer(self, at: datetime) -> list[str]:
        """Who is told to have been in at a moment."""
        batches = self.past.members(CALL, self.past.find(CALL, AUDIENCE, at), ["data.score"], 3, "")
        return [record["sk"].rpartition("/")[2] for records in batches for record in records]

    def watch(self) -> Watch:
        """How far the audience is tracked."""
        watch = self.watches.get(ORG, AUDIENCE, CALL.deadline)
        assert watch is not None
        return watch

    def rest(self) -> None:
        """Nothing changes and nobody is killed until a round has seen it all; watchers come to know of it."""
        for patience in (timedelta(seconds=1), timedelta(minutes=5)):  # longer than a lease that nobody holds any more
            self.world.clock += patience
            self.world.remember()
            self.world.feed.deliver(self.world.clock)
            if self.is_at_rest(self.world.clock):
                return
        raise AssertionError("no round comes to its end")

    def is_at_rest(self, begun: datetime) -> bool:
        """Let both servers go on until one has finished a round that began, or heard of all that changed, by then."""
        watches = MongoWatches(self.world.database)
        for number in range(400):
            self.servers[number % 2].grant()
            watch = watches.get(ORG, AUDIENCE, CALL.deadline)
            if watch and watch.as_of and watch.as_of >= begun and watch.seq == len(self.world.ledger):
                return True
        return False

    def check(self) -> None:
        """Compare what watchers were told with the model."""
        self.rest()
        assert self.world.inside == self.world.members(), "an event is lost"
        told = [(row["change"], row["sk"]) for row in self.world.ledger]
        for listener in self.listeners:
            listener.take(10**6)
            assert listener.told == told

    def check_past(self) -> None:
        """Compare what is known of past moments, and what was answered before, with the ledger."""
        events = self.events()
        times = [event.at for event in events]
        assert times == sorted(times), "time goes back"
        for _ in range(5):
            self.ask()
        for at, told in self.answers:
            assert told == self.members_at(events, at), "an answer was false"
        for at in self.random.sample([at for at, _ in self.answers], 5):
            span = Span(at, None, self.random.randint(1, 100))
            for point in Sizes(self.watches, self.repository).history(CALL, AUDIENCE, span).points:
                assert point.size == len(self.members_at(events, point.at))

    def events(self) -> list[Event]:
        """All events that are told of, which are those of the world, at the times that they have come to have."""
        watch = self.watch()
        ledger = MongoLedger(self.world.database)
        events = ledger.read(ORG, watch.generation, 0, watch.seq, 10**6, CALL.deadline)
        told = [(event.flip.change.value, event.flip.sk) for event in events]
        assert told == [(row["change"], row["sk"]) for row in self.world.ledger]
        self.late += sum(event.at != row["at"] for event, row in zip(events, self.world.ledger, strict=True))
        return events

    def members_at(self, events: list[Event], moment: datetime) -> list[str]:
        """Who was in at a moment, by the events."""
        members = set(self.began)
        for event in events:
            if event.at <= moment:
                (members.add if event.flip.change is Change.ENTERED else members.discard)(event.flip.pk[8:])
        return sorted(members)

    def end(self) -> None:
        for server in self.servers:
            server.baton.stopped(server.thread)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("followed", [False, True], ids=["compared", "followed"])
@pytest.mark.parametrize("seed", range(2))
def test_no_event_is_lost_doubled_or_invented(
    real_service: Service, monkeypatch: pytest.MonkeyPatch, seed: int, *, followed: bool
) -> None:
    monkeypatch.setattr(ledger_module, "_JUDGED", 3)
    monkeypatch.setattr(rounds_module, "_PAGE", 2)
    monkeypatch.setattr(watching_module, "_BATCH", 2)
    monkeypatch.setattr(past_module, "CURSOR_BATCH", 4)
    database = real_service.store.database.client[f"{real_service.store.database.name}_model"]
    try:
        model = Model(database, seed, followed=followed)
        model.begin()
        for number in range(STEPS):
            model.step()
            if number % 250 == 249:
                model.check()
                model.check_past()
        model.end()
        assert len(model.world.ledger) > STEPS / 20
        assert sum(server.baton.kills for server in model.servers) > STEPS / 400
        assert model.world.causes == {"data", "definition", "time"}
        assert model.late
    finally:
        database.client.drop_database(database.name)
