"""The HTTP gateway in front of a test server: Envoy, as `make http` runs it."""

import http.client
import json
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from audience_service.cli.token import mint
from tests.conftest import Service

VIP = {
    "name": "VIP recent openers",
    "filter": {
        "datatype": "contact",
        "where": {"$and": [{"tags": "vip"}, {"lastEmailOpenedAt": {"$gte": "2026-03-25T00:00:00Z"}}]},
    },
    "type": "dynamic",
}
_ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Response:
    """A status and the JSON that came with it."""

    status: int
    body: Any

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

    def fetch(self, method: str, path: str, body: Any = None) -> Response:
        """The answer to a request; a body that is no text is sent as JSON."""
        payload = body if isinstance(body, str | None) else json.dumps(body)
        headers = {"content-type": "application/json", **self.headers}
        with closing(http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=20)) as connection:
            # A body that is too large is refused before it has all been sent.
            with suppress(ConnectionError):
                connection.request(method, f"/crm/audiences{path}", payload, headers)
            response = connection.getresponse()
            return Response(response.status, json.loads(response.read()))


def run_gateway(service_port: int) -> Generator[str, None, None]:
    """Run a gateway in front of a port of this machine; yields its address."""
    command = [sys.executable, "-m", "scripts.http_gateway", "--port", "0", "--service", f"127.0.0.1:{service_port}"]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def gateway_address(service: Service) -> Iterator[str]:
    """One gateway for each store's server."""
    yield from run_gateway(service.app.port)


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
