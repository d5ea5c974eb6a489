"""What slow, greedy and broken clients get, and that others do not notice."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from audience_service.mongo.embedded.store import embedded_store
from audience_service.pb.audience.v1 import reach_service_pb2
from audience_service.rpc import admission, interceptor, server
from audience_service.rpc.threads import ElasticExecutor
from audience_service.rpc.workloads import Workload
from tests.conftest import Service, run_service
from tests.support import http2
from tests.support.client import Refusal
from tests.support.proxy import health, wait_until_serving
from tests.support.waiting import eventually

ALL_CONTACTS: Any = {"datatype": "contact", "where": {}}
REACH = "/audience.v1.ReachService/EstimateReach"
COUNT_ALL = reach_service_pb2.EstimateReachRequest(filter=ALL_CONTACTS).SerializeToString()
Refused = Callable[..., Refusal]


@contextmanager
def serving(**settings: Any) -> Iterator[Service]:
    """A server of the test's own."""
    yield from run_service("embedded", embedded_store([], ("contact",)), **settings)


@contextmanager
def held_calls(channel: grpc.Channel, path: str, count: int, metadata: Any = None) -> Iterator[list[Any]]:
    """Calls that have sent their headers, and no request."""
    end_event = threading.Event()

    def nothing() -> Iterator[bytes]:
        end_event.wait(60)
        yield from ()

    call: Any = channel.stream_unary(path)
    calls = [call.future(nothing(), metadata=metadata, timeout=60) for _ in range(count)]
    try:
        yield calls
    finally:
        end_event.set()
        for held in calls:
            held.cancel()


def health_stub(service: Service) -> Any:
    """The stub of the health service, whose types lack Watch."""
    return health_pb2_grpc.HealthStub(service.channel)


@pytest.mark.slow
def test_a_call_without_a_token_is_refused_before_its_request_has_come(service: Service) -> None:
    """More such calls than a server has permits end at once, and occupy nothing."""
    with held_calls(service.channel, REACH, 200) as calls:
        refusals = [Refusal(call.exception(timeout=40)) for call in calls]
    assert {(refusal.code.name, refusal.info.reason) for refusal in refusals} == {("UNAUTHENTICATED", "MISSING_TOKEN")}
    assert service.app.server.admission.requests.running_count == 0


@pytest.mark.slow
def test_a_request_that_does_not_come_ends_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then it occupies the share of its org alone: others are answered."""
    monkeypatch.setattr(admission, "_MAX_PENDING_REQUESTS", 8)
    with serving(request_timeout_seconds=4.0) as service:
        wait_until_serving(service)
        requests = service.app.server.admission.requests
        with held_calls(service.channel, REACH, 6, service.client("slow").metadata) as calls:
            eventually(lambda: (requests.running_count, requests.waiting_count) == (2, 4))
            assert service.client("other").count(filter=ALL_CONTACTS) == 0
            assert health(service) == health_pb2.HealthCheckResponse.SERVING
            refusal = Refusal(calls[0].exception(timeout=40))
        assert (refusal.code.name, refusal.info.reason) == ("DEADLINE_EXCEEDED", "CLIENT_TIMEOUT")
        assert "sent no message for 4 s" in refusal.message
        eventually(lambda: (requests.running_count, requests.waiting_count) == (0, 0))


@pytest.mark.slow
def test_a_watch_that_receives_nothing_stops_no_health_check() -> None:
    """Nor the stop of the server. The client's HTTP/2 window is 0, so that no message can be sent to it."""
    with serving(stream_send_timeout_seconds=5.0) as service:
        wait_until_serving(service)
        with http2.stalled_call(service.app.port, "/grpc.health.v1.Health/Watch", b""):
            eventually(lambda: service.app.server.admission.health_watches.open_count == 1)
            assert health(service) == health_pb2.HealthCheckResponse.SERVING
            service.app.stop(grace_seconds=1)


def test_a_watch_of_the_health_sees_each_change() -> None:
    """The status at the beginning, then each other one."""
    with serving() as own:
        wait_until_serving(own)
        watch = health_stub(own).Watch(health_pb2.HealthCheckRequest(), timeout=40)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        own.app.server.set_healthy(healthy=False)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        eventually(lambda: own.app.server.admission.health_watches.open_count == 0)


def test_the_watches_of_a_connection_are_limited(refused: Refused) -> None:
    """Each occupies a thread."""
    with serving() as own:
        stub, request = health_stub(own), health_pb2.HealthCheckRequest()
        watches = [stub.Watch(request, timeout=40) for _ in range(4)]
        for watch in watches:
            next(watch)
        assert refused(lambda: next(stub.Watch(request, timeout=40))).info.reason == "TOO_MANY_STREAMS"
        for watch in watches:
            watch.cancel()


@pytest.mark.slow
def test_held_health_checks_do_not_stop_others(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """They need no token, so a connection has few of them, for a short time."""
    monkeypatch.setattr(interceptor, "_OPEN_REQUEST_TIMEOUT_SECONDS", 4.0)  # all come before the first one ends
    with (
        grpc.insecure_channel(f"127.0.0.1:{service.app.port}", [("grpc.use_local_subchannel_pool", 1)]) as channel,
        held_calls(channel, "/grpc.health.v1.Health/Check", 30) as calls,
    ):
        health(service)  # is answered
        codes = [call.exception(timeout=40).code().name for call in calls]
    assert sorted(codes) == ["DEADLINE_EXCEEDED"] * 8 + ["RESOURCE_EXHAUSTED"] * 22


class BlockedQueries:
    """Makes the counts of one org wait until the test ends."""

    def __init__(self, service: Service, org: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.running = 0
        self.end_event = threading.Event()
        members = service.store.members
        original = type(members).reach

        def reach(store: Any, called_org: str, *arguments: Any) -> Any:
            if called_org == org:
                self.running += 1
                self.end_event.wait(60)
            return original(store, called_org, *arguments)

        monkeypatch.setattr(type(members), "reach", reach)


def test_an_org_that_uses_its_share_delays_no_other_org(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own calls wait, and further ones are refused with the delay to retry after."""
    monkeypatch.setattr(admission, "_REFUSAL_DELAY_SECONDS", 0.01)
    with serving(max_concurrent_queries=4) as service:
        wait_until_serving(service)
        blocked = BlockedQueries(service, "greedy", monkeypatch)
        queries = service.app.server.admission.permits[Workload.QUERY]
        stub: Any = service.channel.unary_unary(REACH)
        request, metadata = COUNT_ALL, service.client("greedy").metadata
        futures = [stub.future(request, metadata=metadata, timeout=60) for _ in range(18)]
        eventually(lambda: (queries.running_count, queries.waiting_count) == (2, 16))
        refusal = Refusal(stub.future(request, metadata=metadata, timeout=60).exception(timeout=40))
        assert (refusal.code.name, refusal.info.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_CALLS")
        assert dict(refusal.info.metadata) == {"limit": "16", "limited": "org"}
        assert 1 <= (refusal.retry_seconds or 0) <= 2
        with held_calls(service.channel, REACH, 1, metadata) as calls:
            refusal = Refusal(calls[0].exception(timeout=40))
        assert refusal.info.reason == "TOO_MANY_CALLS", "and before its request has come"
        assert service.client("other").count(filter=ALL_CONTACTS) == 0
        assert service.client("greedy").call("ListSegments").total_size == 0, "reads have permits of their own"
        assert health(service) == health_pb2.HealthCheckResponse.SERVING
        futures[-1].cancel()
        eventually(lambda: queries.waiting_count == 15)
        blocked.end_event.set()
        assert {future.code().name for future in futures[:-1] if future.exception(timeout=40) is None} == {"OK"}
        eventually(lambda: queries.running_count == 0)


@pytest.mark.slow
def test_a_call_finds_a_place_that_becomes_free_within_its_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not refused then. Until then its request is not received. In production the delay is a second."""
    monkeypatch.setattr(admission, "_REFUSAL_DELAY_SECONDS", 4.0)
    with serving(max_concurrent_queries=4) as service:
        blocked = BlockedQueries(service, "greedy", monkeypatch)
        limits = service.app.server.admission
        stub: Any = service.channel.unary_unary(REACH)
        metadata = service.client("greedy").metadata
        earlier = [stub.future(COUNT_ALL, metadata=metadata, timeout=60) for _ in range(18)]
        eventually(lambda: limits.permits[Workload.QUERY].waiting_count == 16)
        late = stub.future(COUNT_ALL, metadata=metadata, timeout=60)
        eventually(lambda: limits.refusals.open_count == 1)
        blocked.end_event.set()
        assert [call.exception(timeout=40) for call in (*earlier, late)] == [None] * 19


def test_few_refusals_are_delayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones come at once, and a call that its client cancels is not delayed."""
    monkeypatch.setattr(admission, "_REFUSAL_DELAY_SECONDS", 300.0)
    monkeypatch.setattr(admission, "_MAX_REFUSALS_PER_ORG", 1)
    with serving(max_concurrent_queries=4) as service:
        blocked = BlockedQueries(service, "greedy", monkeypatch)
        limits = service.app.server.admission
        stub: Any = service.channel.unary_unary(REACH)
        metadata = service.client("greedy").metadata
        earlier = [stub.future(COUNT_ALL, metadata=metadata, timeout=60) for _ in range(18)]
        eventually(lambda: limits.permits[Workload.QUERY].waiting_count == 16)
        delayed = stub.future(COUNT_ALL, metadata=metadata, timeout=60)
        eventually(lambda: limits.refusals.open_count == 1)
        refusal = Refusal(stub.future(COUNT_ALL, metadata=metadata, timeout=60).exception(timeout=40))
        assert (refusal.code.name, refusal.info.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_CALLS")
        delayed.cancel()
        eventually(lambda: limits.refusals.open_count == 0)
        blocked.end_event.set()
        assert [call.exception(timeout=40) for call in earlier] == [None] * 18


def test_waiting_requests_of_an_org_are_limited_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait undecoded, and the one above the limit is refused with the delay to retry after."""
    monkeypatch.setattr(admission, "_MAX_WAITING_BYTES", 10 * 1024 * 1024)
    with serving(max_concurrent_queries=4) as service:
        blocked = BlockedQueries(service, "greedy", monkeypatch)
        stub: Any = service.channel.unary_unary(REACH)
        metadata = service.client("greedy").metadata
        running = [stub.future(COUNT_ALL, metadata=metadata, timeout=60) for _ in range(2)]
        queries = service.app.server.admission.permits[Workload.QUERY]
        eventually(lambda: queries.running_count == 2)
        waiting = stub.future(b"\xff" * 3_000_000, metadata=metadata, timeout=60)
        eventually(lambda: service.app.server.admission.waiting_bytes.total == 3_000_000)
        refusal = Refusal(stub.future(b"\xff" * 3_000_000, metadata=metadata, timeout=60).exception(timeout=40))
        assert (refusal.code.name, refusal.info.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_CALLS")
        assert dict(refusal.info.metadata) == {"limit": "5242880", "limited": "org", "unit": "bytes"}
        assert 1 <= (refusal.retry_seconds or 0) <= 2
        blocked.end_event.set()
        assert Refusal(waiting.exception(timeout=40)).info.reason == "MALFORMED_REQUEST", "decoded after its wait"
        assert [call.exception(timeout=40) for call in running] == [None, None]
        assert service.app.server.admission.waiting_bytes.total == 0


def test_large_requests_of_open_streams_are_limited_in_bytes(monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    """A stream keeps its request decoded. Streams with small requests still open."""
    monkeypatch.setattr(admission, "_MAX_STREAM_BYTES", 1024 * 1024)
    monkeypatch.setattr(admission, "MAX_REQUEST_BYTES", 256 * 1024)
    with serving() as service:
        service.insert("busy", [{"data": {"pad": "x" * 500_000}} for _ in range(40)])
        client = service.client("busy")
        large = {"filter": {"datatype": "contact", "where": {"pad": {"$nin": [f"{n:0100}" for n in range(3_000)]}}}}
        request = {"batchSize": 1, "fields": ["pad"]}
        stream = client.call("StreamMembers", {**large, **request})
        next(stream)
        refusal = refused(lambda: client.call("StreamMembers", {**large, **request}))
        assert (refusal.code.name, refusal.info.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_CALLS")
        assert dict(refusal.info.metadata) == {"limit": "524288", "limited": "org", "unit": "bytes"}
        assert "requests of the open streams of this org" in refusal.message
        small = client.call("StreamMembers", {"filter": ALL_CONTACTS, **request})
        next(small)
        for one in (stream, small):
            one.cancel()
        eventually(lambda: service.app.server.admission.stream_bytes.total == 0)


def test_a_stream_beyond_the_orgs_share_is_refused(refused: Refused) -> None:
    """Another org can still open one."""
    with serving(max_streams=4) as service:
        service.insert("busy", [{"data": {"pad": "x" * 500_000}} for _ in range(40)])
        client, request = service.client("busy"), {"filter": ALL_CONTACTS, "batchSize": 1, "fields": ["pad"]}
        streams = [client.call("StreamMembers", request) for _ in range(2)]
        for stream in streams:
            next(stream)
        refusal = refused(lambda: client.call("StreamMembers", request))
        assert (refusal.code.name, refusal.info.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS")
        assert dict(refusal.info.metadata) == {"limit": "2", "limited": "org"}
        assert service.client("other").members(filter=ALL_CONTACTS) == []
        for stream in streams:
            stream.cancel()


@pytest.mark.slow
def test_a_client_that_receives_nothing_loses_its_stream() -> None:
    """Its slot is free after the timeout, although the client still waits."""
    with serving(stream_send_timeout_seconds=2.0) as service:
        service.insert("stalled", [{"data": {"pad": "x" * 100_000}} for _ in range(100)])
        with service.stalled_client("stalled") as client:
            stream = client.call("StreamMembers", {"filter": ALL_CONTACTS, "batchSize": 1, "fields": ["pad"]})
            next(stream)
            eventually(lambda: service.open_stream_count == 0)
            eventually(lambda: len(service.app.server.open_calls) == 0)
            with pytest.raises(grpc.RpcError) as caught:
                list(stream)
        assert caught.value.code().name == "CANCELLED"


@pytest.mark.parametrize("size", [4 * 1024 * 1024 + 1, 5 * 1024 * 1024 - 100])
def test_a_message_that_is_too_large_is_refused_with_a_reason(service: Service, refused: Refused, size: int) -> None:
    call: Any = service.channel.unary_unary(REACH)
    refusal = refused(lambda: call(b"x" * size, metadata=service.client("large").metadata))
    assert (refusal.code.name, refusal.info.reason) == ("RESOURCE_EXHAUSTED", "REQUEST_TOO_LARGE")
    assert refusal.retry_seconds is None, "it would be refused again"


def test_a_call_without_a_message_is_malformed(service: Service) -> None:
    call: Any = service.channel.stream_unary(REACH)
    refusal = Refusal(call.future(iter(()), metadata=service.client("empty").metadata).exception(timeout=40))
    assert (refusal.code.name, refusal.info.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")


@pytest.mark.parametrize(
    "path", ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"]
)
def test_bytes_that_are_no_request_are_malformed_without_a_token_too(service: Service, path: str) -> None:
    """Health checks and reflection, which take streams of requests."""
    stream: Any = service.channel.stream_stream(path)
    with pytest.raises(grpc.RpcError) as caught:
        list(stream(iter([b"\xff\xfe\xfd"]), timeout=40))
    refusal = Refusal(caught.value)
    assert (refusal.code.name, refusal.info.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")
    assert refusal.message == f"the bytes are not a request of {path}"


def test_calls_above_the_callers_rate_are_refused(refused: Refused) -> None:
    """Another caller of the org has a rate of its own, and so has the org."""
    with serving(rate_limit_per_caller="2/hour", rate_limit_per_org="3/hour") as service:
        ann, bob, eve = (service.client("busy", subject=subject) for subject in ("ann", "bob", "eve"))
        for _ in range(2):
            ann.call("ListSegments")
        for client, limited, limit in ((ann, "caller", "2"), (bob, "", ""), (eve, "org", "3")):
            if not limited:
                client.call("ListSegments")
                continue
            refusal = refused(lambda client=client: client.call("ListSegments"))
            assert (refusal.code.name, refusal.info.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
            assert dict(refusal.info.metadata) == {"limit": limit, "limited": limited}
            assert 0 < (refusal.retry_seconds or 0) <= 2 * 3_600
        service.client("other", subject="sam").call("ListSegments")


def test_a_path_that_is_no_text_harms_no_one(service: Service, refused: Refused) -> None:
    """It would end the loop of grpc.aio's server."""
    broken: Any = b"/audience.v1.ReachService/\xff\xfe"
    call: Any = service.channel.unary_unary(broken)
    refusal = refused(lambda: call(b""))
    assert refusal.code.name == "UNIMPLEMENTED"
    wait_until_serving(service)


@pytest.mark.parametrize("length", [7_900, 8_190, 8_300, 16_000, 24_000])
def test_a_long_token_is_always_refused_with_a_reason(service: Service, length: int) -> None:
    """grpc's own limit would refuse those near 8 KiB at random, without one."""
    stub: Any = service.channel.unary_unary(REACH)
    metadata = (("authorization", "Bearer " + "x" * length), ("orgid", "long"))
    for _ in range(10):
        refusal = Refusal(stub.future(b"", metadata=metadata).exception(timeout=40))
        assert (refusal.code.name, refusal.info.reason) == ("UNAUTHENTICATED", "INVALID_TOKEN")


@pytest.mark.slow
def test_calls_that_outlast_the_grace_period_are_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their clients retry elsewhere. CANCELLED would not tell them to."""
    monkeypatch.setattr(server, "_STATUS_SECONDS", 2.0)
    with serving() as service:
        blocked = BlockedQueries(service, "late", monkeypatch)
        service.insert("late", [{"data": {"pad": "x" * 1_000}}])
        stub: Any = service.channel.unary_unary(REACH)
        metadata = service.client("late").metadata
        call = stub.future(COUNT_ALL, metadata=metadata, timeout=60)
        eventually(lambda: blocked.running == 1)
        service.app.server.drain(grace_seconds=4.0)
        refusal = Refusal(call.exception(timeout=40))
        blocked.end_event.set()
        assert (refusal.code.name, refusal.info.reason) == ("UNAVAILABLE", "SERVER_STOPPING")
        assert 1 <= (refusal.retry_seconds or 0) <= 2


def test_idle_threads_end() -> None:
    """A burst of calls leaves no threads behind."""
    executor = ElasticExecutor("burst", idle_seconds=0.05)
    barrier = threading.Barrier(20)
    for future in [executor.submit(barrier.wait, 40) for _ in range(20)]:
        future.result(40)
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "burst"])
    assert executor.submit(lambda: 5).result(40) == 5


def test_a_job_waits_for_a_thread_if_none_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception would end grpcio's serving thread, and with it the server."""
    executor, resume = ElasticExecutor("scarce", idle_seconds=0.05), threading.Event()
    first = executor.submit(resume.wait, 40)
    monkeypatch.setattr(threading.Thread, "start", lambda _: _fail())
    second = executor.submit(lambda: "done")
    resume.set()
    assert second.result(40) == "done"
    assert first.result(40)


def _fail() -> None:
    raise RuntimeError("can't start new thread")
