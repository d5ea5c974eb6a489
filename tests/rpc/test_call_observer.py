"""Log lines of calls: request ids, the access log, and slow calls with their plan."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.core.context import Caller, Deadline, RequestContext, Scope
from audience_service.domain.core.errors import AudienceError, UnsupportedByStore
from audience_service.domain.explain.filter_explanation import FilterExplanation
from audience_service.domain.explain.index_advice import IndexAdvice
from audience_service.domain.explain.query_plan import PlanKind, QueryPlan
from audience_service.mongo.embedded.store import embedded_store
from audience_service.pb.audience.v1 import membership_service_pb2, reach_service_pb2, segment_service_pb2
from audience_service.rpc import call_observer
from audience_service.rpc.call_observer import CallLogOptions, CallObserver
from audience_service.rpc.calls import OpenCall
from audience_service.rpc.descriptors import SERVICES
from audience_service.rpc.slow_calls import SlowCall, SlowCallLog
from tests.conftest import Service, run_service, seeded
from tests.support.client import Client, Refusal
from tests.support.waiting import eventually

CTX = RequestContext(Caller("ann", "acme", frozenset(Scope)), Deadline.after(30))
PLAN = QueryPlan(PlanKind.SCAN, "", 0, None)


def request_ids(error: Any) -> list[str]:
    status = rpc_status.from_call(error)
    found = []
    for detail in status.details if status else ():
        info = error_details_pb2.RequestInfo()
        if detail.Unpack(info):
            found.append(info.request_id)
    return found


def refuse(client: Client, **metadata: str) -> Any:
    """The error of a call with these metadata in addition."""
    pairs = tuple((key.replace("_", "-"), value) for key, value in metadata.items())
    with pytest.raises(grpc.RpcError) as caught:
        Client(client.channel, (*client.metadata, *pairs)).call("GetSegment", {"id": "segment-none"})
    return caught.value


def test_an_error_has_the_callers_request_id(client: Client) -> None:
    assert request_ids(refuse(client, x_request_id="order-77:retry")) == ["order-77:retry"]


@pytest.mark.parametrize("sent", ["", "with space", "x" * 129])
def test_an_unsuitable_request_id_is_replaced(client: Client, sent: str) -> None:
    [given] = request_ids(refuse(client, x_request_id=sent))
    assert given != sent
    assert len(given) == 32


def test_the_refusal_of_a_token_has_a_request_id(service: Service) -> None:
    call: Any = service.channel.unary_unary("/audience.v1.SegmentService/ListSegments")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"")
    assert Refusal(caught.value).info.reason == "MISSING_TOKEN"
    assert len(request_ids(caught.value)) == 1


@contextmanager
def captured() -> Iterator[list[Any]]:
    """The log lines, with the bound variables of the call. Servers of other tests may log in the same process."""
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        yield lines


def of_org(lines: list[Any], event: str, org: str) -> list[Any]:
    """The lines of an event in calls of an org that no other test of a shared server uses."""
    return [line for line in lines if line["event"] == event and line.get("org") == org]


def test_a_line_has_request_id_and_reason() -> None:
    for service in run_service("embedded", embedded_store([], ("contact",))):
        with captured() as lines:
            refuse(service.client("logged"), x_request_id="r1")
            eventually(lambda: bool(of_org(lines, "rpc", "logged")))
        [line] = of_org(lines, "rpc", "logged")
        assert (line["request_id"], line["code"], line["reason"]) == ("r1", "NOT_FOUND", "AUDIENCE_NOT_FOUND")


def has_passed(call: OpenCall) -> bool:
    """Whether the deadline has."""
    return call.context.time_remaining() == 0


@pytest.mark.parametrize(
    ("ends_by", "code", "reason"), [("deadline", "DEADLINE_EXCEEDED", "OUT_OF_TIME"), ("client", "CANCELLED", None)]
)
@pytest.mark.slow
def test_a_line_has_the_code_that_the_client_saw(
    monkeypatch: pytest.MonkeyPatch, ends_by: str, code: str, reason: str | None
) -> None:
    """Also if the thread works on after the client has cancelled, until the deadline has passed too."""
    store = embedded_store([], ("contact",))
    has_begun, may_end = threading.Event(), threading.Event()

    def reach(_: Any, __: Any, ___: Any, deadline: Deadline) -> None:
        has_begun.set()
        may_end.wait(30)
        deadline.check()

    monkeypatch.setattr(type(store.members), "reach", reach)
    everybody: Any = {"datatype": "contact", "where": {}}
    request = reach_service_pb2.EstimateReachRequest(filter=everybody)
    with captured() as lines:
        for service in run_service("embedded", store):
            stub: Any = service.channel.unary_unary("/audience.v1.ReachService/EstimateReach")
            call = stub.future(request.SerializeToString(), metadata=service.client("ended").metadata, timeout=3.0)
            assert has_begun.wait(40)
            [open_call] = service.app.server.open_calls._calls
            if ends_by == "client":
                call.cancel()
                eventually(open_call.cancel_event.is_set)
            eventually(call.done)
            eventually(partial(has_passed, open_call))
            may_end.set()
            eventually(lambda: bool(of_org(lines, "rpc", "ended")))
            seen = "CANCELLED" if ends_by == "client" else call.code().name
    [line] = of_org(lines, "rpc", "ended")
    assert (line["code"], line.get("reason")) == (code, reason)
    assert seen == code


@pytest.mark.slow
def test_a_stalled_clients_line_has_the_code_that_it_gets() -> None:
    """Its stream is cancelled, since it cannot receive a status; the reason is in the log."""
    with captured() as lines:
        for service in run_service("embedded", embedded_store([], ("contact",)), stream_send_timeout_seconds=2.0):
            service.insert("stalled", [{"data": {"pad": "x" * 100_000}} for _ in range(100)])
            request = {"filter": {"datatype": "contact", "where": {}}, "batchSize": 1, "fields": ["pad"]}
            with service.stalled_client("stalled") as client:
                stream = client.call("StreamMembers", request)
                next(stream)
                eventually(lambda: bool(of_org(lines, "rpc", "stalled")))
                stream.cancel()
    [line] = of_org(lines, "rpc", "stalled")
    assert (line["code"], line["reason"]) == ("CANCELLED", "CLIENT_TIMEOUT")


def observe(options: CallLogOptions, code: str) -> int:
    """The number of lines of 20 calls."""
    observer = CallObserver(SERVICES, options)
    with captured() as lines:
        for _ in range(20):
            observer.start("/audience.v1.SegmentService/ListSegments", ()).finish(code)
    return sum(line.get("method") == "/audience.v1.SegmentService/ListSegments" for line in lines)


def test_the_access_log_can_be_sampled_or_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed calls are logged in any sample."""
    monkeypatch.setattr(call_observer, "_RANDOM", seeded())
    assert observe(CallLogOptions(success_share=0.0), "OK") == 0
    assert observe(CallLogOptions(success_share=0.0), "INTERNAL") == 20
    assert 0 < observe(CallLogOptions(success_share=0.5), "OK") < 20
    assert observe(CallLogOptions(access_log=False), "INTERNAL") == 0


class Explainer:
    """Answers with an index for each selection."""

    def __init__(self, error: AudienceError | None = None, fields: tuple[str, ...] = ("data.country", "sk")) -> None:
        self.error = error
        self.fields = fields
        self.selections: list[AudienceSelector] = []

    def __call__(self, ctx: RequestContext, selection: AudienceSelector) -> FilterExplanation:
        self.selections.append(selection)
        if self.error:
            raise self.error
        advice = IndexAdvice("contact", self.fields, useful=True, reason=f"few match {self.fields[0]}")
        return FilterExplanation("", (), PLAN, advice, ())


def slow_line(request: Any, explainer: Explainer) -> dict[str, Any]:
    slow = SlowCallLog(1.0, explainer)
    with captured() as lines:
        slow.add(SlowCall(CTX, request, {"method": "/m", "duration_ms": 1500.0}))
        eventually(lambda: any(line.get("method") == "/m" for line in lines))
    slow.close()
    [line] = [line for line in lines if line.get("method") == "/m"]
    found: dict[str, Any] = line
    return found


def test_a_slow_call_names_audience_plan_and_index() -> None:
    line = slow_line(reach_service_pb2.EstimateReachRequest(audience_id="segment-1"), Explainer())
    assert line["audiences"] == ["segment-1"]
    assert (line["plan"], line["index"]) == ("SCAN", "contact(data.country, sk)")


def test_a_slow_filter_is_explained_without_its_values_in_the_line() -> None:
    request, explainer = segment_service_pb2.CreateSegmentRequest(), Explainer()
    request.segment.filter.datatype = "contact"
    request.segment.filter.where.update({"email": "ann@example.com"})
    line = slow_line(request, explainer)
    assert explainer.selections[0].filter
    assert line["has_filter"] is True
    assert "ann@example.com" not in json.dumps(line, default=str)


def test_a_slow_call_of_several_audiences_names_them() -> None:
    request = membership_service_pb2.CheckMembershipRequest(audience_ids=["segment-1", "custom-2"])
    assert slow_line(request, Explainer())["audiences"] == ["segment-1", "custom-2"]


def test_a_slow_line_has_no_text_of_the_caller() -> None:
    """An id, or the name of a field, that is an address."""
    request = membership_service_pb2.CheckMembershipRequest(audience_ids=["segment-ann@example.com", "custom-2"])
    assert slow_line(request, Explainer())["audiences"] == ["custom-2"]
    by_name = Explainer(fields=("data.ann@example.com", "sk"))
    line = slow_line(reach_service_pb2.EstimateReachRequest(audience_id="segment-1"), by_name)
    assert line["index"] == "of fields with unusual names"
    assert "ann@example.com" not in json.dumps(line, default=str)


def test_a_slow_call_that_cannot_be_explained_says_so() -> None:
    request = reach_service_pb2.EstimateReachRequest(audience_id="segment-1")
    line = slow_line(request, Explainer(UnsupportedByStore("no plans")))
    assert line["plan"] == "not explained: UNSUPPORTED_BY_STORE"


def test_a_process_logs_a_slow_call_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a threshold of a nanosecond each unary call is slow."""
    for service in run_service("embedded", embedded_store([], ("contact",)), slow_call_seconds=1e-9):
        client = service.client("observed")
        with captured() as lines:
            client.call("EstimateReach", {"filter": {"datatype": "contact", "where": {}}})
            eventually(lambda: bool(of_org(lines, "slow call", "observed")))
        [line] = of_org(lines, "slow call", "observed")
        assert line["plan"] == "not explained, since the store has no plans"
        assert line["duration_ms"] < time.monotonic() * 1000
