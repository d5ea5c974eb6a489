"""Requests from paths, queries and bodies, without a server."""

import difflib
import json
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from audience_service.gateway.errors import MAX_VIOLATIONS, GatewayError
from audience_service.gateway.json_text import parse_json
from audience_service.gateway.requests import decode
from audience_service.gateway.routes import Route, RouteTable
from audience_service.pb.audience.v1 import resources_pb2
from audience_service.pb.audience.v1 import segment_service_pb2 as segments
from audience_service.rpc.descriptors import SERVICES

TABLE = RouteTable(SERVICES)
ROUTES = [route for route in TABLE.routes if not route.method.client_streaming]


def values(message: Descriptor, depth: int = 2) -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects of a message: some of its fields, under either of their names, with values of their types."""
    fields = [f for f in message.fields if depth or not f.message_type]
    if not fields:
        return st.just({})
    return st.lists(st.sampled_from(fields), max_size=4, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({f.json_name: value(f, depth) for f in chosen})
    )


def value(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    junk: st.SearchStrategy[Any] = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just([]))
    if field.message_type and not field.message_type.full_name.startswith("google."):
        return st.one_of(values(field.message_type, depth - 1), junk)
    return junk


@given(st.data())
def test_any_object_becomes_a_request_or_an_error_of_the_caller(data: st.DataObject) -> None:
    """No body and no query is a defect of the gateway."""
    route = data.draw(st.sampled_from(ROUTES))
    body = data.draw(st.one_of(values(route.method.input_type).map(json.dumps).map(str.encode), st.binary(max_size=9)))
    query = data.draw(st.one_of(st.just(b""), st.binary(max_size=20)))
    path = dict.fromkeys(route.path_fields, "segment-1")
    try:
        message = decode(route, path, query, body if route.body else b"")
    except GatewayError as error:
        assert (error.http_status, error.body["code"]) == (400, 3)
        return
    for field_path in route.path_fields:
        node: Any = message
        for name in field_path.split("."):
            node = getattr(node, name)
        assert node == "segment-1"


@given(st.sampled_from(ROUTES), st.data())
def test_what_json_format_writes_is_read_as_the_same_request(route: Route, data: st.DataObject) -> None:
    """A client may send every field with its default."""
    message = route.request_class()
    body = MessageToDict(message, always_print_fields_with_no_presence=True)
    if route.body == "*":
        assert decode(route, {}, b"", json.dumps(body).encode()) == message


@pytest.mark.parametrize(
    ("verb", "path", "rpc", "fields"),
    [
        ("GET", b"/crm/audiences/segments/a%2Fb", "GetSegment", {"id": "a/b"}),
        ("HEAD", b"/crm/audiences/segments", "ListSegments", {}),
        ("PUT", b"/crm/audiences/segments/s1", "UpdateSegment", {"segment.id": "s1"}),
        (
            "GET",
            b"/crm/audiences/segments/s1/overlap/s2",
            "GetOverlap",
            {"audience_id": "s1", "other_audience_id": "s2"},
        ),
    ],
)
def test_a_path_has_one_rpc(verb: str, path: bytes, rpc: str, fields: dict[str, str]) -> None:
    route, found = TABLE.find(verb, path)
    assert (route.method.name, found) == (rpc, fields)


@pytest.mark.parametrize(
    "path", [b"/crm/audiences/segments/", b"/crm//audiences/segments", b"/crm/audiences/segments/s1/", b"*", b"/"]
)
def test_another_spelling_of_a_path_is_unknown(path: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        TABLE.find("GET", path)
    assert caught.value.http_status == 404


def test_no_two_rpcs_have_the_same_path() -> None:
    paths = [(route.verb, route.template.replace("segment.id", "id")) for route in TABLE.routes]
    assert len(paths) == len(set(paths)) > 30


def test_the_same_id_in_body_and_path_is_one_id() -> None:
    """A page puts back what it got."""
    route, _ = TABLE.find("PUT", b"/crm/audiences/segments/s1")
    message = decode(route, {"segment.id": "s1"}, b"", b'{"id": "s1", "name": "x"}')
    assert message == segments.UpdateSegmentRequest(segment=resources_pb2.Segment(id="s1", name="x"))


@pytest.mark.parametrize(
    ("path", "query", "body", "field"),
    [
        ("segments", b"", {"requestId": "a", "request_id": "b"}, "requestId"),
        ("segments", b"requestId=a&request_id=b", {}, "requestId"),
        ("segments", b"request_id=a", {"requestId": "a"}, "requestId"),
        ("segments", b"", {"contactIds": [], "contact_ids": ["a"]}, "segment.contactIds"),
        ("estimate-reach", b"", {"audienceIds": [], "audience_ids": ["a"]}, "audienceIds"),
        ("estimate-reach", b"", {"filter": {"whereJson": "{}", "where_json": "{}"}}, "filter.whereJson"),
    ],
)
def test_a_field_in_both_of_its_spellings_is_refused_once(path: str, query: bytes, body: Any, field: str) -> None:
    route, found = TABLE.find("POST", f"/crm/audiences/{path}".encode())
    with pytest.raises(GatewayError) as caught:
        decode(route, found, query, json.dumps(body).encode())
    assert violations(caught.value) == [field]


def test_an_error_names_a_field_once() -> None:
    route, found = TABLE.find("GET", b"/crm/audiences/segments")
    with pytest.raises(GatewayError) as caught:
        decode(route, found, b"colour=red&size=3&colour=blue", b"")
    assert violations(caught.value) == ["colour", "size"]


def test_a_nearest_name_is_sought_for_the_reported_fields_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a body has before anybody has shown a token."""
    sought: list[str] = []
    monkeypatch.setattr(difflib, "get_close_matches", lambda name, *_, **__: sought.append(name))
    route, found = TABLE.find("POST", b"/crm/audiences/estimate-reach")
    with pytest.raises(GatewayError, match="; and more") as caught:
        decode(route, found, b"", json.dumps(dict.fromkeys(map(str, range(50_000)))).encode())
    assert len(violations(caught.value)) == MAX_VIOLATIONS
    assert len(sought) == MAX_VIOLATIONS + 1


def violations(error: GatewayError) -> list[str]:
    """The fields that an error names."""
    body: Any = error.body
    [request] = [detail for detail in body["details"] if detail["@type"].endswith("BadRequest")]
    return [each["field"] for each in request["fieldViolations"]]


class Failed:
    """An error of an RPC, as grpc reports it."""

    def __init__(self, code: grpc.StatusCode, *details: Any) -> None:
        self._code = code
        self._status = status_pb2.Status(code=code.value[0], message="text")
        for detail in details:
            self._status.details.add().Pack(detail)

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "text"

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return (("grpc-status-details-bin", self._status.SerializeToString()),) if self._status.details else ()


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (
            Failed(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                error_details_pb2.ErrorInfo(reason="RATE_LIMITED"),
                error_details_pb2.RetryInfo(retry_delay=Duration(nanos=1_000_000)),
            ),
            429,
            {"retry-after": "1"},
        ),
        (Failed(grpc.StatusCode.RESOURCE_EXHAUSTED, error_details_pb2.ErrorInfo(reason="REQUEST_TOO_LARGE")), 413, {}),
        (Failed(grpc.StatusCode.UNAVAILABLE), 503, {"retry-after": "1"}),
        (Failed(grpc.StatusCode.UNAUTHENTICATED), 401, {"www-authenticate": "Bearer"}),
        (Failed(grpc.StatusCode.ABORTED), 409, {}),
        (Failed(grpc.StatusCode.DATA_LOSS), 500, {}),
    ],
)
def test_an_error_of_an_rpc_has_its_status_and_headers(error: Failed, status: int, headers: dict[str, str]) -> None:
    converted = GatewayError.from_rpc(error)
    assert (converted.http_status, converted.headers) == (status, headers)


def test_a_repeated_key_is_found_in_one_pass() -> None:
    """Among 50,000 keys, before anybody has shown a token."""
    keys = ",".join(f'"k{number}":1' for number in range(50_000))
    with pytest.raises(ValueError, match="'k7' twice"):
        parse_json(f'{{{keys},"k7":1}}'.encode())


def test_an_unpaired_surrogate_is_a_400() -> None:
    assert GatewayError.invalid_field("\ud800", "is unknown: \udfff").http_status == 400
