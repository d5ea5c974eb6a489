"""`python -m bench.robustness --uri URI`: what one client or org can do to others, as a table in docs/reference.

Every row has a load, the figure of interest, and what it is compared with. Clients run in processes of their own.
"""

import itertools
import multiprocessing
import platform
import socket
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import SecretStr
from pymongo import MongoClient

from audience_service.cli.token import mint
from audience_service.mongo.store import mongo_store
from audience_service.pb.audience.v1 import membership_service_pb2, reach_service_pb2, segment_service_pb2
from audience_service.pb.audience.v1.membership_service_pb2_grpc import MembershipServiceStub
from audience_service.pb.audience.v1.reach_service_pb2_grpc import ReachServiceStub
from audience_service.pb.audience.v1.segment_service_pb2_grpc import SegmentServiceStub
from audience_service.settings import Settings
from bench.processes import KEY, Server, audience_service

PAGE = Path(__file__).parent.parent / "docs/reference/robustness.md"
_REACH = "/audience.v1.ReachService/EstimateReach"
_PROBE_SECONDS = 8.0
_SLOW_RECORDS, _LARGE_RECORDS = 4_000, 5_000
_ALL: Any = {"datatype": "contact", "where": {}}
_HELD_CALLS, _HELD_CONNECTIONS = 10_000, 20
_MIXED_CALLS, _MIXED_CLIENTS = 20_000, 8

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    load: str
    figure: str
    value: str
    alone: str = ""
    ratio: str = ""


def _metadata(org: str) -> Metadata:
    token = mint(Settings(jwt_key=SecretStr(KEY)), org=org, subject=f"user of {org}")
    return ("authorization", f"Bearer {token}"), ("orgid", org)


@contextmanager
def _database(uri: str) -> Iterator[str]:
    """A database with an org of slow texts, one of large records, and one with a few contacts."""
    name = f"bench_robustness_{uuid.uuid4().hex[:8]}"
    store = mongo_store(uri, name)
    try:
        for index in store.missing_indexes(("contact",)):
            store.create_index(index)
        for org, count, data in (
            ("slow", _SLOW_RECORDS, lambda n: {"text": "a" * 60 + str(n)}),
            ("large", _LARGE_RECORDS, lambda n: {f"field{k}": f"value {n:04} " * 5 for k in range(50)}),
            ("other", 100, lambda n: {"score": n}),
        ):
            store.database["contact"].insert_many(
                {
                    "pk": f"contact-{n:06}",
                    "sk": f"{org}/contact/{n:06}",
                    "datatype": "contact",
                    "version": 0,
                    "data": data(n),
                }
                for n in range(count)
            )
        yield name
    finally:
        store.close()
        with MongoClient[dict[str, Any]](uri) as client:
            client.drop_database(name)


# --- clients, each in a process of its own ----------------------------------------------------------------------------


@contextmanager
def _client(target: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    """Run a client. It sends a message when its load is in place, and ends when it receives one."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        with suppress(OSError):
            ours.send("end")
        process.join(10)
        process.kill()
        process.join()


def _hold_calls(pipe: Connection, address: str, metadata: Metadata) -> None:
    """Open calls that never send their request, on several connections. Counts those that the server has ended."""
    host, _, port = address.rpartition(":")
    headers = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", _REACH),
        (":authority", address),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *metadata,
    )
    block = b"".join(b"\0" + _hpack(name) + _hpack(value) for name, value in headers)
    per_connection = _HELD_CALLS // _HELD_CONNECTIONS
    ended: list[set[int]] = [set() for _ in range(_HELD_CONNECTIONS)]
    sockets = [socket.create_connection((host, int(port))) for _ in range(_HELD_CONNECTIONS)]

    def receive(number: int) -> None:
        for kind, flags, stream in _frames(sockets[number]):
            if kind == _RST_STREAM or (kind == _HEADERS and flags & _END_STREAM):
                ended[number].add(stream)

    for number, connection in enumerate(sockets):
        threading.Thread(target=receive, args=(number,), daemon=True).start()
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS) + _frame(_SETTINGS, _ACK))
    for call in range(per_connection):
        for connection in sockets:
            connection.sendall(_frame(_HEADERS, _END_HEADERS, 2 * call + 1, block))
    pipe.send("begun")
    pipe.recv()
    pipe.send(sum(map(len, ended)))


_HEADERS, _RST_STREAM, _SETTINGS = 1, 3, 4
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4


def _frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """A frame of HTTP/2 (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _frames(connection: socket.socket) -> Iterator[tuple[int, int, int]]:
    """The kind, the flags and the stream of each frame that the server sends."""
    with connection.makefile("rb") as stream, suppress(OSError):
        while len(header := stream.read(9)) == 9:
            stream.read(int.from_bytes(header[:3], "big"))
            yield header[3], header[4], int.from_bytes(header[5:], "big")


def _hpack(text: str) -> bytes:
    """A string literal of HPACK without Huffman coding (RFC 7541, sections 5.1 and 5.2)."""
    raw = text.encode()
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    rest, prefix = len(raw) - 127, bytearray([127])
    while rest > 127:
        prefix.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*prefix, rest]) + raw


def _count_slowly(pipe: Connection, address: str, metadata: Metadata, concurrency: int) -> None:
    """Keep this many slow counts open, each with a filter of its own."""
    numbers, is_over = itertools.count(), threading.Event()
    answers: list[str] = []

    def run() -> None:
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = ReachServiceStub(channel)
            while not is_over.is_set():
                first = next(numbers) * 300
                conditions: Any = [{"text": {"$regex": f".*a.*b.*c.*={n}"}} for n in range(first, first + 300)]
                where: Any = {"datatype": "contact", "where": {"$or": conditions}}
                try:
                    stub.EstimateReach(
                        reach_service_pb2.EstimateReachRequest(filter=where), metadata=metadata, timeout=10
                    )
                    answers.append("OK")
                except grpc.RpcError as error:
                    answers.append(error.code().name)
                    is_over.wait(1)  # as RetryInfo says

    with ThreadPoolExecutor(concurrency) as pool:
        for _ in range(concurrency):
            pool.submit(run)
        time.sleep(1)
        pipe.send("begun")
        pipe.recv()
        is_over.set()
        pipe.send({code: answers.count(code) for code in set(answers)})


def _read_nothing(pipe: Connection, address: str, metadata: Metadata, count: int) -> None:
    """Open streams of large records, take one message of each, and then receive nothing."""
    request = membership_service_pb2.StreamMembersRequest(
        filter=_ALL, batch_size=10_000, fields=[f"data.field{n}" for n in range(50)]
    )
    streams = []
    for _ in range(count):
        channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        streams.append(MembershipServiceStub(channel).StreamMembers(request, metadata=metadata))
        next(streams[-1])
    pipe.send("begun")
    pipe.recv()


# --- measurements -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """The times of another org's GetSegment and of health checks, in ms."""

    reads: list[float]
    checks: list[float]
    failures: int

    @property
    def p99(self) -> float:
        """The 99th percentile of GetSegment."""
        return statistics.quantiles(self.reads, n=100, method="inclusive")[98]


def _probe(address: str, segment_id: str, seconds: float = _PROBE_SECONDS) -> Probe:
    metadata, request = _metadata("other"), segment_service_pb2.GetSegmentRequest(id=segment_id)
    reads, checks, failures = list[float](), list[float](), 0
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        segments = SegmentServiceStub(channel)
        health: Any = health_pb2_grpc.HealthStub(channel)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for times, call in (
                (reads, lambda: segments.GetSegment(request, metadata=metadata, timeout=10)),
                (checks, lambda: health.Check(health_pb2.HealthCheckRequest(), timeout=10)),
            ):
                started_at = time.perf_counter()
                try:
                    call()
                except grpc.RpcError:
                    failures += 1
                times.append((time.perf_counter() - started_at) * 1000)
            time.sleep(0.005)
    return Probe(reads, checks, failures)


def _compare(load: str, probe: Probe, alone: Probe) -> Iterator[Row]:
    ratio = f"{probe.p99 / alone.p99:.1f}"
    yield Row(load, "GetSegment of another org, p99", f"{probe.p99:.1f} ms", f"{alone.p99:.1f} ms", ratio)
    yield Row(load, "health check, longest", f"{max(probe.checks):.0f} ms", f"{max(alone.checks):.0f} ms")
    if probe.failures:
        yield Row(load, "failed calls of the other org", str(probe.failures), str(alone.failures))


def _memory(process: psutil.Process) -> float:
    """The resident memory in MB."""
    return float(process.memory_info().rss) / 2**20


def _create_segment(address: str) -> str:
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
        segment: Any = {"name": f"probe {uuid.uuid4().hex}", "filter": _ALL}
        request = segment_service_pb2.CreateSegmentRequest(segment=segment)
        return str(SegmentServiceStub(channel).CreateSegment(request, metadata=_metadata("other")).id)


def _measure_held_calls(server: Server, segment_id: str, alone: Probe) -> Iterator[Row]:
    for name, metadata in (("without a token", ()), ("with a token of one org", _metadata("slow"))):
        with _client(_hold_calls, server.address, metadata) as pipe:
            pipe.recv()
            probe = _probe(server.address, segment_id)
            pipe.send("end")
            ended = pipe.recv()
        load = f"{_HELD_CALLS:,} calls {name} that send no request"
        yield from _compare(load, probe, alone)
        yield Row(load, "of these, ended by the server within 8 s", f"{ended:,}")


def _measure_fairness(server: Server, segment_id: str, alone: Probe, workers: int) -> Iterator[Row]:
    for concurrency in (8, 32, 64, 300):
        with _client(_count_slowly, server.address, _metadata("slow"), concurrency) as pipe:
            pipe.recv()
            probe = _probe(server.address, segment_id)
        suffix = f", {workers} workers" if workers > 1 else ""
        yield from _compare(f"{concurrency} slow EstimateReach of one org{suffix}", probe, alone)


def _measure_stalled_readers(server: Server) -> Iterator[Row]:
    at_rest = _memory(server.process)
    for count in (1, 4, 16):
        with _client(_read_nothing, server.address, _metadata("large"), count) as pipe:
            pipe.recv()
            time.sleep(2)
            memory = _memory(server.process)
        load = f"{count} clients that stop reading records of 3.6 kB"
        yield Row(load, "memory more than at rest", f"{memory - at_rest:.0f} MB", f"{at_rest:.0f} MB")


def _measure_cpu(server: Server, segment_id: str) -> Iterator[Row]:
    request, metadata = segment_service_pb2.GetSegmentRequest(id=segment_id), _metadata("other")
    with grpc.insecure_channel(server.address) as channel:
        stub = SegmentServiceStub(channel)
        rounds = []
        for _ in range(6):
            before = server.cpu_seconds()
            for _ in range(500):
                stub.GetSegment(request, metadata=metadata)
            rounds.append((server.cpu_seconds() - before) / 500 * 1000)
    yield Row("GetSegment, 3,000 calls", "CPU of the server per call, median", f"{statistics.median(rounds):.2f} ms")


def _measure_leaks(server: Server, segment_id: str) -> Iterator[Row]:
    def state() -> tuple[float, int, int]:
        time.sleep(15)  # idle threads of the server end after 10 s
        return _memory(server.process), server.process.num_threads(), server.process.num_fds()

    def run(number: int, calls: int) -> None:
        org = ("other", "large", "slow")[number % 3]
        metadata = _metadata(org)
        with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            segments, reach, members = (
                SegmentServiceStub(channel),
                ReachServiceStub(channel),
                MembershipServiceStub(channel),
            )
            for call in range(calls):
                with suppress(grpc.RpcError):
                    if call % 50 == 0:
                        request = membership_service_pb2.StreamMembersRequest(filter=_ALL)
                        stream = members.StreamMembers(request, metadata=metadata)
                        next(stream)
                        stream.cancel()
                    elif call % 10 == 0:
                        reach.EstimateReach(reach_service_pb2.EstimateReachRequest(filter=_ALL), metadata=metadata)
                    elif call % 10 == 1:
                        segments.GetSegment(segment_service_pb2.GetSegmentRequest(id="segment-none"), metadata=metadata)
                    elif call % 10 == 2:
                        segments.GetSegment(segment_service_pb2.GetSegmentRequest(id=segment_id))
                    else:
                        segments.GetSegment(segment_service_pb2.GetSegmentRequest(id=segment_id), metadata=metadata)

    with ThreadPoolExecutor(_MIXED_CLIENTS) as pool:
        list(pool.map(run, range(_MIXED_CLIENTS), [250] * _MIXED_CLIENTS))  # caches and connections exist after this
        before = state()
        list(pool.map(run, range(_MIXED_CLIENTS), [_MIXED_CALLS // _MIXED_CLIENTS] * _MIXED_CLIENTS))
        after = state()
    load = f"{_MIXED_CALLS:,} mixed calls of {_MIXED_CLIENTS} clients"
    yield Row(load, "memory afterwards", f"{after[0]:.0f} MB", f"{before[0]:.0f} MB")
    yield Row(load, "threads afterwards", str(after[1]), str(before[1]))
    yield Row(load, "open files and connections afterwards", str(after[2]), str(before[2]))


# --- the table --------------------------------------------------------------------------------------------------------


def _one_worker(uri: str, database: str) -> Iterator[Row]:
    with audience_service(uri, database) as server:
        segment_id = _create_segment(server.address)
        _probe(server.address, segment_id, 2)
        yield from _measure_cpu(server, segment_id)
        alone = _probe(server.address, segment_id)
        yield from _measure_fairness(server, segment_id, alone, workers=1)
        yield from _measure_held_calls(server, segment_id, alone)


def _stalled_readers(uri: str, database: str) -> Iterator[Row]:
    with audience_service(uri, database) as server:
        yield from _measure_stalled_readers(server)


def _leaks(uri: str, database: str) -> Iterator[Row]:
    with audience_service(uri, database) as server:
        yield from _measure_leaks(server, _create_segment(server.address))


def _two_workers(uri: str, database: str) -> Iterator[Row]:
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{reserved.getsockname()[1]}"
        with audience_service(uri, database, AUDIENCE_LISTEN=listen, AUDIENCE_WORKERS="2") as server:
            segment_id = _create_segment(server.address)
            _probe(server.address, segment_id, 2)
            yield from _measure_fairness(server, segment_id, _probe(server.address, segment_id), workers=2)


_MEASUREMENTS = {"one": _one_worker, "stalled": _stalled_readers, "leaks": _leaks, "two": _two_workers}

_TEXT = """<!-- Written by `make robustness`; never edited. -->

# Robustness

What one client or one org can do to others, for operators. The settings are those of
[limits](../how-to/run-in-production.md#limits). "Alone" is the same figure without the load, or before it. The clients,
the service and the database share the machine, so a part of each ratio is contention for its processors.

Measured on {date} with `make robustness URI=mongodb://...`, {busy}: {cores} cores, Python {python}, grpcio {grpcio}.

| load | figure | value | alone | ratio |
|---|---|---|---|---|
{rows}
"""


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on. The database is dropped afterwards.")
@click.option("--only", type=click.Choice([*_MEASUREMENTS]), help="Run one measurement, and write no page.")
def main(*, uri: str, only: str | None) -> None:
    """Measure what slow, greedy and stalled clients do to others. Without --only, write the page of docs/reference."""
    rows: list[Row] = []
    is_busy = psutil.getloadavg()[0] > 0.5
    with _database(uri) as database:
        for name, measure in _MEASUREMENTS.items():
            if only in (None, name):
                for row in measure(uri, database):
                    click.echo(" | ".join(filter(None, (row.load, row.figure, row.value, row.alone, row.ratio))))
                    rows.append(row)
    if not only:
        lines = [f"| {row.load} | {row.figure} | {row.value} | {row.alone} | {row.ratio} |" for row in rows]
        PAGE.write_text(
            _TEXT.format(
                date=datetime.now(UTC).date(),
                busy="on a busy machine" if is_busy else "on an idle machine",
                cores=psutil.cpu_count(),
                python=platform.python_version(),
                grpcio=grpc.__version__,
                rows="\n".join(lines),
            )
        )
        click.echo(f"written to {PAGE.name}")


if __name__ == "__main__":
    main()
