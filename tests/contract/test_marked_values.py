"""No value of a record or request is in a log, an audit line, a span or a metric, and none of a record in an error.

`make check-marked-values` repeats the calls until there are 50,000 lines.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import prometheus_client
import pytest
import structlog
from google.protobuf.descriptor import FieldDescriptor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from audience_service.cli.log import configure_logs
from audience_service.mongo.core.monitoring import CommandMetrics, CommandSpans
from audience_service.mongo.embedded.store import embedded_store
from audience_service.mongo.store import mongo_store
from audience_service.observability.tracing import close_tracing, configure_tracing
from tests.conftest import STORES, URI, Service, mongo_database, run_service, seeded
from tests.support.rpcs import METHODS, about, refusal
from tests.support.uploads import Uploader, header, messages

LINES = int(os.environ.get("AUDIENCE_TEST_MARKED_LINES", "0"))
"""The lines, spans and errors to search on each store; all calls are sent at least once."""
ORG = "acme"
MARK, STORED, NUMBER = "marq7", "stor9", "+15555550177"
"""A part of every value of a request, and values of records that no request contains."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60 + LINES // 5)]


@pytest.fixture(params=STORES)
def exporter(request: pytest.FixtureRequest) -> Iterator[InMemorySpanExporter]:
    """The spans of everything that runs."""
    found = InMemorySpanExporter()
    configure_tracing(found)
    yield found
    close_tracing()


@pytest.fixture
def audit_log(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def observed(request: pytest.FixtureRequest, exporter: InMemorySpanExporter, audit_log: Path) -> Iterator[Service]:
    """A server on each store in turn, with every log, span and metric, to which each call is slow."""
    options: dict[str, Any] = {"audit_log": str(audit_log), "slow_call_seconds": 1e-6, "metrics_orgs": (ORG,)}
    options["snapshot_lease_seconds"] = 1
    if request.node.callspec.params["exporter"] == "embedded":
        yield from run_service("embedded", embedded_store([], ("contact",)), **options)
        return
    with mongo_database() as plain:
        plain.close()
        store = mongo_store(URI, plain.database.name, seeded, [CommandMetrics(), CommandSpans()])
        yield from run_service("mongodb", store, **options)


def test_no_value_leaves_by_logs_spans_metrics_or_errors(
    observed: Service, exporter: InMemorySpanExporter, audit_log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Marked values go through every RPC: in records, filters, names, rows and every text of a request."""
    configure_logs("json")
    searched: Counter[str] = Counter()
    try:
        while not searched or sum(searched.values()) < LINES:
            errors = send_marked_values(observed, f"{MARK}.{len(searched)}.{sum(searched.values())}@example.com")
            printed = capfd.readouterr()
            texts = {
                "log lines": printed.out + printed.err,
                "audit lines": audit_log.read_text(),
                "spans": "\n".join(span.to_json(None) for span in exporter.get_finished_spans()),
                "metrics": prometheus_client.generate_latest().decode(),
            }
            audit_log.write_text("")
            exporter.clear()
            for kind, text in texts.items():
                lines = text.splitlines()
                searched[kind] += len(lines)
                found = [line for line in lines if MARK in line or STORED in line or NUMBER in line]
                assert not found, (kind, found[:5])
            searched["errors"] += len(errors)
            assert not [error for error in errors if STORED in error or NUMBER in error]
    finally:
        structlog.reset_defaults()
    assert all(searched[kind] > 100 for kind in ("log lines", "audit lines", "spans", "metrics", "errors"))
    with capfd.disabled():
        print(f"{observed.kind}: none in {sum(searched.values()):,}: {dict(searched)}")  # noqa: T201


def send_marked_values(service: Service, address: str) -> list[str]:
    """The errors of all calls about a new contact with an address."""
    client = service.client(ORG)
    name = f"{MARK} Person {address}"
    data = {"email": address, "name": f"{STORED} Person", "phone": NUMBER, "score": 7}
    [contact, *_] = service.insert(ORG, [{"data": data}, {"data": {"name": STORED}}])
    segment = client.create(name=name, description=name, filter=by_address(address)).id
    uploaded = client.custom(name=name, description=name).id
    file = f"email,name\n{address},{name}\nb{address},{name}\n{MARK},x\n".encode()
    Uploader(client).upload(uploaded, file)
    watch = client.call("WatchMembership", {"audienceId": segment})
    next(iter(watch))
    watch.cancel()
    for call in (
        lambda: list(client.call("StreamMembers", {"audienceId": segment, "fields": ["email", "name"]})),
        lambda: list(client.call("StreamUnmatchedRows", {"audienceId": uploaded})),
        lambda: client.call("ExplainMembership", {"audienceId": segment, "contactId": contact}),
        lambda: list(client.call("ExportIdentifiers", {"audienceId": segment, "platform": "meta"})),
    ):
        call()
    errors = []
    for head in marked(header(uploaded), address):
        errors += [str(error)] if (error := failure(client, head, file)) else []
    for method in sorted(METHODS, key=lambda method: method.name == "EraseContact"):
        if method.name == "WatchMembership":
            continue  # it does not end
        for names in ([segment], [uploaded], [address], [f"segment-{address}"]):
            for request in marked(about(method, names), address):
                refused = refusal(service, method, request, client.metadata)
                errors += [f"{refused.code} {refused.message} {refused.details}"] if refused else []
    return errors


def failure(client: Any, head: Any, file: bytes) -> grpc.RpcError | None:
    """The error of an upload with a header."""
    try:
        Uploader(client).send(messages(head, file))
    except grpc.RpcError as error:
        return error
    return None


def by_address(address: str) -> dict[str, Any]:
    return {"datatype": "contact", "where": {"data.email": address}}


def marked(request: Any, address: str) -> Iterator[Any]:
    """The request itself, and one for each text and filter in it that has a marked value instead."""
    yield request
    for field in request.DESCRIPTOR.fields:
        filled: Any = type(request)()
        filled.CopyFrom(request)
        value = getattr(filled, field.name)
        is_own = field.message_type and field.message_type.file.package == "audience.v1"
        if is_own and field.message_type.name == "Filter":
            for where in ({"email": address}, {"email": {"$gtt": address}}, {"$expr": {"$toDate": "$data.name"}}):
                filled.ClearField(field.name)
                getattr(filled, field.name).datatype = "contact"
                getattr(filled, field.name).where.update(where)
                yield filled
        elif is_own and not field.is_repeated and not field.message_type.GetOptions().map_entry:
            for inner in marked(type(value)(), address):
                value.CopyFrom(inner)
                yield filled
        elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            text = address.encode() if field.type == FieldDescriptor.TYPE_BYTES else address
            if field.is_repeated:
                value.append(text)
            else:
                setattr(filled, field.name, text)
            yield filled
