"""Traces: the spans of a call, whose trace they continue, and what they must not contain."""

import re
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pymongo import monitoring

from audience_service.mongo.core.monitoring import CommandSpans
from audience_service.mongo.embedded.store import embedded_store
from audience_service.mongo.store import mongo_store
from audience_service.observability.tracing import background_span, close_tracing, configure_tracing, start_call_span
from tests.conftest import Service, mongo_database, run_service
from tests.support.client import Client
from tests.support.uploads import Uploader
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
            assert {"contact", "audience_export"} <= {span.attributes["db.collection.name"] for span in commands}
            assert not any(SECRET in span.to_json() for span in found)


def test_a_failed_command_has_the_servers_code(spans: InMemorySpanExporter) -> None:
    call = start_call_span("s", "m", ())
    listener = CommandSpans()
    listener.started(monitoring.CommandStartedEvent({"find": "contact"}, "crm", 1, ("db", 1), None))
    listener.failed(
        monitoring.CommandFailedEvent(timedelta(0), {"code": 13, "errmsg": SECRET}, "find", 1, ("db", 1), None)
    )
    [span] = named(spans, "find contact")
    assert span.attributes["error.type"] == "13"
    assert SECRET not in span.to_json()
    assert call


def test_without_tracing_no_span_is_created() -> None:
    assert start_call_span("s", "m", ()) is None


def named(exporter: InMemorySpanExporter, *names: str) -> list[Any]:
    """The spans of these names. Those of other servers in this process are among them."""
    return [span for span in exporter.get_finished_spans() if span.name in names]


def has_span(exporter: InMemorySpanExporter, name: str, attributes: dict[str, str]) -> bool:
    return attributes in [span.attributes for span in named(exporter, name)]


def wait_for(exporter: InMemorySpanExporter, *names: str) -> None:
    eventually(lambda: {span.name for span in exporter.get_finished_spans()} >= {*names})


def test_background_work_is_a_trace_of_its_own(spans: InMemorySpanExporter) -> None:
    """Also if a call has caused it."""
    for service in run_service("embedded", embedded_store([], ("contact",)), snapshot_lease_seconds=1):
        service.insert("acme", [{"data": {"email": SECRET}}])
        segment = service.client("acme").create(name="all", filter=FILTER).id
        snapshot = service.client("acme").call("CreateSnapshot", {"audienceId": segment}).id
        watch = service.client("acme").call("WatchMembership", {"audienceId": segment})
        next(iter(watch))
        wait_for(spans, "job snapshot", "reconcile audience", "sweep snapshots", "sweep erasures")
        for name, expected in (
            ("job snapshot", {"key": snapshot}),
            ("reconcile audience", {"org": "acme", "audience": segment}),
        ):
            eventually(partial(has_span, spans, name, expected))
        watch.cancel()
        assert not any(span.parent for span in named(spans, "job snapshot", "reconcile audience", "sweep erasures"))
    assert not any(SECRET in span.to_json() for span in spans.get_finished_spans())


def test_failed_background_work_has_the_class_of_its_error(spans: InMemorySpanExporter) -> None:
    with pytest.raises(KeyError), background_span("work"):
        raise KeyError(SECRET)
    [span] = named(spans, "work")
    assert (span.attributes["error.type"], span.status.is_ok) == ("KeyError", False)
    assert SECRET not in span.to_json()


def test_the_writer_of_an_upload_belongs_to_its_call(spans: InMemorySpanExporter, real_uri: str) -> None:
    with mongo_database() as plain:
        plain.close()
        for service in run_service("mongodb", mongo_store(real_uri, plain.database.name, listeners=[CommandSpans()])):
            client = service.client("acme")
            audience = client.custom(name="uploaded").id
            Uploader(client).upload(audience, f"email\n{SECRET}\n")
            upload = "audience.v1.CustomAudienceService/UploadMembers"
            wait_for(spans, upload)
            [call] = named(spans, upload)
            inserts = named(spans, "insert audience_upload_row", "update audience_upload_row")
            assert {span.parent.span_id for span in inserts} == {call.context.span_id}
            assert not any(SECRET in span.to_json() for span in spans.get_finished_spans())


def test_the_guide_lists_every_trace_of_background_work() -> None:
    root = Path(__file__).parents[2]
    sources = "".join(path.read_text() for path in (root / "audience_service").rglob("*.py"))
    names = re.findall(r'background_span\(f?"([^"{]+)', sources)
    assert len(names) > 5
    guide = (root / "docs/how-to/monitor.md").read_text()
    assert [name for name in names if f"`{name}" not in guide] == []
