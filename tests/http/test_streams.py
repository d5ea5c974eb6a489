"""Server-sent events: a stream of the service, and how it ended."""

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conftest import Service
from tests.http.conftest import Gateway
from tests.support.command import run_gateway
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

Event = dict[str, Any]


@contextmanager
def events(gateway: Gateway, method: str, path: str, body: Any = None, **headers: str) -> Iterator[Iterator[Event]]:
    """The events of a stream as they arrive: `event`, `id` and `data` of each."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=40)
    try:
        payload = None if body is None else json.dumps(body)
        all_headers = {**gateway.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(method, f"/crm/audiences{path}", payload, all_headers)
        response = connection.getresponse()
        assert (response.status, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        yield read_events(response)
    finally:
        connection.close()


def read_events(response: http.client.HTTPResponse) -> Iterator[Event]:
    event: Event = {}
    for line in response:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            event[name] = json.loads(value) if name == "data" else value
        else:
            yield event
            event = {}


def test_stream_reach_ends_with_the_exact_count_and_its_status(
    gateway: Gateway, insert: Callable[..., list[str]]
) -> None:
    insert([{"data": {"country": "US"}}, {"data": {}}])
    body = {"filter": {"datatype": "contact", "where": {"country": "US"}}}
    with events(gateway, "POST", "/stream-reach", body, accept_encoding="gzip") as arriving:
        *estimates, end = arriving
    assert (estimates[-1]["data"]["count"], estimates[-1]["data"]["exact"]) == (1, True)
    assert end == {"event": "end", "data": {"code": 0, "message": "", "details": []}}


def test_an_error_before_the_first_message_is_an_http_error(gateway: Gateway) -> None:
    refused = gateway.fetch("POST", "/stream-reach", {"filter": {"datatype": "contact", "where": {"$x": 1}}})
    assert (refused.status, refused.reason) == (400, "INVALID_FILTER")
    assert gateway.fetch("GET", "/segments/segment-none/watch").status in (404, 501)


def test_members_resume_after_the_last_event_id(gateway: Gateway, insert: Callable[..., list[str]]) -> None:
    """The id of an event is its cursor, which the body may have as well."""
    ids = sorted(insert([{"data": {}} for _ in range(5)]))
    body = {"filter": {"datatype": "contact", "where": {}}, "batchSize": 2}
    with events(gateway, "POST", "/stream-members", body) as arriving:
        first = next(arriving)
    assert ([each["id"] for each in first["data"]["members"]], first["id"]) == (ids[:2], first["data"]["cursor"])
    for request, headers in ((body, {"last_event_id": first["id"]}), ({**body, "cursor": first["id"]}, Event())):
        with events(gateway, "POST", "/stream-members", request, **headers) as arriving:
            *batches, end = arriving
        assert [each["id"] for batch in batches for each in batch["data"]["members"]] == ids[2:]
        assert (batches[-1]["data"]["totals"]["memberCount"], end["data"]["code"]) == (5, 0)


def test_a_worker_mirrors_a_sync(gateway: Gateway, service: Service, insert: Callable[..., list[str]]) -> None:
    """It receives batches as events, and acknowledges each."""
    insert([{"data": {"email": "ann@example.com"}}])
    everyone = {"name": "all", "filter": {"datatype": "contact", "where": {}}}
    audience = gateway.fetch("POST", "/segments", everyone).body["id"]
    body = {"name": "Meta", "platform": "meta", "audienceIds": [audience], "fields": ["email"]}
    path = f"/syncs/{gateway.fetch('POST', '/syncs', body).body['id']}"
    if service.kind == "embedded":
        refused = gateway.fetch("POST", f"{path}/changes", {"workerId": "w"})
        assert (refused.status, refused.reason) == (501, "UNSUPPORTED_BY_STORE")
        return
    with events(gateway, "POST", f"{path}/changes", {"workerId": "w"}) as arriving:
        batch, totals, end = arriving
    assert (batch["data"]["operation"], len(batch["data"]["rows"])) == ("EXPORT_OPERATION_ADD", 1)
    assert (totals["data"]["totals"]["batchCount"], end["data"]["code"]) == (1, 0)
    accepted = {"batchNumber": batch["data"]["batchNumber"], "receivedCount": 1}
    assert gateway.fetch("POST", f"{path}/acknowledge", accepted).body["rowCount"] == 1
    assert gateway.fetch("POST", f"{path}/reset", {"externalId": "new"}).body["externalId"] == "new"


def test_a_watch_resumes_after_the_last_event_id(
    gateway: Gateway, service: Service, insert: Callable[..., list[str]]
) -> None:
    """A browser sends the id of the last event that it has received."""
    vip = {"name": "vip", "filter": {"datatype": "contact", "where": {"tags": "vip"}}}
    segment = gateway.fetch("POST", "/segments", vip).body
    path = f"/segments/{segment['id']}/watch"
    with events(gateway, "GET", path) as arriving:
        first = next(arriving)
        assert (first["data"]["events"], first["id"]) == ([], first["data"]["resumeToken"])
    eventually(lambda: service.open_stream_count == 0)  # the service has noticed the disconnect
    [entered] = insert([{"data": {"tags": ["vip"]}}])
    begun = f"{path}?sinceSnapshotId=snapshot-1"  # a browser connects again with the address that it has begun with
    with events(gateway, "GET", begun, last_event_id=first["id"]) as arriving:
        event = next(event for event in arriving if event["data"]["events"])
    assert [each["contactId"] for each in event["data"]["events"]] == [entered]


def test_a_gateway_that_stops_ends_its_streams(gateway: Gateway, service: Service) -> None:
    """With a status that says so, and with exit code 0."""
    vip = {"name": "vip", "filter": {"datatype": "contact", "where": {"tags": "vip"}}}
    segment = gateway.fetch("POST", "/segments", vip).body
    with run_gateway(service.app.port) as (process, address):
        own = Gateway(address, gateway.headers)
        with events(own, "GET", f"/segments/{segment['id']}/watch") as arriving:
            next(arriving)
            process.terminate()
            *_, end = arriving
        assert (end["event"], end["data"]["code"]) == ("end", 14)
        assert process.wait(timeout=40) == 0
