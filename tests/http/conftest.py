"""The HTTP gateway in front of a test server, as `audience-service gateway` runs it."""

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest

from audience_service.cli.token import mint
from tests.conftest import Service
from tests.support.command import run_gateway

VIP = {
    "name": "VIP recent openers",
    "filter": {
        "datatype": "contact",
        "where": {"$and": [{"tags": "vip"}, {"lastEmailOpenedAt": {"$gte": "2026-03-25T00:00:00Z"}}]},
    },
    "type": "dynamic",
}
ORIGIN = "https://crm.example.com"


@dataclass(frozen=True)
class Response:
    """A status, and the content that came with it."""

    status: int
    headers: Mapping[str, str]
    """By their names in lower case."""
    content: bytes

    @cached_property
    def body(self) -> Any:
        """The JSON that came with it."""
        return json.loads(self.content)

    @property
    def violations(self) -> dict[str, str]:
        """Of a refusal: what is wrong with each field."""
        [request] = [detail for detail in self.body["details"] if detail["@type"].endswith("BadRequest")]
        return {each["field"]: each["description"] for each in request["fieldViolations"]}

    @property
    def reason(self) -> str:
        """Of a refusal."""
        [info] = [detail for detail in self.body["details"] if detail["@type"].endswith("ErrorInfo")]
        return str(info["reason"])


@dataclass(frozen=True)
class Gateway:
    """Sends what a page's `fetch` would."""

    address: str
    headers: dict[str, str]

    @property
    def port(self) -> int:
        """The port of the gateway."""
        return int(self.address.rpartition(":")[2])

    def fetch(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        """The answer to a request; a body that is no text is sent as JSON. Headers have underscores for hyphens."""
        payload = body if isinstance(body, str | bytes | None) else json.dumps(body)
        return self.send(method, f"/crm/audiences{path}", payload, **{"content_type": "application/json", **headers})

    def send(self, method: str, path: str, payload: str | bytes | None = None, **headers: str) -> Response:
        """The answer to a request for any path."""
        all_headers = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)) as connection:
            # A body that is too large is refused before it has all been sent.
            with suppress(ConnectionError):
                connection.request(method, path, payload, all_headers)
            response = connection.getresponse()
            return Response(response.status, {k.lower(): v for k, v in response.headers.items()}, response.read())


@pytest.fixture(scope="session")
def gateway_address(service: Service) -> Iterator[str]:
    """One gateway for each store's server."""
    with run_gateway(service.app.port, AUDIENCE_HTTP_CORS_ORIGINS=ORIGIN) as (_, address):
        yield address


@pytest.fixture
def gateway(service: Service, org: str, gateway_address: str) -> Gateway:
    """The gateway, for a caller of the test's org."""
    token = mint(service.settings, org=org, subject="ann")
    return Gateway(gateway_address, {"authorization": f"Bearer {token}", "orgid": org})


@pytest.fixture
def segment(gateway: Gateway) -> dict[str, Any]:
    """The page's segment, saved."""
    made: dict[str, Any] = gateway.fetch("POST", "/segments", VIP).body
    return made
