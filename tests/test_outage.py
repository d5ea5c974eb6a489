"""A database that is unreachable from the start or during a call: what the caller gets and what is released."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from audience_service.mongo.store import mongo_store
from tests.conftest import URI, Service
from tests.support.client import Client, Refusal
from tests.support.command import held_port
from tests.support.proxy import Proxy, health, run_mongo_service, run_store_service, wait_until_serving
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

ALL_CONTACTS = {"datatype": "contact", "where": {}}


def test_a_database_away_at_start_is_unavailable_and_unhealthy(refused: Any) -> None:
    with (
        held_port() as closed,
        run_mongo_service(f"mongodb://127.0.0.1:{closed}/?serverSelectionTimeoutMS=200") as service,
    ):
        client = service.client("acme")
        for rpc, request in (
            ("EstimateReach", {"filter": ALL_CONTACTS}),
            ("StreamMembers", {"filter": ALL_CONTACTS}),
            ("CreateSnapshot", {"filter": ALL_CONTACTS}),
            ("GetSnapshot", {"id": "snapshot-1"}),
            ("DiffSnapshots", {"fromSnapshotId": "snapshot-1", "toSnapshotId": "snapshot-2"}),
            ("CheckMembership", {"audienceIds": ["segment-1"], "contactIds": ["contact-1"]}),
            ("ListAudiencesOfContact", {"contactId": "contact-1"}),
            ("ExplainMembership", {"filter": ALL_CONTACTS, "contactId": "contact-1"}),
            ("GetSegment", {"id": "segment-1"}),
            ("WatchMembership", {"audienceId": "segment-1"}),
            ("CreateSegment", {"segment": {"name": "x", "filter": ALL_CONTACTS}}),
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


def test_a_service_on_a_reachable_store_is_healthy(service: Service) -> None:
    wait_until_serving(service)


def test_a_database_outage_midway_is_unavailable_and_the_cursor_resumes(
    real_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audience_service.mongo.membership.repository.CURSOR_BATCH_SIZE", 10)
    monkeypatch.setattr("audience_service.mongo.membership.repository.CURSOR_BATCH_SIZE", 10)
    database = real_service.store.database
    ids = sorted(real_service.insert("outage", [{"data": {"pad": "x" * 500}} for _ in range(3_000)]))
    at = urlsplit(URI)
    proxy = Proxy(at.hostname or "127.0.0.1", at.port or 27017)
    uri = f"mongodb://127.0.0.1:{proxy.port}/?serverSelectionTimeoutMS=300"
    with run_mongo_service(uri, database.name) as service:
        request = {"filter": ALL_CONTACTS, "batchSize": 10, "fields": ["pad"]}
        stream = service.client("outage").call("StreamMembers", request)
        first = next(stream)
        proxy.disconnect()
        received = [m.id for m in first.members]
        cursor = first.cursor
        with pytest.raises(grpc.RpcError) as caught:
            for message in stream:
                assert not message.HasField("totals"), "an interrupted stream looks complete"
                received += [m.id for m in message.members]
                cursor = message.cursor
        refusal = Refusal(caught.value)
        assert (refusal.code.name, refusal.info.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
        assert service.open_stream_count == 0
    rest = list(real_service.client("outage").call("StreamMembers", {**request, "cursor": cursor}))
    received += [m.id for message in rest for m in message.members]
    assert received == ids
    assert rest[-1].totals.member_count == len(ids)


def test_silent_connections_free_their_threads_at_the_deadline(real_service: Service, refused: Any) -> None:
    at = urlsplit(URI)
    proxy = Proxy(at.hostname or "127.0.0.1", at.port or 27017)
    uri = f"mongodb://127.0.0.1:{proxy.port}/?serverSelectionTimeoutMS=500&heartbeatFrequencyMS=500"
    store = mongo_store(uri, real_service.store.database.name)
    with run_store_service(store, max_concurrent_queries=4, org_share=1.0) as service:
        client = service.client("swallowed")
        assert client.count(filter=ALL_CONTACTS) == 0
        proxy.drop_packets()
        with ThreadPoolExecutor(4) as pool:
            calls = [
                pool.submit(lambda: refused(lambda: client.call("EstimateReach", {"filter": ALL_CONTACTS}, timeout=1)))
                for _ in range(4)
            ]
            codes = {call.result().code.name for call in calls}
        assert codes <= {"DEADLINE_EXCEEDED", "UNAVAILABLE"}
        proxy.restore()

        def answers() -> bool:
            try:
                return bool(client.call("EstimateReach", {"filter": ALL_CONTACTS}, timeout=2).count == 0)
            except grpc.RpcError:
                return False

        eventually(answers)
    proxy.disconnect()


class Caller:
    """A thread that calls all the time, and counts the calls that succeeded since the last failure."""

    def __init__(self, client: Client, stopping: threading.Event) -> None:
        self.succeeded = 0
        self.codes: set[str] = set()
        self._client, self._stopping = client, stopping
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._client.call("EstimateReach", {"filter": ALL_CONTACTS}, timeout=2)
                self.succeeded += 1
            except grpc.RpcError as error:
                self.succeeded = 0
                self.codes.add(Refusal(error).code.name)

    def join(self) -> None:
        """Wait for the last call."""
        self._thread.join(60)


def test_calls_recover_from_a_blackout(real_service: Service) -> None:
    """All connections of before stay dead, as behind a firewall that lost their state; the monitor's too."""
    at = urlsplit(URI)
    proxy = Proxy(at.hostname or "127.0.0.1", at.port or 27017)
    stopping = threading.Event()
    with run_mongo_service(f"mongodb://127.0.0.1:{proxy.port}/", real_service.store.database.name) as service:
        callers = [Caller(service.client("blackout"), stopping) for _ in range(8)]
        try:
            eventually(lambda: all(caller.succeeded > 2 for caller in callers))
            proxy.drop_packets()
            eventually(lambda: all("UNAVAILABLE" in caller.codes for caller in callers), seconds=60)
            proxy.restore()
            eventually(lambda: all(caller.succeeded > 5 for caller in callers), seconds=60)
        finally:
            stopping.set()
            for caller in callers:
                caller.join()
        assert all(caller.succeeded > 5 for caller in callers), "a dead connection was left"
        assert set().union(*(caller.codes for caller in callers)) <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
    proxy.disconnect()


def test_reflection_uses_few_threads(service: Service) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    never = threading.Event()

    def silence() -> Iterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        never.wait(60)

    eventually(lambda: service.app.server.admission.reflection_streams.open_count == 0)  # earlier tests' may be ending
    streams = [stub.ServerReflectionInfo(silence()) for _ in range(8)]
    codes = []
    for stream in streams:
        try:
            next(stream)
            codes.append("OK")
        except grpc.RpcError as error:
            codes.append(error.code().name)
    assert sorted(codes) == ["OK"] * 4 + ["RESOURCE_EXHAUSTED"] * 4
    assert service.client("open").count(filter=ALL_CONTACTS) == 0
    for stream in streams:
        stream.cancel()
    never.set()
