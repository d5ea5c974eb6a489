"""Metrics: what each one counts, and which labels it has."""

import threading
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pymongo.errors import OperationFailure

from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.core.jobs import Job, JobLimits, JobRunner
from audience_service.domain.custom_audiences.errors import TooManyRefreshes
from audience_service.mongo.core.client import connect
from audience_service.mongo.core.monitoring import CommandMetrics, PoolMetrics, outcome_of
from audience_service.mongo.embedded.store import embedded_store
from audience_service.observability import metrics
from audience_service.rpc.call_observer import CallObserver
from audience_service.rpc.descriptors import SERVICES
from audience_service.rpc.permits import PermitPool, RequestBytes, Shares
from audience_service.rpc.stream_limits import StreamLimiter
from tests.conftest import Service, run_service
from tests.support.client import Client
from tests.support.waiting import eventually


def value(name: str, **labels: str) -> float:
    """The value of a time series; 0 before it exists."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def method(service: str, name: str, kind: str = "unary") -> dict[str, str]:
    return {"grpc_type": kind, "grpc_service": f"audience.v1.{service}", "grpc_method": name}


def test_calls_are_counted_by_method_and_code(client: Client, refused: Any) -> None:
    get = method("SegmentService", "GetSegment")
    before = value("grpc_server_handled_total", **get, grpc_code="NOT_FOUND")
    errors = value("audience_errors_total", grpc_method="GetSegment", reason="AUDIENCE_NOT_FOUND")
    refused(lambda: client.call("GetSegment", {"id": "segment-none"}))
    eventually(lambda: value("audience_errors_total", grpc_method="GetSegment", reason="AUDIENCE_NOT_FOUND") > errors)
    assert value("audience_errors_total", grpc_method="GetSegment", reason="AUDIENCE_NOT_FOUND") == errors + 1
    assert value("grpc_server_handled_total", **get, grpc_code="NOT_FOUND") == before + 1
    assert value("grpc_server_started_total", **get) >= before + 1
    assert value("grpc_server_handling_seconds_count", **get) >= before + 1


def test_an_open_stream_is_counted_until_it_ends(client: Client) -> None:
    watch = method("MembershipService", "WatchMembership", "server_stream")
    audience = client.create(name="all", filter={"datatype": "contact", "where": {}})
    eventually(lambda: value("audience_calls_open", **watch) == 0)  # streams of earlier tests may still be ending
    call = client.call("WatchMembership", {"audienceId": audience.id})
    next(iter(call))
    assert value("audience_calls_open", **watch) == 1
    call.cancel()
    eventually(lambda: value("audience_calls_open", **watch) == 0)


def test_only_the_orgs_of_the_setting_are_labels() -> None:
    """An org that the setting does not name would be a series that an attacker can add."""
    for service in run_service("embedded", embedded_store([], ("contact",)), metrics_orgs=("metered",)):
        for org in ("metered", "unmetered"):
            _call_with_success(service, org)
        eventually(lambda: value("audience_org_calls_total", org="metered", grpc_code="OK") == 1)
        assert value("audience_org_calls_total", org="unmetered", grpc_code="OK") == 0


def _call_with_success(service: Service, org: str) -> None:
    service.client(org).call("ListSegments", {})


def test_every_method_has_the_labels_of_its_kind() -> None:
    observer = CallObserver(SERVICES)
    assert observer.labels_of("/audience.v1.MembershipService/StreamMembers")[0] == "server_stream"
    assert observer.labels_of("/audience.v1.CustomAudienceService/UploadMembers")[0] == "client_stream"
    assert observer.labels_of("/grpc.reflection.v1alpha.ServerReflection/Info")[0] == "bidi_stream"


def test_exact_answers_and_lookups_in_caches_are_counted(client: Client, insert: Any) -> None:
    insert([{"data": {"country": "US"}}])
    answers = value("audience_reach_answers_total", kind="exact")
    misses = value("audience_cache_lookups_total", cache="identical_call", outcome="miss")
    client.call("EstimateReach", {"filter": {"datatype": "contact", "where": {"country": "US"}}})
    assert value("audience_reach_answers_total", kind="exact") == answers + 1
    assert value("audience_cache_lookups_total", cache="identical_call", outcome="miss") == misses + 1


def test_waiting_calls_permits_and_streams_are_gauges_by_workload() -> None:
    """They return to zero as calls end, and a call that waited is timed."""
    shares = Shares(1.0, 1.0)
    pool = PermitPool(1, shares, RequestBytes(100, shares, 1, gauge=metrics.WAITING_REQUEST_BYTES), "test")
    slots = StreamLimiter("test", 3, org=2)
    ctx = RequestContext(Caller("ann", "acme", frozenset()), Deadline.after(30))

    def gauges() -> list[float]:
        names = ("audience_permits_in_use", "audience_calls_waiting", "audience_streams_open")
        return [*(value(name, workload="test") for name in names), value("audience_waiting_request_bytes")]

    def wait_for_permit() -> None:
        with pool.acquire(ctx, size=70):
            pass

    waiting = threading.Thread(target=wait_for_permit)
    with pool.acquire(ctx), slots.acquire(org="acme"):
        waiting.start()
        eventually(lambda: gauges() == [1, 1, 1, 70])
    waiting.join(40)
    assert gauges() == [0, 0, 0, 0]
    assert value("audience_call_wait_seconds_count", workload="test") == 1
    assert (value("audience_permits", workload="test"), value("audience_stream_slots", workload="test")) == (1, 3)


def test_jobs_are_counted_while_they_run_and_by_outcome() -> None:
    jobs = JobRunner("counted", JobLimits(), TooManyRefreshes.of)
    running: list[float] = []

    def run(deadline: Deadline, report: Any) -> None:
        running.append(value("audience_jobs_open", kind="counted"))

    with jobs.slot() as slot:
        slot.start(Job("key", run, lambda *_: True, lambda *_: None))
    eventually(lambda: value("audience_jobs_total", kind="counted", outcome="ok") == 1)
    eventually(lambda: value("audience_jobs_open", kind="counted") == 0)
    jobs.close()
    assert len(running) == 1


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [({"code": 50}, "timeout"), ({"code": 13, "errmsg": "not authorized"}, "error"), ({"errmsg": "reset"}, "network")],
)
def test_failed_commands_have_one_of_three_outcomes(failure: dict[str, Any], outcome: str) -> None:
    assert outcome_of(failure) == outcome


def test_commands_and_connections_of_the_driver_are_counted(real_uri: str) -> None:
    """The embedded store sends no commands."""
    before = value("audience_mongodb_commands_total", command="ping", outcome="ok")
    failed = value("audience_mongodb_commands_total", command="nonesuch", outcome="error")
    connections = value("audience_mongodb_connections_open")
    database = connect(real_uri, "audience_test_metrics", [CommandMetrics(), PoolMetrics()])
    database.command("ping")
    with pytest.raises(OperationFailure):
        database.command("nonesuch")
    assert value("audience_mongodb_commands_total", command="ping", outcome="ok") == before + 1
    assert value("audience_mongodb_commands_total", command="nonesuch", outcome="error") == failed + 1
    assert value("audience_mongodb_connections_open") > connections
    assert value("audience_mongodb_connections_in_use") == 0
    database.client.close()
    assert value("audience_mongodb_connections_open") == connections
