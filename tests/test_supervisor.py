"""Workers that hang, die, or lose their supervisor, and ports that are taken."""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from audience_service.cli import EX_CONFIG, supervisor
from audience_service.cli.supervisor import PortTaken, Supervisor
from tests.conftest import KEY, SEALING_KEY
from tests.support.command import end_server, free_port, held_port, logged, run, run_server
from tests.support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def workers_of(pid: int) -> set[int]:
    """The worker processes of a supervisor; multiprocessing has a process of its own that tracks resources."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                command = (path.parent / "cmdline").read_bytes()
                found |= {int(path.parent.name)} if b"spawn_main" in command else set()
    return found


@contextmanager
def two_workers(**settings: str) -> Iterator[tuple[Any, str, list[str]]]:
    """The process of a supervisor with two workers, its address, and its log. Health needs no database."""
    with held_port() as closed:
        uri = f"mongodb://127.0.0.1:{closed}/?serverSelectionTimeoutMS=200"
        listen = f"127.0.0.1:{free_port()}"
        environment = {"AUDIENCE_MONGODB_URI": uri, "AUDIENCE_WORKERS": "2", "AUDIENCE_JWT_KEY": KEY, **settings}
        with run_server(AUDIENCE_LISTEN=listen, **environment) as (process, address, printed):
            eventually(lambda: len(logged(printed, "serving")) == 2)
            yield process, address, printed


def test_a_stopped_worker_is_replaced() -> None:
    """SIGSTOP leaves a process alive, and its connections open, for ever."""
    with two_workers() as (process, _, printed):
        stopped, other = sorted(workers_of(process.pid))
        os.kill(stopped, signal.SIGSTOP)
        eventually(lambda: stopped not in (now := workers_of(process.pid)) and other in now and len(now) == 2, 60)
        end_server(process, printed)


def work(ready: Event, is_deaf: bool, _: Connection) -> None:
    """A worker that waits for SIGTERM, and ends only if it is not deaf to it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN if is_deaf else lambda *_: sys.exit())
    ready.set()
    while True:
        signal.pause()


@pytest.mark.parametrize("is_deaf", [False, True])
def test_a_worker_that_does_not_stop_is_an_error(is_deaf: bool) -> None:
    """Its calls were cut off, which whoever stops the service should learn."""
    ready = multiprocessing.get_context("spawn").Event()
    run_worker = partial(work, ready, is_deaf)
    stopped = Supervisor(f"127.0.0.1:{free_port()}", 1, run_worker, 0.5 if is_deaf else 60, lambda _: None)
    assert stopped.run(lambda _: ready.wait(60)) == int(is_deaf)


def test_workers_end_with_their_supervisor() -> None:
    """An orphan would keep the port."""
    with two_workers() as (process, _, _):
        workers = workers_of(process.pid)
        process.kill()
        eventually(lambda: not any(is_alive(pid) for pid in workers), 60)


def test_two_services_never_share_a_port() -> None:
    """SO_REUSEPORT would let each answer some of the other's clients."""
    with two_workers() as (_, address, _):
        other = {
            "AUDIENCE_MONGODB_URI": "mongodb://127.0.0.1:1/",
            "AUDIENCE_JWT_KEY": "another key" * 5,
            "AUDIENCE_SEALING_KEY": SEALING_KEY,
        }
        done = run("serve", AUDIENCE_LISTEN=address, AUDIENCE_WORKERS="2", **other)
        assert (done.returncode, "cannot serve on" in done.stderr) == (1, True), done.stderr


def test_a_reserved_port_is_taken() -> None:
    """A supervisor holds its port before its workers listen."""
    with held_port() as port, pytest.raises(PortTaken):
        Supervisor(f"127.0.0.1:{port}", 1, lambda _: None, 1, lambda _: None)


def test_workers_that_refuse_their_settings_are_not_restarted() -> None:
    """Only a worker opens the database."""
    settings = {"AUDIENCE_MONGODB_URI": "postgres://x", "AUDIENCE_WORKERS": "2"}
    settings |= {"AUDIENCE_JWT_KEY": KEY, "AUDIENCE_SEALING_KEY": SEALING_KEY}
    done = run("serve", AUDIENCE_LISTEN=f"127.0.0.1:{free_port()}", **settings)
    assert (done.returncode, "Invalid URI scheme" in done.stderr, "Traceback" in done.stderr) == (
        EX_CONFIG,
        True,
        False,
    )


def test_a_port_with_lingering_connections_is_free() -> None:
    """A restart must not wait for the connections of the run before."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as listener:  # as grpc's
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            near, _ = listener.accept()
            near.close()  # this end has TIME_WAIT
            client.recv(1)
    supervisor._reserve_port(f"127.0.0.1:{port}").close()
