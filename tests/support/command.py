"""The command `audience-service`, run as a user runs it."""

import json
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import pytest
from click.testing import CliRunner, Result

from audience_service.cli import main
from tests.conftest import SEALING_KEY
from tests.support.waiting import eventually

BIN = Path(sys.executable).parent
_SERVER_SETTINGS = {
    "AUDIENCE_LISTEN": "127.0.0.1:0",
    "AUDIENCE_LOG_FORMAT": "json",
    "AUDIENCE_SEALING_KEY": SEALING_KEY,  # so that each opens the tokens of the others
}
COMMAND = [sys.executable, "-m", "audience_service"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command with these settings alone."""
    return subprocess.run(  # noqa: S603
        [*COMMAND, *arguments],
        env=environment_of(environment),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def invoke(*arguments: str, **environment: str) -> Result:
    """Run the command in this process with these settings alone. Its stdout also has the log of the test's server."""
    others: dict[str, str | None] = {name: None for name in os.environ if name.startswith("AUDIENCE_")}
    return CliRunner(env={**others, **environment}).invoke(main, arguments)


@contextmanager
def held_port() -> Iterator[int]:
    """A port that no other process is given meanwhile. It refuses connections unless a server shares it."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        yield listener.getsockname()[1]


def free_port() -> int:
    """A port that is free, and that the system gives to nobody: it chooses ports above these. Two tests may meet."""
    while True:
        port = random.SystemRandom().randrange(10_000, 20_000)
        with suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            return port


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


def end_server(process: subprocess.Popen[str], printed: list[str]) -> None:
    """Send SIGTERM to a process, which must end without an error. Otherwise the failure shows what it printed."""
    process.terminate()
    try:
        code = process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        code = -1
    assert code == 0, "\n".join(printed)


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
    """A process that has logged an event, the address in it, and what it prints: always read, or it could not log."""
    process = subprocess.Popen(  # noqa: S603
        [*COMMAND, *arguments], env=environment_of(environment), stderr=subprocess.PIPE, text=True
    )
    printed: list[str] = []
    reader = threading.Thread(target=_read, args=(process.stderr, printed), daemon=True)
    reader.start()
    try:
        eventually(lambda: any(logged(printed, event)) or process.poll() is not None, seconds=100)
        [address, *_] = [found["address"] for found in logged(printed, event)] or pytest.fail("\n".join(printed))
        yield process, address, printed
    finally:
        process.kill()
        process.wait()
        reader.join(40)


def logged(printed: list[str], event: str) -> list[dict[str, Any]]:
    """The lines of a log that have an event."""
    return [json.loads(line) for line in printed if f'"event": "{event}"' in line]


def _read(stream: TextIO, printed: list[str]) -> None:
    with stream:
        for line in stream:
            printed.append(line.strip())  # noqa: PERF401 - others read it meanwhile
