"""The example in Node, against the gateway and against one whose streams break."""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.conftest import Service
from tests.http.conftest import VIP, Gateway

pytestmark = pytest.mark.slow

EXAMPLE = Path("examples/node/campaign.mjs")


def run_campaign(node: str, gateway: Gateway, purpose: str = "") -> subprocess.CompletedProcess[str]:
    """The example, run to its end."""
    settings = {
        "ADDRESS": gateway.address if "://" in gateway.address else f"http://127.0.0.1:{gateway.port}",
        "ORG": gateway.headers["orgid"],
        "TOKEN": gateway.headers["authorization"].removeprefix("Bearer "),
        "PURPOSE": purpose,
    }
    command = [node, str(EXAMPLE), str(VIP["name"]), "spring"]
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=50, check=False)  # noqa: S603


def send_campaign(node: str, gateway: Gateway, purpose: str = "") -> list[str]:
    """The lines that the example prints for its recipients."""
    done = run_campaign(node, gateway, purpose)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_campaign_in_node_reaches_each_recipient_once(
    node: str, gateway: Gateway, service: Service, insert: Callable[..., list[str]]
) -> None:
    """A second run has the same recipients, although another contact has entered since."""
    gateway.fetch("POST", "/segments", {**VIP, "filter": {"datatype": "contact", "where": {"tags": "vip"}}})
    ids = insert([{"data": {"tags": ["vip"], "email": f"p{number}@example.com"}} for number in range(3)])
    purpose = "email" if service.kind == "mongodb" else ""
    sent = send_campaign(node, gateway, purpose)
    assert sorted(sent) == sorted(f"spring {each} p{number}@example.com" for number, each in enumerate(ids))
    insert([{"data": {"tags": ["vip"], "email": "late@example.com"}}])
    assert send_campaign(node, gateway, purpose) == sent


class Breaking(BaseHTTPRequestHandler):
    """A gateway that is unavailable at first, has a segment a page, and breaks a stream of two after the first.

    A proxy answers its first request.
    """

    requests: list[tuple[str, Any]]
    pages: list[str]

    def do_GET(self) -> None:
        token = parse_qs(urlsplit(self.path).query).get("pageToken", [""])[0]
        self.pages.append(token)
        if len(self.pages) == 1:
            self._send(b"<html>\n<h1>Bad Gateway</h1>", 502, "text/html")
        elif token:
            self._respond({"segments": [{"id": "segment-1", "name": VIP["name"]}], "nextPageToken": ""})
        else:
            segment = {"id": "segment-0", "name": f"{VIP['name']} of 2025"}
            self._respond({"segments": [segment], "nextPageToken": "second+page"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.requests.append((self.path.rpartition("/")[2], body))
        match self.path.rpartition("/")[2]:
            case "estimate-reach" if len(self.requests) == 1:
                self._respond({"code": 14, "message": "the service stops", "details": []}, 503)
            case "estimate-reach":
                self._respond({"count": 2})
            case "snapshots":
                self._respond({"id": "snapshot-1", "creationState": "CREATION_STATE_READY", "count": 2})
            case _:
                number = 2 if "cursor" in body else 1
                member = {"id": f"contact-{number}", "fields": {"email": f"p{number}@example.com"}}
                text = f"id: after {number}\ndata: {json.dumps({'members': [member]})}\n\n"
                if number == 2:
                    text += f"event: end\ndata: {json.dumps({'code': 0, 'message': '', 'details': []})}\n\n"
                self._send(text.encode(), 200, "text/event-stream")

    def _respond(self, value: Any, status: int = 200) -> None:
        self._send(json.dumps(value).encode(), status, "application/json")

    def _send(self, content: bytes, status: int, media_type: str) -> None:
        self.send_response(status)
        self.send_header("content-type", media_type)
        self.end_headers()  # the body ends with the connection, as a broken one does
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


@contextmanager
def serve(handler: type[BaseHTTPRequestHandler]) -> Iterator[Gateway]:
    """A server that answers as a gateway."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield Gateway(f"127.0.0.1:{server.server_port}", {"orgid": "x", "authorization": "Bearer t"})
        finally:
            server.shutdown()


@pytest.fixture
def breaking() -> Iterator[tuple[Gateway, list[tuple[str, Any]]]]:
    """Such a gateway, and the requests that it gets."""
    Breaking.requests, Breaking.pages = [], []
    with serve(Breaking) as gateway:
        yield gateway, Breaking.requests


def test_a_stream_that_breaks_continues_after_its_last_message(
    node: str, breaking: tuple[Gateway, list[tuple[str, Any]]]
) -> None:
    gateway, requests = breaking
    assert send_campaign(node, gateway) == ["spring contact-1 p1@example.com", "spring contact-2 p2@example.com"]
    assert [path for path, _ in requests] == ["estimate-reach"] * 2 + ["snapshots"] + ["stream-members"] * 2
    assert requests[2][1]["requestId"] == "spring"
    assert requests[4][1]["cursor"] == "after 1"


def test_a_segment_is_found_on_a_later_page(node: str, breaking: tuple[Gateway, list[tuple[str, Any]]]) -> None:
    """Another segment's name contains its name. The first request repeats after the failure of a proxy."""
    gateway, requests = breaking
    send_campaign(node, gateway)
    assert Breaking.pages == ["", "", "second+page"]
    assert requests[0][1]["audienceId"] == "segment-1"


class Elsewhere(Breaking):
    """A web server that is no gateway."""

    def do_GET(self) -> None:
        self._send(b"<html>\n<title>No such page</title>" + b"x" * 1_000, 404, "text/html")


def test_an_answer_that_is_not_of_the_service_is_shown(node: str) -> None:
    """With its status and its start."""
    with serve(Elsewhere) as gateway:
        done = run_campaign(node, gateway)
    assert done.returncode == 1
    assert "404 Not Found: <html> <title>No such page</title>xx" in done.stderr
    assert "x" * 200 not in done.stderr
