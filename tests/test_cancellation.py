"""Calls that are given up, by their clients or at their deadlines: what they hold is freed."""

from typing import Any

import pymongo.monitoring
import pytest

from audience_service.domain.core.context import Deadline
from audience_service.mongo.embedded.store import embedded_store
from tests.conftest import URI, Service, run_service
from tests.support.proxy import run_mongo_service
from tests.support.waiting import eventually

ALL_CONTACTS = {"datatype": "contact", "where": {}}


class CursorMonitor(pymongo.monitoring.CommandListener):
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
    monitor = CursorMonitor()
    original = pymongo.MongoClient

    def monitored_client(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **{**kwargs, "event_listeners": [monitor]})

    monkeypatch.setattr("audience_service.mongo.core.client.MongoClient", monitored_client)
    monkeypatch.setattr("audience_service.mongo.membership.repository.CURSOR_BATCH_SIZE", 10)
    with run_mongo_service(URI, real_service.store.database.name) as service:
        stream = service.client("vanish").call(
            "StreamMembers", {"filter": ALL_CONTACTS, "batchSize": 10, "fields": ["pad"]}
        )
        next(stream)
        assert service.open_stream_count == 1
        stream.cancel()
        eventually(lambda: service.open_stream_count == 0)
        eventually(lambda: len(monitor.killed) == 1)


class AggregateMonitor(CursorMonitor):
    """Counts the pipelines that are run, except those that sample records for warnings: they end with a match."""

    count = 0

    def started(self, event: pymongo.monitoring.CommandStartedEvent) -> None:
        if event.command_name == "aggregate":
            self.count += "$match" not in event.command["pipeline"][-1]


def test_a_progressive_count_stops_when_its_client_disconnects(
    real_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_service.insert("slices", [{} for _ in range(4_000)])
    monitor = AggregateMonitor()
    original = pymongo.MongoClient
    monkeypatch.setattr(
        "audience_service.mongo.core.client.MongoClient",
        lambda *a, **k: original(*a, **{**k, "event_listeners": [monitor]}),
    )
    for name, value in {"INITIAL_SLICE": 1, "MAX_SLICE_GROWTH": 1, "SAMPLED_SLICE_SECONDS": 0}.items():
        monkeypatch.setattr(f"audience_service.domain.reach.progressive_count.{name}", value)
    with run_mongo_service(URI, real_service.store.database.name) as service:
        stream = service.client("slices").call("StreamReach", {"filter": ALL_CONTACTS})
        assert not next(stream).exact
        stream.cancel()
        eventually(lambda: service.open_stream_count == 0)
        sent_count = monitor.count
        assert service.client("slices").count(filter=ALL_CONTACTS) == 4_000
        assert monitor.count == sent_count + 2, "the count and the member just asked for"
        assert sent_count < 900, "a slice for each landmark would be a thousand"


class LimitMonitor(CursorMonitor):
    """The time limits in ms of the pipelines that are run, except those that sample records for warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[int | None] = []

    def started(self, event: pymongo.monitoring.CommandStartedEvent) -> None:
        if event.command_name == "aggregate" and "$match" not in event.command["pipeline"][-1]:
            self.limits.append(event.command.get("maxTimeMS"))


def test_a_deadline_stops_the_query_in_the_database(
    real_service: Service, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_service.insert("slow", [{"data": {"text": "a" * 60 + str(n)}} for n in range(2_000)])
    slow = {"datatype": "contact", "where": {"$or": [{"text": {"$regex": f".*a.*b.*c.*={n}"}} for n in range(500)]}}
    monitor = LimitMonitor()
    original = pymongo.MongoClient
    monkeypatch.setattr(
        "audience_service.mongo.core.client.MongoClient",
        lambda *a, **k: original(*a, **{**k, "event_listeners": [monitor]}),
    )
    with run_mongo_service(URI, real_service.store.database.name) as service:

        def is_sent() -> bool:
            """Whether the query was sent. On a busy machine the deadline may pass before it is."""
            refusal = refused(lambda: service.client("slow").call("EstimateReach", {"filter": slow}, timeout=0.5))
            assert refusal.code.name == "DEADLINE_EXCEEDED"
            return bool(monitor.limits)

        eventually(is_sent)
        eventually(lambda: len(service.app.server.open_calls) == 0)
    assert all(0 < (limit or 0) <= 500 for limit in monitor.limits)


def test_a_call_without_a_deadline_gets_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    store = embedded_store([], ("contact",))
    left: list[float | None] = []

    def reach(_: Any, org: str, population: Any, deadline: Deadline) -> tuple[int, None]:
        left.append(deadline.remaining())
        return 0, None

    monkeypatch.setattr(type(store.members), "reach", reach)
    for service in run_service("embedded", store, unary_timeout_seconds=7.0):
        all_contacts = {"filter": {"datatype": "contact", "where": {}}}
        service.client("patient").call("EstimateReach", all_contacts, timeout=None)
    assert left[0] is not None
    assert 0 < left[0] <= 7
