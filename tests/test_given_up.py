"""Calls that are given up, by their clients or at their deadlines: what they hold is freed."""

import time
from typing import Any

import pymongo.monitoring
import pytest

from audience_service.domain.caller import Deadline
from audience_service.mongo.store import embedded_store
from tests.conftest import URI, Service, run_service
from tests.proxy import served
from tests.waiting import eventually

EVERYONE = {"datatype": "contact", "where": {}}


class CursorWatch(pymongo.monitoring.CommandListener):
    """Counts cursors that are opened and killed."""

    def __init__(self) -> None:
        self.killed: list[int] = []

    def started(self, event: pymongo.monitoring.CommandStartedEvent) -> None:
        if event.command_name == "killCursors":
            self.killed += event.command["cursors"]

    def succeeded(self, event: pymongo.monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: pymongo.monitoring.CommandFailedEvent) -> None: ...


def test_a_client_that_vanishes_frees_its_cursor_and_its_slot(
    real_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_service.insert("vanish", [{"data": {"pad": "x" * 2_000}} for _ in range(3_000)])
    watch = CursorWatch()
    original = pymongo.MongoClient

    def watched(*args: Any, **kwargs: Any) -> Any:
        return original(*args, event_listeners=[watch], **kwargs)

    monkeypatch.setattr("audience_service.mongo.collections.MongoClient", watched)
    monkeypatch.setattr("audience_service.mongo.members.CURSOR_BATCH", 10)
    with served(URI, real_service.store.database.name) as service:
        slots = service.app.server.slots
        stream = service.client("vanish").call(
            "StreamMembers", {"filter": EVERYONE, "batchSize": 10, "fields": ["pad"]}
        )
        next(stream)
        assert slots.open == 1
        stream.cancel()
        eventually(lambda: slots.open == 0)
        eventually(lambda: len(watch.killed) == 1)


class Aggregates(CursorWatch):
    """Counts the pipelines that are run."""

    count = 0

    def started(self, event: pymongo.monitoring.CommandStartedEvent) -> None:
        self.count += event.command_name == "aggregate"


def test_a_count_in_slices_whose_client_goes_away_asks_nothing_more(
    real_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_service.insert("slices", [{} for _ in range(4_000)])
    watch = Aggregates()
    original = pymongo.MongoClient
    monkeypatch.setattr(
        "audience_service.mongo.collections.MongoClient", lambda *a, **k: original(*a, event_listeners=[watch], **k)
    )
    for name in ("_FIRST_SLICE", "_GROWTH"):
        monkeypatch.setattr(f"audience_service.domain.reach.narrowing.{name}", 1)
    with served(URI, real_service.store.database.name) as service:
        slots = service.app.server.slots
        stream = service.client("slices").call("StreamReach", {"filter": EVERYONE})
        assert not next(stream).exact
        stream.cancel()
        eventually(lambda: slots.open == 0)
        asked = watch.count
        assert service.client("slices").count(filter=EVERYONE) == 4_000
        assert watch.count == asked + 2, "the count and the member just asked for"
        assert asked < 900, "a slice for each landmark would be a thousand"


def test_a_deadline_stops_the_query_in_the_database(real_service: Service, refused: Any) -> None:
    real_service.insert("slow", [{"data": {"text": "a" * 60 + str(n)}} for n in range(2_000)])
    slow = {"datatype": "contact", "where": {"$or": [{"text": {"$regex": f".*a.*b.*c.*={n}"}} for n in range(500)]}}
    begun = time.monotonic()
    refusal = refused(lambda: real_service.client("slow").call("EstimateReach", {"filter": slow}, timeout=0.5))
    assert refusal.code.name == "DEADLINE_EXCEEDED"
    assert time.monotonic() - begun < 5


def test_a_call_that_comes_without_a_deadline_is_held_to_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    store = embedded_store([], ("contact",))
    left: list[float | None] = []

    def reach(_: Any, org: str, population: Any, deadline: Deadline) -> tuple[int, None]:
        left.append(deadline.remaining())
        return 0, None

    monkeypatch.setattr(type(store.members), "reach", reach)
    for service in run_service("embedded", store, unary_timeout_seconds=7.0):
        everyone = {"filter": {"datatype": "contact", "where": {}}}
        service.client("patient").call("EstimateReach", everyone, timeout=None)
    assert left[0] is not None
    assert 0 < left[0] <= 7
