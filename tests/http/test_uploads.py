"""Uploads of files as forms."""

import socket
from typing import Any

import grpc
import pytest

from tests.conftest import Service
from tests.http.conftest import Gateway, Response
from tests.support import uploads
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

BOUNDARY = "a-boundary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def form(*parts: tuple[str, str | bytes]) -> bytes:
    """The text of a form with these parts in order."""
    lines = []
    for name, content in parts:
        data = content.encode() if isinstance(content, str) else content
        filename = '; filename="people.csv"' if name == "file" else ""
        lines.append(f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode() + data)
    return b"\r\n".join(lines) + f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.fixture
def audience(gateway: Gateway) -> str:
    """An empty file upload."""
    return str(gateway.fetch("POST", "/custom", {"name": "list", "type": "file_upload"}).body["id"])


def send(gateway: Gateway, audience: str, *parts: tuple[str, str | bytes]) -> Response:
    return gateway.fetch("POST", f"/custom/{audience}/uploads", form(*parts), content_type=FORM)


def fields(**values: str) -> list[tuple[str, str]]:
    return list({"uploadId": "first", "mode": "UPLOAD_MODE_APPEND", **values}.items())


def test_a_form_uploads_a_file(gateway: Gateway, service: Service, org: str, audience: str) -> None:
    """The file is larger than a piece, and an upload that is repeated has the same response."""
    ids = service.insert(org, [{"data": {"email": f"p{number}@example.com"}} for number in range(3)])
    rows = "".join(f"p{number}@example.com,{'x' * 100}\n" for number in range(3_000))
    parts = [*fields(columns='[{"field": "email", "name": "Mail"}]'), ("file", f"Mail,Note\n{rows}")]
    first = send(gateway, audience, *parts)
    assert (first.status, first.body["state"], first.body["matchedContactCount"]) == (
        200,
        "UPLOAD_STATE_PUBLISHED",
        len(ids),
    )
    assert send(gateway, audience, *parts).body == first.body
    assert gateway.fetch("GET", f"/custom/{audience}").body["contactCount"] == 3
    assert gateway.fetch("GET", f"/custom/{audience}/uploads/first").body == first.body


def test_an_upload_goes_on_where_the_service_stopped(
    gateway: Gateway, service: Service, org: str, audience: str
) -> None:
    """The client sends the complete file again."""
    content = "email\n" + "".join(f"p{number}@example.com\n" for number in range(12_000))
    half = uploads.messages(uploads.header(audience), content.encode()[: len(content) // 2])
    *begun, _ = half  # without the trailer
    with pytest.raises(grpc.RpcError, match="trailer"):
        uploads.Uploader(service.client(org)).send(iter(begun))
    assert int(gateway.fetch("GET", f"/custom/{audience}/uploads/first").body["nextOffset"]) > 0
    published = send(gateway, audience, *fields(), ("file", content))
    assert (published.body["state"], published.body["rowCount"]) == ("UPLOAD_STATE_PUBLISHED", 12_000)


def test_a_client_that_disconnects_ends_its_upload(gateway: Gateway, service: Service, audience: str) -> None:
    whole = form(*fields(), ("file", "email\n" + "p@example.com\n" * 2_000))
    head = "".join(f"{name}: {value}\r\n" for name, value in {**gateway.headers, "content-type": FORM}.items())
    head = f"POST /crm/audiences/custom/{audience}/uploads HTTP/1.1\r\nhost: x\r\n{head}"
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(f"{head}content-length: {len(whole)}\r\n\r\n".encode() + whole[: len(whole) // 2])
        eventually(lambda: service.open_stream_count == 1)
    eventually(lambda: service.open_stream_count == 0)


@pytest.mark.parametrize(
    ("parts", "status", "problem"),
    [
        ([*fields(), ("mode", "UPLOAD_MODE_APPEND"), ("file", "email\n")], 400, "twice"),
        ([*fields(mod="x"), ("file", "email\n")], 400, "did you mean mode?"),
        ([*fields(audienceId="custom-other"), ("file", "email\n")], 400, "leave it out"),
        ([*fields(columns="x"), ("file", "email\n")], 400, "not JSON"),
        ([*fields(mode="UPLOAD_MODE_UNSPECIFIED"), ("file", "email\n")], 400, "mode"),
        (fields(), 400, "no part `file`"),
        ([*((f"f{n}", "x" * 40_000) for n in range(2)), ("file", "email\n")], 400, "fields before the file together"),
        ([("file", "email\n"), *fields()], 400, ""),
        ([*fields(), ("file", b"email\n\xff\n")], 400, ""),
    ],
)
def test_a_form_that_is_no_upload_is_refused(
    gateway: Gateway, audience: str, parts: list[Any], status: int, problem: str
) -> None:
    refused = send(gateway, audience, *parts)
    assert refused.status == status
    assert problem in refused.body["message"]


def test_an_upload_with_a_query_is_refused(gateway: Gateway, audience: str) -> None:
    """Its fields are parts of the form."""
    path = f"/custom/{audience}/uploads?mode=UPLOAD_MODE_REPLACE&mode=x"
    refused = gateway.fetch("POST", path, form(*fields(), ("file", "email\n")), content_type=FORM)
    assert (refused.status, refused.violations) == (400, {"mode": "is in the query; send it as a part of the form"})


def test_an_upload_needs_a_form_and_its_audience(gateway: Gateway, audience: str) -> None:
    path = f"/custom/{audience}/uploads"
    assert gateway.fetch("POST", path, {"mode": "append"}).reason == "MALFORMED_REQUEST"
    assert send(gateway, "custom-none", *fields(), ("file", "email\n")).status == 404
    anonymous = Gateway(gateway.address, {"orgid": "x"})
    assert anonymous.fetch("POST", path, form(*fields(), ("file", "a")), content_type=FORM).status == 401
