"""The database away, gone midway, and clients that vanish: what the caller sees and what is freed."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import grpc
import pymongo.monitoring
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from audience_service.domain.caller import Deadline
from audience_service.mongo.store import Store, embedded_store, mongo_store
from tests.client import Refusal
from tests.conftest import URI, Service, run_service
from tests.waiting import eventually

EVERYONE = {"datatype": "contact", "where": {}}


class Proxy:
    """A way to the database that can be cut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        swallowed = False
        try:
            while data := source.recv(65536):
                swallowed = swallowed or not self._open
                if not swallowed:
                    sink.sendall(data)
        except OSError:
            pass
        sink.close()

    def swallow(self) -> None:
        """From now on let nothing through and close nothing, as a firewall that forgot the connections does."""
        self._open = False

    def heal(self) -> None:
        """Let new connections through again."""
        self._open = True

    def cut(self) -> None:
        """Close everything, as a database that dies does."""
        self._listener.close()
        for end in self._sockets:
            with closing(end):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue


@contextmanager
def served(uri: str, database: str = "audience_test_outage") -> Iterator[Service]:
    """A service on a URI."""
    yield from run_service("mongodb", mongo_store(uri, database))


@contextmanager
def served_store(store: Store, **settings: Any) -> Iterator[Service]:
    """A service on a store."""
    yield from run_service("mongodb", store, **settings)


def health(service: Service) -> int:
    """What a health check says."""
    stub: Any = health_pb2_grpc.HealthStub(service.channel)
    return int(stub.Check(health_pb2.HealthCheckRequest(service="audience.v1.ReachService")).status)


def test_a_database_away_at_start_is_unavailable_and_unhealthy(refused: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()[1]
    with served(f"mongodb://127.0.0.1:{nobody}/?serverSelectionTimeoutMS=200") as service:
        client = service.client("acme")
        for rpc, request in (
            ("EstimateReach", {"filter": EVERYONE}),
            ("StreamMembers", {"filter": EVERYONE}),
            ("CreateSnapshot", {"filter": EVERYONE}),
            ("GetSnapshot", {"id": "snapshot-1"}),
            ("DiffSnapshots", {"fromId": "snapshot-1", "toId": "snapshot-2"}),
            ("CheckMembership", {"audienceIds": ["segment-1"], "contactIds": ["contact-1"]}),
            ("ListAudiencesOfContact", {"contactId": "contact-1"}),
            ("ExplainMembership", {"filter": EVERYONE, "contactId": "contact-1"}),
            ("GetSegment", {"id": "segment-1"}),
            ("WatchMembership", {"audienceId": "segment-1"}),
            ("CreateSegment", {"segment": {"name": "x", "filter": EVERYONE}}),
            ("CreateCustomAudience", {"customAudience": {"name": "x", "type": "file_upload"}}),
            ("GetCustomAudience", {"id": "custom-1"}),
            ("ListCustomAudiences", {}),
        ):
            refusal = refused(lambda rpc=rpc, request=request: client.call(rpc, request))
            assert refusal.details, (rpc, refusal.code, refusal.message)
            assert (refusal.code.name, refusal.info.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
            assert refusal.retry_seconds is not None
            assert refusal.retry_seconds > 0
        assert health(service) == health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_service_on_a_living_store_is_healthy(service: Service) -> None:
    eventually(lambda: health(service) == health_pb2.HealthCheckResponse.SERVING)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cursors that go back to the database every few records."""
    monkeypatch.setattr("audience_service.mongo.members.CURSOR_BATCH", 10)


def test_a_database_gone_midway_is_unavailable_and_the_cursor_resumes(
    real_service: Service, small_batches: None
) -> None:
    database = real_service.store.database
    ids = sorted(real_service.insert("outage", [{"data": {"pad": "x" * 500}} for _ in range(3_000)]))
    at = urlsplit(URI)
    proxy = Proxy(at.hostname or "127.0.0.1", at.port or 27017)
    uri = f"mongodb://127.0.0.1:{proxy.port}/?serverSelectionTimeoutMS=300"
    with served(uri, database.name) as service:
        request = {"filter": EVERYONE, "batchSize": 10, "fields": ["pad"]}
        stream = service.client("outage").call("StreamMembers", request)
        first = next(stream)
        proxy.cut()
        received = [m.id for m in first.members]
        cursor = first.cursor
        with pytest.raises(grpc.RpcError) as caught:
            for message in stream:
                assert not message.HasField("totals"), "a stream that was cut looks whole"
                received += [m.id for m in message.members]
                cursor = message.cursor
        refusal = Refusal(caught.value)
        assert (refusal.code.name, refusal.info.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
        assert service.app.server.slots.open == 0
    rest = list(real_service.client("outage").call("StreamMembers", {**request, "cursor": cursor}))
    received += [m.id for message in rest for m in message.members]
    assert received == ids
    assert rest[-1].totals.member_count == len(ids)


def test_connections_that_swallow_answers_cost_no_thread_past_the_deadline(real_service: Service, refused: Any) -> None:
    at = urlsplit(URI)
    proxy = Proxy(at.hostname or "127.0.0.1", at.port or 27017)
    uri = f"mongodb://127.0.0.1:{proxy.port}/?serverSelectionTimeoutMS=500&heartbeatFrequencyMS=500"
    store = mongo_store(uri, real_service.store.database.name)
    with served_store(store, threads=4, max_streams=3) as service:
        client = service.client("swallowed")
        assert client.count(filter=EVERYONE) == 0
        proxy.swallow()
        with ThreadPoolExecutor(4) as pool:
            calls = [
                pool.submit(lambda: refused(lambda: client.call("EstimateReach", {"filter": EVERYONE}, timeout=1)))
                for _ in range(4)
            ]
            codes = {call.result().code.name for call in calls}
        assert codes <= {"DEADLINE_EXCEEDED", "UNAVAILABLE"}
        proxy.heal()

        def answers() -> bool:
            try:
                return bool(client.call("EstimateReach", {"filter": EVERYONE}, timeout=2).count == 0)
            except grpc.RpcError:
                return False

        eventually(answers, seconds=20)
    proxy.cut()


def test_reflection_holds_few_threads(service: Service) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    never = threading.Event()

    def silence() -> Iterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        never.wait(20)

    streams = [stub.ServerReflectionInfo(silence()) for _ in range(8)]
    codes = []
    for stream in streams:
        try:
            next(stream)
            codes.append("OK")
        except grpc.RpcError as error:
            codes.append(error.code().name)
    assert sorted(codes) == ["OK"] * 4 + ["RESOURCE_EXHAUSTED"] * 4
    assert service.client("open").count(filter=EVERYONE) == 0
    for stream in streams:
        stream.cancel()
    never.set()


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
    real_service: Service, small_batches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_service.insert("vanish", [{"data": {"pad": "x" * 2_000}} for _ in range(3_000)])
    watch = CursorWatch()
    original = pymongo.MongoClient

    def watched(*args: Any, **kwargs: Any) -> Any:
        return original(*args, event_listeners=[watch], **kwargs)

    monkeypatch.setattr("audience_service.mongo.collections.MongoClient", watched)
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
        monkeypatch.setattr(f"audience_service.domain.narrowing.{name}", 1)
    with served(URI, real_service.store.database.name) as service:
        slots = service.app.server.slots
        stream = service.client("slices").call("StreamReach", {"filter": EVERYONE})
        assert not next(stream).exact
        stream.cancel()
        left = time.monotonic()
        eventually(lambda: slots.open == 0)
        assert time.monotonic() - left < 1
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
