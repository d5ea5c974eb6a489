"""`python -m bench.cancel --uri URI`: how long a cancelled StreamReach goes on costing the database.

Between the service and the database stands a proxy that sees which commands have been sent and not been answered. Each
call is cancelled at a random moment; it costs the database until the last answer to one of its commands has come.
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
"""Where the body's first field begins: behind the header, the flags, the section's kind and the document's length."""
_QUIET_SECONDS = 0.5
_LONGEST_SECONDS = 30.0


class Watch:
    """The commands that are being answered, and when the last answer came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[int, int], str] = {}
        self.last = 0.0
        self.sent = 0

    def asked(self, connection: int, message: bytes) -> None:
        """A message on its way to the database."""
        _, request, _, kind = _HEADER.unpack_from(message)
        command = message[_BODY + 1 : message.index(0, _BODY + 1)].decode() if kind == _OP_MSG else ""
        if command in ("aggregate", "find", "getMore"):
            with self._lock:
                self._open[connection, request] = command
                self.sent += 1

    def answered(self, connection: int, message: bytes) -> None:
        """A message on its way back."""
        _, _, request, _ = _HEADER.unpack_from(message)
        with self._lock:
            if self._open.pop((connection, request), ""):
                self.last = time.monotonic()

    def closed(self, connection: int) -> None:
        """The database has ended a connection, and with it what was asked there."""
        with self._lock:
            ended = [key for key in self._open if key[0] == connection]
            for key in ended:
                del self._open[key]
                self.last = time.monotonic()

    @property
    def is_quiet(self) -> bool:
        """Whether everything has been answered."""
        with self._lock:
            return not self._open


@contextmanager
def proxied(host: str, port: int) -> Iterator[tuple[Watch, int]]:
    """A watch over all that goes through a port of its own to the database."""
    watch = Watch()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, host, port, watch), daemon=True).start()
        yield watch, listener.getsockname()[1]


def _accept(listener: socket.socket, host: str, port: int, watch: Watch) -> None:
    with suppress(OSError):
        for number in range(1_000_000):
            client, _ = listener.accept()
            server = socket.create_connection((host, port))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_pass_on, args=(client, server, watch.asked, number), daemon=True).start()
            threading.Thread(
                target=_pass_on, args=(server, client, watch.answered, number, watch.closed), daemon=True
            ).start()


def _pass_on(source: socket.socket, sink: socket.socket, see: Any, number: int, closed: Any = None) -> None:
    """Whole messages one by one. A client that goes leaves its commands open until the database answers them."""
    with suppress(OSError):
        while message := _message(source):
            see(number, message)
            with suppress(OSError):
                sink.sendall(message)
    if closed:
        closed(number)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _message(source: socket.socket) -> bytes:
    head = _exactly(source, 4)
    return head + _exactly(source, struct.unpack("<i", head)[0] - 4) if head else b""


def _exactly(source: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = source.recv(size - len(parts))
        if not part:
            return b""
        parts += part
    return bytes(parts)


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on, without TLS. It is only read.")
@click.option("--database", default="bench_1000000", show_default=True, help="As `make bench` leaves it.")
@click.option("--cancels", default=30, show_default=True, help="Calls that are cancelled, landmarks known.")
@click.option("--seed", default=1, show_default=True, help="What draws the moments.")
def main(*, uri: str, database: str, cancels: int, seed: int) -> None:
    """Measure for how long calls of StreamReach that are cancelled at random moments go on asking the database."""
    console, chance = Console(), random.Random(seed)  # noqa: S311 - moments, not secrets
    [(host, port)] = parse_uri(uri)["nodelist"]
    with proxied(host, port) as (watch, own), audience_service(f"mongodb://127.0.0.1:{own}/", database) as server:
        call = _Calls(server.address, watch)
        cold = call.cancelled(FILTERS[0], 0.5)
        whole = [call.to_the_end(where) for where in FILTERS]
        costs = []
        for number in track(range(cancels), "cancels", console=console, transient=True):
            place = number % len(FILTERS)
            costs.append(call.cancelled(FILTERS[place], chance.uniform(0, whole[place])))
    median, most = statistics.median(costs) * 1000, max(costs) * 1000
    lengths = ", ".join(f"{seconds:.1f} s" for seconds in whole)
    console.print(f"{cancels} calls of StreamReach on {database}, which take {lengths}, cancelled at random moments")
    console.print(f"from cancel() to the last answer of the database: median {median:.0f} ms, at most {most:.0f} ms")
    console.print(f"a call that was the first about its org, cancelled after 0.5 s: {cold * 1000:.0f} ms")


class _Calls:
    """Calls of one caller, seen from both of their ends."""

    def __init__(self, address: str, watch: Watch) -> None:
        token = mint(Settings(jwt_key=KEY), org=LARGE, subject="bench")
        self._metadata = (("authorization", f"Bearer {token}"), ("orgid", LARGE))
        self._stub = ReachServiceStub(grpc.insecure_channel(address))
        self._watch = watch

    def to_the_end(self, where: dict[str, Any]) -> float:
        """How many seconds a whole call takes."""
        begun = time.monotonic()
        for _ in self._call(where):
            pass
        return time.monotonic() - begun

    def cancelled(self, where: dict[str, Any], after: float) -> float:
        """How many seconds after its cancellation the database has given its last answer to a call."""
        call = self._call(where)
        reader = threading.Thread(target=_read, args=(call,))
        reader.start()
        time.sleep(after)
        call.cancel()
        cancelled = time.monotonic()
        reader.join()
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < _QUIET_SECONDS:
            if not self._watch.is_quiet or self._watch.last > quiet_since:
                quiet_since = time.monotonic()
            if quiet_since - cancelled > _LONGEST_SECONDS:
                raise RuntimeError(f"the database is still being asked {_LONGEST_SECONDS:.0f} s after the cancellation")
            time.sleep(0.002)
        return max(self._watch.last - cancelled, 0.0)

    def _call(self, where: dict[str, Any]) -> Any:
        request = StreamReachRequest(filter=Filter(datatype="contact", where_json=json.dumps(where)))
        return self._stub.StreamReach(request, metadata=self._metadata, timeout=120)


def _read(call: Any) -> None:
    with suppress(grpc.RpcError):
        for _ in call:
            pass


if __name__ == "__main__":
    main()
