"""`python -m bench.cancel --uri URI`: how long the database works for a cancelled StreamReach.

A proxy between the service and the database tracks the commands without a reply. The benchmark cancels each call at a
random time, and measures the time until the last reply to one of its commands.
"""

import json
import random
import socket
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click
import grpc
from pymongo.uri_parser import parse_uri
from rich.console import Console
from rich.progress import track

from audience_service.cli.token import mint
from audience_service.pb.audience.v1.reach_service_pb2 import StreamReachRequest
from audience_service.pb.audience.v1.reach_service_pb2_grpc import ReachServiceStub
from audience_service.pb.audience.v1.resources_pb2 import Filter
from audience_service.settings import Settings
from bench.dataset import LARGE
from bench.processes import KEY, audience_service

FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"country": "US", "tags": {"$in": ["lead", "mql"]}},
    {"$and": [{"tags": "vip"}, {"lastEmailOpenedAt": {"$gte": "2026-03-25T00:00:00Z"}}]},
    {"email": {"$regex": "[a-z]+[.][a-z]+[.].*7@example"}},
)
_HEADER = struct.Struct("<iiii")
_OP_MSG = 2013
_BODY = 16 + 4 + 1 + 4
"""The offset of the body's first field, after the header, the flags, the section kind and the document's length."""
_IDLE_SECONDS = 0.5
_MAX_WAIT_SECONDS = 30.0


class CommandMonitor:
    """The commands without a reply, and the time of the last reply."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[int, int], str] = {}
        self.last_reply_at = 0.0
        self.sent_count = 0

    def record_request(self, connection: int, message: bytes) -> None:
        """Record a message to the database."""
        _, request, _, kind = _HEADER.unpack_from(message)
        command = message[_BODY + 1 : message.index(0, _BODY + 1)].decode() if kind == _OP_MSG else ""
        if command in ("aggregate", "find", "getMore"):
            with self._lock:
                self._open[connection, request] = command
                self.sent_count += 1

    def record_reply(self, connection: int, message: bytes) -> None:
        """Record a message from the database."""
        _, _, request, _ = _HEADER.unpack_from(message)
        with self._lock:
            if self._open.pop((connection, request), ""):
                self.last_reply_at = time.monotonic()

    def record_close(self, connection: int) -> None:
        """Record that the database closed a connection, which ends its commands."""
        with self._lock:
            closed_keys = [key for key in self._open if key[0] == connection]
            for key in closed_keys:
                del self._open[key]
                self.last_reply_at = time.monotonic()

    @property
    def is_idle(self) -> bool:
        """Whether every command has a reply."""
        with self._lock:
            return not self._open


@contextmanager
def run_proxy(host: str, port: int) -> Iterator[tuple[CommandMonitor, int]]:
    """A monitor of the commands that pass through a proxy to the database, and the proxy's port."""
    monitor = CommandMonitor()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, host, port, monitor), daemon=True).start()
        yield monitor, listener.getsockname()[1]


def _accept(listener: socket.socket, host: str, port: int, monitor: CommandMonitor) -> None:
    with suppress(OSError):
        for number in range(1_000_000):
            client, _ = listener.accept()
            server = socket.create_connection((host, port))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(
                target=_forward, args=(client, server, monitor.record_request, number), daemon=True
            ).start()
            threading.Thread(
                target=_forward, args=(server, client, monitor.record_reply, number, monitor.record_close), daemon=True
            ).start()


def _forward(source: socket.socket, sink: socket.socket, on_message: Any, number: int, on_close: Any = None) -> None:
    """Forward complete messages. Commands of a disconnected client stay open until the database replies."""
    with suppress(OSError):
        while message := _read_message(source):
            on_message(number, message)
            with suppress(OSError):
                sink.sendall(message)
    if on_close:
        on_close(number)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _read_message(source: socket.socket) -> bytes:
    head = _read_exactly(source, 4)
    return head + _read_exactly(source, struct.unpack("<i", head)[0] - 4) if head else b""


def _read_exactly(source: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = source.recv(size - len(parts))
        if not part:
            return b""
        parts += part
    return bytes(parts)


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on, without TLS. The benchmark only reads.")
@click.option("--database", default="bench_1000000", show_default=True, help="A database of `make bench`.")
@click.option("--cancels", default=30, show_default=True, help="Calls to cancel, with a cached key sample.")
@click.option("--seed", default=1, show_default=True, help="The random seed of the cancellation times.")
def main(*, uri: str, database: str, cancels: int, seed: int) -> None:
    """Measure how long the database works for calls of StreamReach after their cancellation at random times."""
    console, rng = Console(), random.Random(seed)  # noqa: S311 - times, not secrets
    [(host, port)] = parse_uri(uri)["nodelist"]
    with (
        run_proxy(host, port) as (monitor, proxy),
        audience_service(f"mongodb://127.0.0.1:{proxy}/", database) as server,
    ):
        client = _Client(server.address, monitor)
        cold = client.run_and_cancel(FILTERS[0], 0.5)
        durations = [client.run_to_end(where) for where in FILTERS]
        delays = []
        for number in track(range(cancels), "cancels", console=console, transient=True):
            index = number % len(FILTERS)
            delays.append(client.run_and_cancel(FILTERS[index], rng.uniform(0, durations[index])))
    median, maximum = statistics.median(delays) * 1000, max(delays) * 1000
    lengths = ", ".join(f"{seconds:.1f} s" for seconds in durations)
    console.print(f"{cancels} calls of StreamReach on {database} (complete: {lengths}), cancelled at random times")
    console.print(f"from cancel() to the last reply of the database: median {median:.0f} ms, at most {maximum:.0f} ms")
    console.print(f"the first call for its org, cancelled after 0.5 s: {cold * 1000:.0f} ms")


class _Client:
    """A client that measures its calls at both ends: the service and the database."""

    def __init__(self, address: str, monitor: CommandMonitor) -> None:
        token = mint(Settings(jwt_key=KEY), org=LARGE, subject="bench")
        self._metadata = (("authorization", f"Bearer {token}"), ("orgid", LARGE))
        self._stub = ReachServiceStub(grpc.insecure_channel(address))
        self._monitor = monitor

    def run_to_end(self, where: dict[str, Any]) -> float:
        """The seconds that a complete call takes."""
        started_at = time.monotonic()
        for _ in self._call(where):
            pass
        return time.monotonic() - started_at

    def run_and_cancel(self, where: dict[str, Any], delay: float) -> float:
        """The seconds from the cancellation of a call to the database's last reply.

        Raises RuntimeError if the database is not idle after `_MAX_WAIT_SECONDS`.
        """
        call = self._call(where)
        reader = threading.Thread(target=_consume, args=(call,))
        reader.start()
        time.sleep(delay)
        call.cancel()
        cancelled_at = time.monotonic()
        reader.join()
        idle_since = time.monotonic()
        while time.monotonic() - idle_since < _IDLE_SECONDS:
            if not self._monitor.is_idle or self._monitor.last_reply_at > idle_since:
                idle_since = time.monotonic()
            if idle_since - cancelled_at > _MAX_WAIT_SECONDS:
                raise RuntimeError(f"the database is still busy {_MAX_WAIT_SECONDS:.0f} s after the cancellation")
            time.sleep(0.002)
        return max(self._monitor.last_reply_at - cancelled_at, 0.0)

    def _call(self, where: dict[str, Any]) -> Any:
        request = StreamReachRequest(filter=Filter(datatype="contact", where_json=json.dumps(where)))
        return self._stub.StreamReach(request, metadata=self._metadata, timeout=120)


def _consume(call: Any) -> None:
    with suppress(grpc.RpcError):
        for _ in call:
            pass


if __name__ == "__main__":
    main()
