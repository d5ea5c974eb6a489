"""Tracking against a plain model: random writes, edits, clocks, kills and two servers at once, on the real engine.

Two trackers, each with a store of its own, run in threads of which one at a time goes on, from one command to the
database to the next, as the model decides. So a tracker may stand still before any command while the other one takes
over, and go on when nobody counts on it any more; it may be killed before, after and in the midst of a command, or told
that the connection broke. What is inserted into the ledger is checked at once, what watchers are told is checked at
every rest.
"""

import random
import threading
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Any

import pytest

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.caller import Call, Caller, Deadline
from audience_service.domain.filters import FilterCompiler
from audience_service.domain.snapshots.ready import ReadySnapshots
from audience_service.domain.tokens import TokenSealer
from audience_service.domain.watches import rounds as rounds_module
from audience_service.domain.watches import watching as watching_module
from audience_service.domain.watches.past import Past
from audience_service.domain.watches.sizes import Sizes, Span
from audience_service.domain.watches.starts import Starts
from audience_service.domain.watches.wanted import Wanted
from audience_service.domain.watches.watch import Change, Event, Watch
from audience_service.domain.watches.watching import Watching
from audience_service.mongo import ledger as ledger_module
from audience_service.mongo import past as past_module
from audience_service.mongo.ledger import MongoLedger
from audience_service.mongo.past import MongoPast
from audience_service.mongo.segments import MongoSegments
from audience_service.mongo.starts import MongoStarts
from audience_service.mongo.watches import MongoWatches
from tests.conftest import Service
from tests.watch_servers import Server
from tests.watch_world import AUDIENCE, DEFINITIONS, KEYS, ORG, Contact, World

STEPS = 3_000
CAUSES = {"data", "definition", "time"}
CALL = Call(Caller("model", ORG, frozenset()), Deadline(None))


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
        self.turn, self.quiet = 0, 0
        self.watches, self.repository = MongoWatches(database), MongoPast(database)
        audiences = Audiences(MongoSegments(database), FilterCompiler(["contact"]))
        self.past = Past(self.watches, self.repository, audiences)
        self.answers: list[tuple[datetime, list[str]]] = []
        self.late = 0

    def has_seen_enough(self) -> bool:
        """Whether chance has brought about what the run is for."""
        kills = sum(server.baton.kills for server in self.servers)
        many = len(self.world.ledger) > STEPS / 20 and kills > STEPS / 400
        return many and self.late > 0 and self.world.causes == CAUSES

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
        if self.quiet:
            self.look_on()
            return
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
        self.quiet = self.random.choice([0, 0, 40, 80])

    def look_on(self) -> None:
        """Trackers go on, and hear of what has changed, but nothing does: who stood still may append all the same."""
        self.quiet -= 1
        chance = self.random.random()
        if chance < 0.1:
            self.world.feed.happen(self.random, self.world.clock)
        elif chance < 0.13:
            self.world.clock += timedelta(seconds=self.random.choice([1, 5]))
            self.world.remember()
        else:
            self.turn = 1 - self.turn if chance < 0.16 else self.turn
            self.servers[self.turn].grant()

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
        for _ in range(20):
            self.ask()
        for at, told in self.answers:
            assert told == self.members_at(events, at), "an answer was false"
        for at in self.random.sample([at for at, _ in self.answers], 20):
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
        self.late = sum(event.at != row["at"] for event, row in zip(events, self.world.ledger, strict=True))
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
        number = 0
        while number < STEPS or (number < 5 * STEPS and not model.has_seen_enough()):
            model.step()
            number += 1
            if number % 250 == 0:
                model.check()
                model.check_past()
        model.end()
        assert model.has_seen_enough()
    finally:
        database.client.drop_database(database.name)
