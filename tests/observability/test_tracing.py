"""Traces: the spans of a call, whose trace they continue, and what they must not contain."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pymongo import monitoring

from audience_service.mongo.core.monitoring import CommandSpans
from audience_service.mongo.embedded.store import embedded_store
from audience_service.mongo.store import mongo_store
from audience_service.observability.tracing import close_tracing, configure_tracing, start_call_span
from tests.conftest import Service, mongo_database, run_service
from tests.support.client import Client
from tests.support.waiting import eventually

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SECRET = "secret-value@example.com"
FILTER = {"datatype": "contact", "where": {"email": SECRET}}


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    configure_tracing(exporter)
    yield exporter
    close_tracing()


def traced_call(service: Service, exporter: InMemorySpanExporter, rpc: str, request: Any) -> list[Any]:
    """Call an RPC as part of a trace; answers with the spans of its trace, the call's own one last."""
    client = service.client("acme")
    metadata = (*client.metadata, ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"))
    answer = Client(client.channel, metadata).call(rpc, request)
    if hasattr(answer, "cancel"):
        list(answer)
    own: list[Any] = []

    def has_ended() -> bool:
        own[:] = [span for span in exporter.get_finished_spans() if f"{span.context.trace_id:032x}" == TRACE]
        return any(span.name.endswith(rpc) for span in own)

    eventually(has_ended)
    return own


def test_a_call_continues_the_callers_trace_with_a_span_for_its_filter(spans: InMemorySpanExporter) -> None:
    for service in run_service("embedded", embedded_store([], ("contact",))):
        found = traced_call(service, spans, "EstimateReach", {"filter": FILTER})
        assert [span.name for span in found] == ["compile filter", "audience.v1.ReachService/EstimateReach"]
        compiled, call = found
        assert compiled.parent.span_id == call.context.span_id
        assert f"{call.parent.span_id:016x}" == "00f067aa0ba902b7"
        assert call.attributes["rpc.grpc.status_code"] == 0
        assert not any(SECRET in span.to_json() for span in found)


def test_a_stream_has_a_span_for_each_database_command(spans: InMemorySpanExporter, real_uri: str) -> None:
    """The commands are children of the call, although the client reads them one by one."""
    with mongo_database() as plain:
        plain.close()
        store = mongo_store(real_uri, plain.database.name, listeners=[CommandSpans()])
        for service in run_service("mongodb", store):
            service.insert("acme", [{"data": {"email": SECRET}}])
            found = traced_call(service, spans, "StreamMembers", {"filter": FILTER})
            commands = [span for span in found if "db.operation.name" in span.attributes]
            assert commands
            assert {span.parent.span_id for span in commands} == {found[-1].context.span_id}
            assert commands[-1].attributes["db.collection.name"] == "contact"
            assert not any(SECRET in span.to_json() for span in found)


def test_a_failed_command_has_the_servers_code(spans: InMemorySpanExporter) -> None:
    call = start_call_span("s", "m", {})
    listener = CommandSpans()
    listener.started(monitoring.CommandStartedEvent({"find": "contact"}, "crm", 1, ("db", 1), None))
    listener.failed(
        monitoring.CommandFailedEvent(timedelta(0), {"code": 13, "errmsg": SECRET}, "find", 1, ("db", 1), None)
    )
    [span] = spans.get_finished_spans()
    assert span.attributes is not None
    assert (span.name, span.attributes["error.type"]) == ("find contact", "13")
    assert SECRET not in span.to_json()
    assert call


def test_without_tracing_no_span_is_created() -> None:
    assert start_call_span("s", "m", {}) is None
