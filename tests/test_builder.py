"""`make builder`: the processes, the address and the token of the audience builder."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import pytest

from tests.support.command import environment_of, free_port

pytestmark = pytest.mark.slow  # it starts processes


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address that a running builder prints. A key of the environment must not sign its token."""
    ports = [f"--{name}={free_port()}" for name in ("port", "gateway-port", "service-port")]
    command = [sys.executable, "-m", "scripts.builder", *ports]
    settings = environment_of({"AUDIENCE_JWT_KEY": "k" * 32})
    with subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout
        try:
            yield next(line.strip() for line in process.stdout if "#" in line)
        finally:
            process.terminate()
            assert process.wait(timeout=50) == 0


def test_the_page_is_served_without_the_token(address: str) -> None:
    with urlopen(address.partition("#")[0]) as response:  # noqa: S310
        page = response.read().decode()
        assert response.headers["X-Frame-Options"] == "DENY"
    assert re.search(r'<script type="module" src="development.js">', page)


def test_the_gateway_answers_the_origin_of_the_page_alone(address: str) -> None:
    found = {name: values[0] for name, values in parse_qs(urlsplit(address).fragment).items()}
    headers = {"authorization": f"Bearer {found['token']}", "orgid": found["org"]}
    for origin, allowed in ((address.partition("/#")[0], True), ("http://evil.example", False)):
        url = f"{found['gateway']}/crm/audiences/fields?datatype=contact"
        request = Request(url, headers={**headers, "origin": origin})  # noqa: S310
        with urlopen(request) as response:  # noqa: S310
            assert len(json.load(response)["fields"]) > 10
            assert (response.headers["access-control-allow-origin"] == origin) == allowed
