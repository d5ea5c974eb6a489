"""JSON over HTTP: a refusal is a status and a body with the reason."""

import socket
from typing import Any

import pytest

from tests.http.conftest import VIP, Gateway
from tests.support.command import run_gateway

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "reason"),
    [
        ("POST", "/segments", {"name": "x"}, 400, 3, "INVALID_FIELD"),
        ("GET", "/segments/segment-none/overlap/segment-no", None, 404, 5, "AUDIENCE_NOT_FOUND"),
        ("POST", "/segments", {**VIP, "type": "lively"}, 400, 3, "INVALID_FIELD"),
        ("POST", "/estimate-reach", {}, 400, 3, "INVALID_FIELD"),
        ("POST", "/estimate-reach", {"filter": {"datatype": "contact"}}, 400, 3, "INVALID_FILTER"),
        ("POST", "/estimate-reach", {"filter": {"datatype": "order", "where": {}}}, 400, 3, "DATATYPE_NOT_ALLOWED"),
        ("GET", "/segments?pageToken=x", None, 400, 3, "INVALID_PAGE_TOKEN"),
        ("GET", "/segments/segment-none", None, 404, 5, "AUDIENCE_NOT_FOUND"),
        ("GET", "/segments/segment-none/insights", None, 404, 5, "AUDIENCE_NOT_FOUND"),
        ("PUT", "/segments/segment-none", VIP, 404, 5, "AUDIENCE_NOT_FOUND"),
        ("DELETE", "/segments/segment-none", None, 404, 5, "AUDIENCE_NOT_FOUND"),
    ],
)
def test_an_error_is_a_status_and_a_body_with_its_reason(
    gateway: Gateway, method: str, path: str, body: Any, status: int, code: int, reason: str
) -> None:
    answer = gateway.fetch(method, path, body)
    assert (answer.status, answer.body["code"], answer.reason) == (status, code, reason)
    assert answer.body["message"]


def test_a_bad_filter_is_reported_with_its_field_path(gateway: Gateway) -> None:
    answer = gateway.fetch("POST", "/estimate-reach", {"filter": {"datatype": "contact", "where": {"a": {"$gtt": 1}}}})
    assert [v["field"] for v in answer.body["details"][1]["fieldViolations"]] == ["filter.where.a.$gtt"]
    assert "did you mean $gt?" in answer.body["details"][1]["fieldViolations"][0]["description"]


def test_a_name_that_is_taken_is_a_conflict(gateway: Gateway, segment: dict[str, Any]) -> None:
    answer = gateway.fetch("POST", "/segments", VIP)
    assert (answer.status, answer.body["code"], answer.reason) == (409, 6, "NAME_TAKEN")


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"authorization": ""}, 401, "MISSING_TOKEN"),
        ({"authorization": "Bearer x.y.z"}, 401, "INVALID_TOKEN"),
        ({"orgid": ""}, 400, "MISSING_ORGID"),
        ({"orgid": "another"}, 403, "FOREIGN_ORG"),
    ],
)
def test_headers_identify_the_caller(gateway: Gateway, changes: dict[str, str], status: int, reason: str) -> None:
    headers = {name: value for name, value in {**gateway.headers, **changes}.items() if value}
    answer = Gateway(gateway.address, headers).fetch("GET", "/segments")
    assert (answer.status, answer.reason) == (status, reason)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/estimate-reach", '{"filter": {', 400, 3),
        ("POST", "/estimate-reach", '{"filter": {"datatype": "contact", "where": {"a": NaN}}}', 400, 3),
        ("POST", "/estimate-reach", {"filter": {"datatype": "contact", "where": "all"}}, 400, 3),
        ("GET", "/segments?colour=red", None, 400, 3),
        ("GET", "/nothing", None, 404, 5),
        ("PATCH", "/segments", VIP, 405, 12),
        ("POST", "/estimate-reach", {"filter": {"datatype": "contact", "whereJson": "x" * 5_000_000}}, 413, 8),
        ("POST", "/estimate-reach", {"filter": {"datatype": "contact", "whereJson": "x" * 50_000_000}}, 413, 8),
    ],
    ids=[
        "no JSON",
        "NaN",
        "no object",
        "unknown in query",
        "unknown path",
        "unknown method",
        "too large",
        "far too large",
    ],
)
def test_gateway_errors_have_the_same_shape(
    gateway: Gateway, method: str, path: str, body: Any, status: int, code: int
) -> None:
    answer = gateway.fetch(method, path, body)
    assert (answer.status, answer.body["code"]) == (status, code)
    reasons = [detail["reason"] for detail in answer.body["details"] if "reason" in detail]
    assert reasons in ([], ["MALFORMED_REQUEST"], ["INVALID_FIELD"], ["REQUEST_TOO_LARGE"])
    assert answer.body["message"]


def test_a_grpc_path_is_no_http_path(gateway: Gateway) -> None:
    for path in ("/../../audience.v1.MembershipService/StreamMembers", "/../../audience.v1.SegmentService/GetSegment"):
        assert gateway.fetch("POST", path, {}).status == 404


def test_a_stopped_service_is_unavailable() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # held and never listened on: connections to it are refused
        with run_gateway(closed.getsockname()[1]) as (_, address):
            answer = Gateway(address, {}).fetch("GET", "/segments")
    assert (answer.status, answer.body["code"], answer.headers["retry-after"]) == (503, 14, "1")
