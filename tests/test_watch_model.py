"""Tracking compared with a plain model: random writes, edits, clocks, kills and two servers, on the real engine.

Two trackers, each with its own store, run in threads. The model lets one of them at a time run to its next database
command. So a tracker may pause before any command while the other one takes over, and continue after it has lost its
lease. It may be killed before, after and during a command, or get a connection error. Each insert into the event log is
checked immediately, the events of watchers whenever the world is quiet.
"""

import random
import threading
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Any

import pytest

from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.filters import FilterCompiler
from audience_service.domain.history.history import MembershipHistory
from audience_service.domain.history.model import ChangeKind, Event, Watch
from audience_service.domain.history.size_history import SizeHistoryReader, TimeRange
from audience_service.domain.snapshots.reader import SnapshotReader
from audience_service.domain.watch import reconciler as reconciler_module
from audience_service.domain.watch import stream as stream_module
from audience_service.domain.watch.registry import WatchRegistry
from audience_service.domain.watch.snapshot_start import SnapshotBootstrap
from audience_service.domain.watch.stream import WatchStreams
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.segments.repository import MongoSegments
from audience_service.mongo.watch import event_log as event_log_module
from audience_service.mongo.watch import history as history_module
from audience_service.mongo.watch.event_log import MongoEventLog
from audience_service.mongo.watch.history import MongoHistory
from audience_service.mongo.watch.registry import MongoWatches
from tests.conftest import Service
from tests.support.audiences import segment_resolver
from tests.support.watch_servers import Server
from tests.support.watch_world import AUDIENCE, DEFINITIONS, KEYS, ORG, Contact, World

pytestmark = pytest.mark.slow

STEPS = 3_000
CAUSES = {"data", "definition", "time"}
CTX = RequestContext(Caller("model", ORG, frozenset()), Deadline(None))


class Listener:
    """A client that watches, goes away at any message, and resumes with the token of the last it has dealt with."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._idle = threading.Event()
        watches, event_log = MongoWatches(world.database, TenantScope()), MongoEventLog(world.database, TenantScope())
        audiences = segment_resolver(MongoSegments(world.database, TenantScope()), FilterCompiler(["contact"]))
        registry = WatchRegistry(watches, timedelta(days=100_000), 1, lambda: None, lambda: self._world.clock)
        notifier: Any = self
        tokens = TokenCodec(b"model")
        bootstrap = SnapshotBootstrap(MongoHistory(world.database, TenantScope()), SnapshotReader(None, None))  # type: ignore[arg-type]
        self._streams = WatchStreams(registry, event_log, bootstrap, audiences, tokens, 1e9, notifier)
        self.token = ""
        self.started_at: int | None = None
        self.received: list[tuple[str, str]] = []

    def subscribe(self, topic: Any) -> Any:
        """In place of the bell."""
        return nullcontext(self)

    def topics(self) -> Any:
        """The streams that are open; this one needs no shared state."""
        return ()

    def wait(self, seconds: float) -> None:
        """There are no more events now."""
        self._idle.set()

    def receive(self, limit: int) -> None:
        """Take up to so many messages."""
        self._idle.clear()
        ctx = RequestContext(CTX.caller, Deadline(None, self._idle))
        stream = self._streams.watch(ctx, AUDIENCE, self.token)
        for _, batch in zip(range(limit), stream, strict=False):
            self.received += [(event.change.kind.value, event.change.sk) for event in batch.events]
            self.token = batch.resume_token
            if self.started_at is None:
                self.started_at = len(self._world.events)
                assert not batch.events
        stream.close()


class Model:
    """One run."""

    def __init__(self, database: Any, seed: int, *, is_streaming: bool) -> None:
        self.random = random.Random(seed)
        self.world = World(database)
        self.world.change_stream.is_streaming = is_streaming
        self.world.define(0)
        for key in KEYS:
            self.world.write(key, self.contact())
        self.listeners = [Listener(self.world) for _ in range(3)]
        self.servers = [Server(self.world) for _ in range(2)]
        self.turn, self.quiet_steps = 0, 0
        self.watches, self.repository = MongoWatches(database, TenantScope()), MongoHistory(database, TenantScope())
        audiences = segment_resolver(MongoSegments(database, TenantScope()), FilterCompiler(["contact"]))
        self.history = MembershipHistory(self.watches, self.repository, audiences)
        self.answers: list[tuple[datetime, list[str]]] = []
        self.late_count = 0

    def has_seen_enough(self) -> bool:
        """Whether chance has brought about what the run is for."""
        kills = sum(server.handoff.kills for server in self.servers)
        many = len(self.world.events) > STEPS / 20 and kills > STEPS / 400
        return many and self.late_count > 0 and self.world.causes == CAUSES

    def contact(self) -> Contact:
        days = self.random.choice([0, 1, 5, 29, 30, 31, 90])
        state = "archived" if self.random.random() < 0.15 else "active"
        return Contact(self.random.randrange(10), self.world.clock - timedelta(days=days), state)

    def start(self) -> None:
        """The first watch; the world stays as it is until it has started."""
        self.listeners[0].receive(1)
        self.settle_down()
        self.world.members_by_events = self.world.members()
        self.world.record_truth()
        for listener in self.listeners:
            listener.receive(1)
            assert listener.started_at == 0
        self.initial_members = self.world.members()

    def step(self) -> None:
        """Whatever happens next."""
        if self.quiet_steps:
            self.idle_step()
            return
        chance = self.random.random()
        if chance < 0.7:
            if self.servers[self.turn].handoff.paused_at == "insert_many" and self.random.random() < 0.3:
                self.stall()
            if self.random.random() < 0.04:
                self.turn = 1 - self.turn
            fates = ["kill before", "kill after", "kill during", "break before", "break after"]
            self.servers[self.turn].grant(self.random.choice(fates) if self.random.random() < 0.015 else "")
        elif chance < 0.88:
            key = self.random.choice(KEYS)
            self.world.write(key, None if self.random.random() < 0.04 else self.contact())
        elif chance < 0.895:
            self.world.clock += timedelta(seconds=self.random.choice([1, 10, 20, 3_600, 86_400, 5 * 86_400]))
        elif chance < 0.905:
            self.world.define(self.random.randrange(len(DEFINITIONS)))
            self.world.record_truth()
            for key in self.random.sample(KEYS, 6):
                self.world.write(key, self.contact())
        else:
            self.world.change_stream.advance(self.random, self.world.clock)
            self.random.choice(self.listeners).receive(self.random.choice([1, 2, 100]))
            if self.random.random() < 0.3:
                self.ask_history()
        self.world.record_truth()

    def stall(self) -> None:
        """A tracker pauses with events that it has found until another one scans, which finds no more."""
        self.turn = 1 - self.turn
        self.world.clock += timedelta(seconds=self.random.choice([1, 20, 60]))
        self.world.record_truth()
        for key in self.world.members_by_events ^ self.world.members():
            while (key in self.world.members_by_events) != (key in self.world.members()):
                self.world.write(key, self.contact())
        self.quiet_steps = self.random.choice([0, 0, 40, 80])

    def idle_step(self) -> None:
        """Trackers continue and receive changes while the data stays as it is; a paused one may still append."""
        self.quiet_steps -= 1
        chance = self.random.random()
        if chance < 0.1:
            self.world.change_stream.advance(self.random, self.world.clock)
        elif chance < 0.13:
            self.world.clock += timedelta(seconds=self.random.choice([1, 5]))
            self.world.record_truth()
        else:
            self.turn = 1 - self.turn if chance < 0.16 else self.turn
            self.servers[self.turn].grant()

    def ask_history(self) -> None:
        """Request the members at a timestamp, and store the answer."""
        watch = self.watch()
        assert watch.retained_from is not None
        assert watch.watermark is not None
        seconds = (watch.watermark - watch.retained_from).total_seconds()
        at = watch.retained_from + timedelta(seconds=self.random.uniform(0, seconds))
        at = self.random.choice([at, watch.watermark, watch.retained_from])
        self.answers.append((at, self.answer(at)))

    def answer(self, at: datetime) -> list[str]:
        """The members that the history returns at a timestamp."""
        batches = self.history.members(CTX, self.history.find(CTX, AUDIENCE, at), ["data.score"], 3, "")
        return [record["sk"].rpartition("/")[2] for records in batches for record in records]

    def watch(self) -> Watch:
        """How far the audience is tracked."""
        watch = self.watches.get(ORG, AUDIENCE, CTX.deadline)
        assert watch is not None
        return watch

    def settle_down(self) -> None:
        """Change and kill nothing until two reconciliations have processed everything and watchers have the events.

        One is not enough: a process that paused before this may append what it evaluated then, right after the scan of
        the first. The second finds it.
        """
        settled = 0
        for step in (
            timedelta(seconds=1),
            timedelta(minutes=5),
            timedelta(minutes=5),
        ):  # longer than an abandoned lease
            self.world.clock += step
            self.world.record_truth()
            self.world.change_stream.deliver(self.world.clock)
            settled = settled + 1 if self.is_settled(self.world.clock) else 0
            if settled == 2:
                return
        raise AssertionError("no round comes to its end")

    def is_settled(self, started: datetime) -> bool:
        """Let both servers go on until one has finished a round that began, or heard of all that changed, by then."""
        watches = MongoWatches(self.world.database, TenantScope())
        for number in range(400):
            self.servers[number % 2].grant()
            watch = watches.get(ORG, AUDIENCE, CTX.deadline)
            if watch and watch.watermark and watch.watermark >= started and watch.seq == len(self.world.events):
                return True
        return False

    def check(self) -> None:
        """Compare the events that watchers received with the model."""
        self.settle_down()
        assert self.world.members_by_events == self.world.members(), "an event is lost"
        expected = [(row["change"], row["sk"]) for row in self.world.events]
        for listener in self.listeners:
            listener.receive(10**6)
            assert listener.received == expected

    def check_history(self) -> None:
        """Compare the known history, and earlier answers, with the event log."""
        events = self.events()
        times = [event.occurred_at for event in events]
        assert times == sorted(times), "time goes back"
        for _ in range(20):
            self.ask_history()
        for at, answer in self.answers:
            assert answer == self.members_at(events, at), "an answer was false"
        for at in self.random.sample([at for at, _ in self.answers], 20):
            time_range = TimeRange(at, None, self.random.randint(1, 100))
            for point in SizeHistoryReader(self.watches, self.repository).history(CTX, AUDIENCE, time_range).points:
                assert point.size == len(self.members_at(events, point.at))

    def events(self) -> list[Event]:
        """All events, which equal those of the world, at their final timestamps."""
        watch = self.watch()
        event_log = MongoEventLog(self.world.database, TenantScope())
        events = event_log.read(ORG, watch.watch_epoch, 0, watch.seq, 10**6, CTX.deadline)
        received = [(event.change.kind.value, event.change.sk) for event in events]
        assert received == [(row["change"], row["sk"]) for row in self.world.events]
        self.late_count = sum(
            event.occurred_at != row["at"] for event, row in zip(events, self.world.events, strict=True)
        )
        return events

    def members_at(self, events: list[Event], timestamp: datetime) -> list[str]:
        """The members at a timestamp, by the events."""
        members = set(self.initial_members)
        for event in events:
            if event.occurred_at <= timestamp:
                (members.add if event.change.kind is ChangeKind.ENTERED else members.discard)(event.change.pk[8:])
        return sorted(members)

    def end(self) -> None:
        for server in self.servers:
            server.handoff.stop(server.thread)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("is_streaming", [False, True], ids=["compared", "is_streaming"])
@pytest.mark.parametrize("seed", range(2))
def test_no_event_is_lost_duplicated_or_false(
    real_service: Service, monkeypatch: pytest.MonkeyPatch, seed: int, *, is_streaming: bool
) -> None:
    monkeypatch.setattr(event_log_module, "BATCH_SIZE", 3)
    monkeypatch.setattr(reconciler_module, "BATCH_SIZE", 2)
    monkeypatch.setattr(stream_module, "BATCH_SIZE", 2)
    monkeypatch.setattr(history_module, "CURSOR_BATCH_SIZE", 4)
    database = real_service.store.database.client[f"{real_service.store.database.name}_model"]
    try:
        model = Model(database, seed, is_streaming=is_streaming)
        model.start()
        number = 0
        while number < STEPS or (number < 5 * STEPS and not model.has_seen_enough()):
            model.step()
            number += 1
            if number % 250 == 0:
                model.check()
                model.check_history()
        model.end()
        assert model.has_seen_enough()
    finally:
        database.client.drop_database(database.name)
