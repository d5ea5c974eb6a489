"""The command `audience-service`, run as a user runs it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import SEALING_KEY

BIN = Path(sys.executable).parent
_SERVER_SETTINGS = {
    "AUDIENCE_LISTEN": "127.0.0.1:0",
    "AUDIENCE_LOG_FORMAT": "json",
    "AUDIENCE_SEALING_KEY": SEALING_KEY,  # so that each opens the tokens of the others
}
COMMAND = [sys.executable, "-m", "audience_service"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command with these settings alone."""
    return run_in(Path.cwd(), *arguments, **environment)


def run_in(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a working directory."""
    return subprocess.run(  # noqa: S603
        [*COMMAND, *arguments],
        env=environment_of(environment),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=folder,
    )


@contextmanager
def held_port() -> Iterator[int]:
    """A port that no other process is given meanwhile. It refuses connections unless a server shares it."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        yield listener.getsockname()[1]


def free_port() -> int:
    """A port that was free a moment ago. The system gives the next port to others before it repeats this one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def environment_of(settings: dict[str, str]) -> dict[str, str]:
    """The environment of a command: these settings, and no other of the service."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_")}
    return {**kept, **settings, "PYTHONUNBUFFERED": "1"}


@contextmanager
def run_server(**environment: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A served process, its address, and what it printed until it served."""
    arguments = ["serve", *(["--dev"] if "AUDIENCE_JWT_KEY" not in environment else [])]
    with _run_until("serving", arguments, {**_SERVER_SETTINGS, **environment}) as running:
        yield running


def end_server(process: subprocess.Popen[str]) -> None:
    """Send SIGTERM to a process, which must end without an error. Otherwise the failure shows what it logged."""
    process.terminate()
    try:
        _, logged = process.communicate(timeout=60)
    except subprocess.TimeoutExpired as error:
        process.kill()
        raise AssertionError(f"did not end: {error.stderr!r}") from None
    assert process.returncode == 0, logged


@contextmanager
def run_gateway(service_port: int, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process of an HTTP gateway for the service at a port of this machine, and its address."""
    settings = {
        "AUDIENCE_LISTEN": f"127.0.0.1:{service_port}",
        "AUDIENCE_HTTP_LISTEN": "127.0.0.1:0",
        "AUDIENCE_LOG_FORMAT": "json",
    }
    with _run_until("serving HTTP", ["gateway"], {**settings, **environment}) as (process, address, _):
        yield process, address


@contextmanager
def _run_until(
    event: str, arguments: list[str], environment: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A process that has logged an event, the address in it, and what it printed until then."""
    process = subprocess.Popen(  # noqa: S603
        [*COMMAND, *arguments], env=environment_of(environment), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    printed: list[str] = []
    try:
        for line in process.stderr:
            printed.append(line.strip())
            if f'"event": "{event}"' in line:
                break
        address = json.loads(printed[-1])["address"]
        yield process, address, printed
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
