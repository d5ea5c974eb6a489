"""JSON over HTTP: what a request cannot mean is an error with the cure, and what HTTP promises holds."""

import gzip
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.http.conftest import ORIGIN, VIP, Gateway

pytestmark = pytest.mark.slow

EVERYONE = {"filter": {"datatype": "contact", "where": {}}}


@pytest.mark.parametrize(
    ("method", "path", "body", "field", "cure"),
    [
        ("PUT", "/segments/{id}", {**VIP, "descripton": "x"}, "segment.descripton", "did you mean description?"),
        ("POST", "/segments", {"name": "a", "typ": "static"}, "segment.typ", "did you mean type?"),
        ("POST", "/segments", {"segment": VIP}, "segment", "without the wrapper"),
        ("POST", "/estimate-reach", {"filter": {"datatyp": "contact"}}, "filter.datatyp", "did you mean datatype?"),
        ("POST", "/estimate-reach", {"filter": {"datatype": 3}}, "filter.datatype", "not a string"),
        ("POST", "/estimate-reach", {"audienceIds": "segment-x"}, "audienceIds", "not a list"),
        ("POST", "/estimate-reach", {"audienceIds": ["a", 3]}, "audienceIds[1]", "not a string"),
        ("POST", "/segments", {**VIP, "filter": []}, "segment.filter", "not an object"),
        ("POST", "/segments", {**VIP, "validateOnly": 1}, "validateOnly", "neither true nor false"),
        ("POST", "/estimate-reach?purpose=ads", EVERYONE, "purpose", "field of the body"),
        ("POST", "/segments?validateOnly=yes", VIP, "validateOnly", "neither true nor false"),
        ("POST", "/segments?segment.name=x", VIP, "segment", "set it once"),
        ("GET", "/segments?pageSize=1&pageSize=2", None, "pageSize", "set it once"),
        ("GET", "/segments?pagesize=1", None, "pagesize", "did you mean pageSize?"),
        ("GET", "/segments/{id}/insights?sizeHistory=5", None, "sizeHistory", "name one of its fields after a dot"),
    ],
)
def test_a_name_or_value_without_a_meaning_is_reported_with_its_cure(
    gateway: Gateway, segment: dict[str, Any], method: str, path: str, body: Any, field: str, cure: str
) -> None:
    refused = gateway.fetch(method, path.format(id=segment["id"]), body)
    assert (refused.status, refused.body["code"], refused.reason) == (400, 3, "INVALID_FIELD")
    assert cure in refused.violations[field]
    assert gateway.fetch("GET", f"/segments/{segment['id']}").body == segment


@pytest.mark.parametrize(
    ("method", "path", "body", "problem"),
    [
        ("POST", "/segments", '{"name": "a", "name": "b"}', "twice"),
        ("POST", "/segments", "[1]", "not a JSON object"),
        ("POST", "/segments", '{"name": 1e999}', "1e999"),
        ("POST", "/segments", b'{"name": "\xff"}', "UTF-8"),
        ("POST", "/segments", "[" * 100_000, "nested too deeply"),
        ("DELETE", "/segments/segment-x", {"force": True}, "takes no body"),
        ("GET", "/segments?name=%FF", None, "query cannot be read"),
    ],
)
def test_a_request_that_cannot_be_read_is_malformed(
    gateway: Gateway, method: str, path: str, body: Any, problem: str
) -> None:
    refused = gateway.fetch(method, path, body)
    assert (refused.status, refused.reason) == (400, "MALFORMED_REQUEST")
    assert problem in refused.body["message"]


def test_source_of_a_new_segment_is_in_the_body_or_the_query(
    gateway: Gateway, insert: Callable[..., list[str]]
) -> None:
    """The other fields of a request may be next to those of the resource."""
    insert([{"data": {"tags": ["vip"]}}, {"data": {}}])
    everyone = gateway.fetch("POST", "/segments", {"name": "all", **EVERYONE}).body
    source = {"audienceId": everyone["id"]}
    made = gateway.fetch("POST", "/segments", {"name": "from body", "type": "static", "source": source})
    assert (made.status, made.body["contactCount"]) == (200, 2)
    path = f"/segments?source.audienceId={everyone['id']}&requestId=r1"
    made = gateway.fetch("POST", path, {"name": "from query", "type": "static"})
    assert (made.status, made.body["contactCount"]) == (200, 2)
    again = gateway.fetch("POST", path, {"name": "from query", "type": "static"})
    assert again.body["id"] == made.body["id"]


def test_an_update_mask_changes_the_named_fields_alone(gateway: Gateway, segment: dict[str, Any]) -> None:
    """The mask has commas, in the query."""
    path = f"/segments/{segment['id']}?updateMask=name,description"
    changed = gateway.fetch("PUT", path, {"name": "New", "description": "Text"})
    assert (changed.body["name"], changed.body["description"]) == ("New", "Text")
    assert changed.body["filter"] == segment["filter"]


def test_a_list_in_a_query_is_repeated_or_has_commas(gateway: Gateway) -> None:
    answers = [
        gateway.fetch("GET", f"/locations?query=allemagne&pageSize=1&{languages}").body["nodes"][0]["localizedNames"]
        for languages in ("languages=de,fr", "languages=de%2Cfr", "languages=de&languages=fr")
    ]
    assert answers == [{"de": "Deutschland", "fr": "Allemagne"}] * 3


def test_an_escaped_name_in_a_query_is_that_name(gateway: Gateway, segment: dict[str, Any]) -> None:
    assert gateway.fetch("GET", "/segments?n%61me=vip").body["totalSize"] == 1
    assert gateway.fetch("GET", "/segments?n%61me=none").body["totalSize"] == 0


@pytest.mark.parametrize("path", ["/custom-types", "/segments/segment-none"])
def test_head_has_the_headers_of_get_and_no_body(gateway: Gateway, path: str) -> None:
    got, head = (gateway.fetch(method, path) for method in ("GET", "HEAD"))
    assert (head.status, head.content) == (got.status, b"")
    if got.status == 200:
        assert head.headers["content-length"] == str(len(got.content))


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/estimate-reach", {"POST"}),
        ("PATCH", "/segments/segment-x", {"GET", "HEAD", "PUT", "DELETE"}),
        ("HEAD", "/segments/segment-x/watch", {"GET"}),
    ],
)
def test_another_method_is_a_405_that_lists_those_of_the_path(
    gateway: Gateway, method: str, path: str, allow: set[str]
) -> None:
    refused = gateway.fetch(method, path)
    assert refused.status == 405
    assert set(refused.headers["allow"].split(", ")) == {*allow, "OPTIONS"}
    options = gateway.fetch("OPTIONS", path)
    assert (options.status, options.headers["allow"]) == (204, refused.headers["allow"])


def test_http_1_0_is_served(gateway: Gateway) -> None:
    """The default of nginx in front of the gateway."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in gateway.headers.items())
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=40) as connection:
        connection.sendall(f"GET /crm/audiences/custom-types HTTP/1.0\r\n{headers}\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0]
    assert len(json.loads(body)["types"]) == 4


def test_bodies_are_compressed_both_ways(gateway: Gateway, insert: Callable[..., list[str]]) -> None:
    insert([{"data": {}}])
    packed = gzip.compress(json.dumps(EVERYONE).encode())
    answer = gateway.fetch("POST", "/estimate-reach", packed, content_encoding="gzip")
    assert (answer.status, answer.body["count"]) == (200, 1)
    types = gateway.fetch("GET", "/custom-types", accept_encoding="gzip")
    assert types.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(types.content)) == gateway.fetch("GET", "/custom-types").body
    refused = gateway.fetch("POST", "/estimate-reach", packed, content_encoding="br")
    assert (refused.status, refused.headers["accept-encoding"]) == (415, "gzip")
    assert gateway.fetch("POST", "/estimate-reach", packed[:-9], content_encoding="gzip").status == 400
    assert gateway.fetch("POST", "/estimate-reach", b"plain", content_encoding="gzip").status == 400


def test_a_small_body_that_expands_beyond_the_limit_is_refused(gateway: Gateway) -> None:
    bomb = gzip.compress(b" " * 100_000_000)
    refused = gateway.fetch("POST", "/estimate-reach", bomb, content_encoding="gzip")
    assert (refused.status, refused.reason) == (413, "REQUEST_TOO_LARGE")


def test_pages_of_the_origins_in_the_settings_may_call(gateway: Gateway) -> None:
    asked = {"origin": ORIGIN, "access_control_request_method": "PUT"}
    preflight = gateway.fetch("OPTIONS", "/segments/x", access_control_request_headers="authorization,orgid", **asked)
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert {"PUT", "DELETE"} <= set(preflight.headers["access-control-allow-methods"].split(", "))
    for path, status in (("/custom-types", 200), ("/segments/segment-none", 404)):
        answer = gateway.fetch("GET", path, origin=ORIGIN)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, ORIGIN)
    assert "access-control-allow-origin" not in gateway.fetch("GET", "/custom-types", origin="https://evil.io").headers


def test_a_header_that_is_set_twice_is_refused(gateway: Gateway) -> None:
    """The service sees both orgs, and refuses to choose."""
    head = "".join(f"{name}: {value}\r\n" for name, value in gateway.headers.items())
    request = f"GET /crm/audiences/segments HTTP/1.1\r\nhost: x\r\nconnection: close\r\norgid: other\r\n{head}\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=40) as connection:
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert b" 400 " in answer.splitlines()[0]
    assert b"INVALID_ORGID" in answer


def test_the_openapi_document_is_served_without_a_token(gateway: Gateway) -> None:
    document = Gateway(gateway.address, {}).send("GET", "/openapi.json")
    assert (document.status, document.body["openapi"]) == (200, "3.1.0")
