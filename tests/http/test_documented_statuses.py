"""The statuses of the OpenAPI document: each of them is seen, and none that is not in it."""

import http.client
import json
import re
import socket
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import closing
from typing import Any

import grpc
import pytest

from scripts.openapi import DOCUMENT
from tests.conftest import Service
from tests.http.conftest import Gateway
from tests.http.test_uploads import FORM, form
from tests.support.command import run_gateway
from tests.support.lookalikes import people
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

PREFIX = "/crm/audiences"
DOCUMENTED = {
    (f"{verb.upper()} {path.removeprefix(PREFIX)}", int(status))
    for path, verbs in json.loads(DOCUMENT.read_text())["paths"].items()
    for verb, operation in verbs.items()
    for status in operation["responses"]
    if status != "default"
}
OPERATIONS = sorted({operation for operation, _ in DOCUMENTED})
WITH_BODY = [operation for operation, status in sorted(DOCUMENTED) if status == 415]
REQUESTS: dict[str, dict[str, Any]] = json.loads((DOCUMENT.parents[2] / "tests/data/http_statuses.json").read_text())
"""A request for each operation and status that depends on it: its path, and its body if it has one."""
UPLOAD = "POST /custom/{audienceId}/uploads"
CODES = {429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}
"""The statuses that depend on the state of the service, and the code that it responds with then."""
EVERYONE = {"datatype": "contact", "where": {}}


def test_the_table_has_every_operation() -> None:
    assert sorted(REQUESTS) == OPERATIONS


class Resources:
    """What the requests of the table name in braces, each made when it is used."""

    def __init__(self, gateway: Gateway, insert: Callable[..., list[str]]) -> None:
        self._gateway = gateway
        self._insert = insert
        self._count = 0
        self._lookalike = ""

    def fill(self, value: Any) -> Any:
        """The value with the names of resources instead of the words in braces."""
        return json.loads(re.sub(r"\{(\w+)\}", lambda word: getattr(self, word[1])(), json.dumps(value)))

    def new(self) -> str:
        self._count += 1
        return f"new {self._count}"

    def contact(self) -> str:
        return self._insert([{"data": {"email": f"p{self._count}@example.com"}}])[0]

    def segment(self) -> str:
        return self._make("/segments", {"name": self.new(), "filter": EVERYONE})

    def segment_name(self) -> str:
        self.segment()
        return f"new {self._count}"

    def deleted(self) -> str:
        made = self.segment()
        self._gateway.fetch("DELETE", f"/segments/{made}")
        return made

    def list(self) -> str:
        return self._make("/custom", {"name": self.new(), "type": "file_upload"})

    def list_name(self) -> str:
        self.list()
        return f"new {self._count}"

    def uploaded(self) -> str:
        made = self.list()
        send(self._gateway, UPLOAD, *self.fill(REQUESTS[UPLOAD]["200"])[1:], path=f"/custom/{made}/uploads")
        return made

    def lookalike(self) -> str:
        if not self._lookalike:
            self._insert(people(1_100))
            seed = {"datatype": "contact", "where": {"score": {"$gte": 90}}}
            source = self._make("/segments", {"name": self.new(), "filter": seed})
            spec = {"sourceAudienceId": source, "fields": ["city", "tags"], "count": 50}
            self._lookalike = self._make("/custom", {"name": self.new(), "type": "lookalike", "lookalike": spec})
            path = f"/custom/{self._lookalike}"
            eventually(lambda: self._gateway.fetch("GET", path).body["creationState"] == "CREATION_STATE_READY")
        return self._lookalike

    def snapshot(self) -> str:
        made = self._make("/snapshots", {"audienceId": self.segment()})
        path = f"/snapshots/{made}"
        eventually(lambda: self._gateway.fetch("GET", path).body["creationState"] == "CREATION_STATE_READY")
        return made

    def snapshot_request(self) -> str:
        request_id = self.new()
        self._make("/snapshots", {"audienceId": self.segment(), "name": "other", "requestId": request_id})
        return request_id

    def sync(self, **fields: Any) -> str:
        body = {"name": self.new(), "platform": "meta", "audienceIds": [self.segment()], "fields": ["email"], **fields}
        return self._make("/syncs", body)

    def sync_request(self) -> str:
        request_id = self.new()
        self.sync(requestId=request_id)
        return request_id

    def sent(self) -> str:
        """A sync whose first batch a worker has received."""
        self.contact()
        made = self.sync()
        self._gateway.fetch("POST", f"/syncs/{made}/changes", {"workerId": "w"})
        return made

    def _make(self, path: str, body: Any) -> str:
        return str(self._gateway.fetch("POST", path, body).body["id"])


def send(gateway: Gateway, operation: str, body: Any = None, *, path: str = "", **headers: str) -> int:
    """The status of a request. Of a stream nothing but the head is read."""
    verb, template = operation.split(" ")
    path = path or re.sub(r"\{\w+\}", "none", template)
    if operation == UPLOAD:
        body, headers["content_type"] = form(*(body or {}).items()), FORM
    elif body is not None:
        body = body if isinstance(body, bytes) else json.dumps(body)
    all_headers = {**gateway.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
    with closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=40)) as connection:
        connection.request(verb, PREFIX + path, body, all_headers)
        return connection.getresponse().status


def test_a_request_has_its_status(gateway: Gateway, service: Service, insert: Callable[..., list[str]]) -> None:
    """Of the table, of an unknown parameter, without a token and for another org."""
    resources = Resources(gateway, insert)
    seen, wrong = defaultdict[str, set[int]](set), []
    limited = {operation for operation, status in DOCUMENTED if status == 501}
    if service.kind == "embedded":
        own = {(each, 200) for each in limited}  # and those of what this store cannot make
        own |= {(each, 200) for each, requests in REQUESTS.items() if re.search("{(lookalike|sent)}", str(requests))}
    else:
        own = {(each, 501) for each in limited}
    for operation, requests in REQUESTS.items():
        for status, request in requests.items():
            if (operation, int(status)) in own and operation not in limited:
                continue
            path, *body = resources.fill([request] if isinstance(request, str) else request)
            got = send(gateway, operation, *body, path=path)
            seen[operation].add(got)
            if got != int(status) and (operation, got) not in {(each, 501) for each in limited} - own:
                wrong.append((operation, status, got))
    anonymous = Gateway(gateway.address, {"orgid": gateway.headers["orgid"]})
    foreign = Gateway(gateway.address, {**gateway.headers, "orgid": "another"})
    for operation in OPERATIONS:
        path = re.sub(r"\{\w+\}", "none", operation.split(" ")[1])
        body = {"uploadId": "u", "file": "a"} if operation == UPLOAD else {} if operation in WITH_BODY else None
        seen[operation] |= {
            send(gateway, operation, body, path=f"{path}?colour=red"),
            send(anonymous, operation, body),
            send(foreign, operation, body),
        }
    assert wrong == []
    expected = {each for each in DOCUMENTED if each[1] in (200, 400, 401, 403, 404, 409, 501)}
    missing = {each for each in expected if each[1] not in seen[each[0]]}
    assert missing - own == set()
    assert {(each, status) for each, statuses in seen.items() for status in statuses} - DOCUMENTED == set()


class Failing(grpc.GenericRpcHandler):
    """A service that responds to every call with the code in its request id."""

    def service(self, handler_call_details: Any) -> Any:
        code = getattr(grpc.StatusCode, dict(handler_call_details.invocation_metadata)["x-request-id"])
        return grpc.stream_stream_rpc_method_handler(lambda _, context: context.abort(code, "text"))


@pytest.fixture(scope="module")
def failing() -> Iterator[Gateway]:
    """A gateway in front of such a service, which waits two seconds for a request."""
    with futures.ThreadPoolExecutor() as threads:
        server = grpc.server(threads, handlers=[Failing()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        seconds = {"AUDIENCE_REQUEST_TIMEOUT_SECONDS": "2", "AUDIENCE_STREAM_SEND_TIMEOUT_SECONDS": "2"}
        with run_gateway(port, **seconds) as (_, address):
            yield Gateway(address, {"authorization": "Bearer t", "orgid": "x"})
        server.stop(None)


@pytest.mark.parametrize("status", CODES)
def test_every_operation_reports_the_state_of_the_service(failing: Gateway, status: int) -> None:
    seen = {
        (each, send(failing, each, {"file": "a"} if each == UPLOAD else None, x_request_id=CODES[status]))
        for each in OPERATIONS
    }
    assert seen == {each for each in DOCUMENTED if each[1] == status}


def test_every_operation_with_a_body_limits_it(failing: Gateway) -> None:
    """In size, in encoding and in time."""
    large = {(each, send(failing, each, b" " * 5_000_000)) for each in WITH_BODY if each != UPLOAD}
    packed = {
        (each, send(failing, each, {"file": "a"} if each == UPLOAD else {}, content_encoding="br"))
        for each in WITH_BODY
    }
    with futures.ThreadPoolExecutor(len(WITH_BODY)) as threads:
        slow = set(zip(WITH_BODY, threads.map(lambda each: send_half(failing, each), WITH_BODY), strict=True))
    assert large | packed | slow == {each for each in DOCUMENTED if each[1] in (408, 413, 415)}


def send_half(gateway: Gateway, operation: str) -> int:
    """The status of a request whose body never ends."""
    verb, template = operation.split(" ")
    path = PREFIX + re.sub(r"\{\w+\}", "none", template)
    headers = {**gateway.headers, "host": "x", "content-type": FORM, "content-length": "100"}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=40) as connection:
        connection.sendall(f"{verb} {path} HTTP/1.1\r\n{head}\r\n-".encode())
        return int(connection.recv(65_536).split(b" ")[1])
