"""`make builder`: the processes, the address and the token of the audience builder."""

import json
import re
import socket
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


@pytest.mark.parametrize("option", ["port", "gateway-port", "service-port"])
def test_a_taken_port_is_refused_before_anything_starts(option: str) -> None:
    ports = {name: free_port() for name in ("port", "gateway-port", "service-port")}
    with socket.create_server(("127.0.0.1", ports[option])):
        done = run_builder(*(f"--{name}={port}" for name, port in ports.items()))
    first, example = done.stderr.splitlines()
    assert first.startswith(f"cannot serve on 127.0.0.1:{ports[option]}: ")
    assert first.endswith(f"; choose another --{option}")
    assert example.startswith("example: .venv/bin/python -m scripts.builder")


def test_one_port_cannot_serve_two() -> None:
    port = free_port()
    done = run_builder("--port=0", f"--gateway-port={port}", f"--service-port={port}")
    assert "choose another --service-port" in done.stderr


def test_an_error_of_the_settings_is_a_message() -> None:
    ports = [f"--{name}={free_port()}" for name in ("port", "gateway-port", "service-port")]
    done = run_builder(*ports, AUDIENCE_MONGODB_URL="mongodb://127.0.0.1")
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["AUDIENCE_MONGODB_URL: is not a setting; did you mean AUDIENCE_MONGODB_URI?"]


def run_builder(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A builder that ends by itself."""
    command = [sys.executable, "-m", "scripts.builder", *arguments]
    environment = environment_of(settings)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)  # noqa: S603
