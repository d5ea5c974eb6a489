"""`python -m bench.robustness --uri URI`: what one client or org can do to others, as a table in docs/reference.

Every row has a load, the figure of interest, and what it is compared with. Clients run in processes of their own.
"""

import platform
import random
import statistics
import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import click
import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import SecretStr
from pymongo import MongoClient

from audience_service.cli.token import mint
from audience_service.mongo.store import Store, mongo_store
from audience_service.pb.audience.v1 import membership_service_pb2, reach_service_pb2, segment_service_pb2
from audience_service.pb.audience.v1.membership_service_pb2_grpc import MembershipServiceStub
from audience_service.pb.audience.v1.reach_service_pb2_grpc import ReachServiceStub
from audience_service.pb.audience.v1.segment_service_pb2_grpc import SegmentServiceStub
from audience_service.settings import Settings
from bench import loads
from bench.loads import ALL, HELD_CALLS, Load, Metadata, run_load
from bench.processes import KEY, Server, audience_service
from tests.support.command import free_port
from tests.support.fuzzer import FUZZED_CONTACT, Fuzzer, filter_texts

PAGE = Path(__file__).parent.parent / "docs/reference/robustness.md"
_PROBE_SECONDS = 12.0
_SLOW_RECORDS, _LARGE_RECORDS = 4_000, 5_000
_MIXED_CLIENTS = 8
_SLOW_COUNTS = max(1, (psutil.cpu_count() or 2) // 2)
"""The slow counts of one org that run concurrently: half of the cores, as docs/how-to/capacity.md advises."""
_ORG_QUERIES = 4
"""The same by the default settings of one process."""
_LARGE_REQUESTS = 64
_WATCHES, _WATCHED_AUDIENCES = 1_000, 10
_ANSWERS = frozenset({"OK", "INVALID_ARGUMENT", "NOT_FOUND"})
"""The codes of the fuzzed calls that are right."""


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


def _record(org: str, number: int, data: dict[str, Any]) -> dict[str, Any]:
    envelope = {"pk": f"contact-{number:06}", "sk": f"{org}/contact/{number:06}", "datatype": "contact", "version": 0}
    return {**envelope, "data": data}


@contextmanager
def _database(uri: str) -> Iterator[tuple[str, Store]]:
    """A database with an org of slow texts, one of large records, one with a few contacts, and one with one."""
    name = f"bench_robustness_{uuid.uuid4().hex[:8]}"
    store = mongo_store(uri, name)
    try:
        for index in store.missing_indexes(("contact",)):
            store.create_index(index)
        for org, count, data in (
            ("slow", _SLOW_RECORDS, lambda n: {"text": "a" * 60 + str(n)}),
            ("large", _LARGE_RECORDS, lambda n: {f"field{k}": f"value {n:04} " * 5 for k in range(50)}),
            ("other", 100, lambda n: {"score": n}),
            ("waiting", 1, lambda n: {"text": str(n)}),
        ):
            store.insert([_record(org, n, data(n)) for n in range(count)])
        store.insert([{**_record("fuzzed", 0, {"country": "US", "tags": ["a"], "score": 5}), "pk": FUZZED_CONTACT}])
        yield name, store
    finally:
        store.close()
        with MongoClient[dict[str, Any]](uri) as client:
            client.drop_database(name)


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


def _compare(load: str, probe: Probe, alone: Probe, driver: Probe | None) -> Iterator[Row]:
    figure = "GetSegment of another org, p99"
    yield Row(load, figure, f"{probe.p99:.1f} ms", f"{alone.p99:.1f} ms", f"{probe.p99 / alone.p99:.1f}")
    if driver:
        ratio = f"{probe.p99 / driver.p99:.1f}"
        yield Row(load, f"{figure}; next to pymongo", f"{probe.p99:.1f} ms", f"{driver.p99:.1f} ms", ratio)
    yield Row(load, "health check, longest", f"{max(probe.checks):.0f} ms", f"{max(alone.checks):.0f} ms")
    if probe.failures:
        yield Row(load, "failed calls of the other org", str(probe.failures), str(alone.failures))


def _memory(process: psutil.Process) -> float:
    """The resident memory in MB."""
    return float(process.memory_info().rss) / 2**20


def _create_segment(address: str) -> str:
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
        segment: Any = {"name": f"probe {uuid.uuid4().hex}", "filter": ALL}
        request = segment_service_pb2.CreateSegmentRequest(segment=segment)
        return str(SegmentServiceStub(channel).CreateSegment(request, metadata=_metadata("other")).id)


def _cpu_seconds(process: psutil.Process) -> float:
    """The CPU seconds of a process and of those that it has started."""
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return float(sum(found.user + found.system for found in times))


@dataclass(frozen=True)
class Target:
    """A server to probe, and what the probe gets without a load."""

    server: Server
    segment_id: str
    alone: Probe


def _probe_under(load: Load, name: str, target: Target, driver: Probe | None = None) -> Generator[Row, None, Probe]:
    """Probe the server, with the cores that the load, the server and all programs of the machine use meanwhile."""
    server = target.server
    before = [_cpu_seconds(load.process), _cpu_seconds(server.process), _busy_seconds()]
    started_at = time.monotonic()
    probe = _probe(server.address, target.segment_id)
    seconds = time.monotonic() - started_at
    after = [_cpu_seconds(load.process), _cpu_seconds(server.process), _busy_seconds()]
    cores = [(later - earlier) / seconds for later, earlier in zip(after, before, strict=True)]
    yield from _compare(name, probe, target.alone, driver)
    yield Row(name, "cores used by the load, the service, the machine", ", ".join(f"{used:.2f}" for used in cores))
    return probe


def _busy_seconds() -> float:
    """The CPU seconds that all programs of the machine have used."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _measure_held_calls(target: Target) -> Iterator[Row]:
    for name, metadata in (("without a token", ()), ("with a token of one org", _metadata("slow"))):
        title = f"{HELD_CALLS:,} calls {name} that send no request"
        with run_load(loads.hold_calls, target.server.address, metadata) as load:
            yield from _probe_under(load, title, target)
            load.pipe.send("end")
            ended = load.pipe.recv()
        yield Row(title, "of these, ended by the server", f"{ended:,}")


def _measure_slow_counts(run: "Run", target: Target, workers: int) -> Iterator[Row]:
    """Counts that keep the database busy, from pymongo and through the service.

    Those of pymongo show what the database and the machine alone do to another org's call.
    """
    counts = max(_SLOW_COUNTS, workers)
    suffix = f", {workers} workers" if workers > 1 else ""
    with run_load(loads.count_by_driver, run.uri, run.database, "slow", counts) as load:
        name = f"{counts} slow counts, sent to the database by pymongo{suffix}"
        driver = yield from _probe_under(load, name, target)
    yield from _measure_counts(target, driver, "slow", "slow EstimateReach", suffix, loads.slow_condition)


def _measure_waiting_counts(target: Target, workers: int) -> Iterator[Row]:
    """Counts whose answers are late, and that cost the database nothing: what the service alone does."""
    suffix = f", {workers} workers" if workers > 1 else ""
    kind = "EstimateReach that wait 2 s for the network"
    yield from _measure_counts(target, None, "waiting", kind, suffix, loads.waiting_condition)


def _measure_counts(
    target: Target, driver: Probe | None, org: str, kind: str, suffix: str, condition: Callable[[int], dict[str, Any]]
) -> Iterator[Row]:
    for concurrency, is_patient in ((8, True), (32, True), (64, True), (300, True), (300, False)):
        manner = "" if is_patient else ", whose clients ignore RetryInfo"
        name = f"{concurrency} {kind} of one org{manner}{suffix}"
        count = partial(loads.count_slowly, is_patient=is_patient, condition=condition)
        with run_load(count, target.server.address, _metadata(org), concurrency) as load:
            yield from _probe_under(load, name, target, driver)
            load.pipe.send("end")
            codes = load.pipe.recv()
        yield Row(name, "answers of these", _format_codes(codes))


def _format_codes(codes: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {code}" for code, count in codes.items())


def _measure_large_requests(server: Server) -> Iterator[Row]:
    """Requests that wait for the org's slow counts."""
    count = partial(loads.count_slowly, is_patient=True)
    with (
        run_load(count, server.address, _metadata("slow"), _ORG_QUERIES),
        run_load(loads.send_large_requests, server.address, _metadata("slow"), _LARGE_REQUESTS) as load,
    ):
        at_rest = _memory(server.process)
        server.reset_peak()
        load.pipe.send("now")
        codes = load.pipe.recv()
        peak = server.peak_megabytes()
    name = f"{_LARGE_REQUESTS} calls of one org with requests of 4 MB"
    yield Row(name, "memory more than at rest, peak", f"{peak - at_rest:.0f} MB", f"{at_rest:.0f} MB")
    yield Row(name, "answers of these", _format_codes(codes))


def _measure_stalled_readers(server: Server) -> Iterator[Row]:
    at_rest = _memory(server.process)
    for count in (1, 4, 16):
        with run_load(loads.read_nothing, server.address, _metadata("large"), count):
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


def _measure_leaks(server: Server, segment_id: str, mixed_calls: int) -> Iterator[Row]:
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
                        request = membership_service_pb2.StreamMembersRequest(filter=ALL)
                        stream = members.StreamMembers(request, metadata=metadata)
                        next(stream)
                        stream.cancel()
                    elif call % 10 == 0:
                        reach.EstimateReach(reach_service_pb2.EstimateReachRequest(filter=ALL), metadata=metadata)
                    elif call % 10 == 1:
                        segments.GetSegment(segment_service_pb2.GetSegmentRequest(id="segment-none"), metadata=metadata)
                    elif call % 10 == 2:
                        segments.GetSegment(segment_service_pb2.GetSegmentRequest(id=segment_id))
                    else:
                        segments.GetSegment(segment_service_pb2.GetSegmentRequest(id=segment_id), metadata=metadata)

    with ThreadPoolExecutor(_MIXED_CLIENTS) as pool:
        list(pool.map(run, range(_MIXED_CLIENTS), [250] * _MIXED_CLIENTS))  # caches and connections exist after this
        before = state()
        list(pool.map(run, range(_MIXED_CLIENTS), [mixed_calls // _MIXED_CLIENTS] * _MIXED_CLIENTS))
        after = state()
    load = f"{mixed_calls:,} mixed calls of {_MIXED_CLIENTS} clients"
    yield Row(load, "memory afterwards", f"{after[0]:.0f} MB", f"{before[0]:.0f} MB")
    yield Row(load, "threads afterwards", str(after[1]), str(before[1]))
    yield Row(load, "open files and connections afterwards", str(after[2]), str(before[2]))


def _measure_fuzzed(server: Server, number: int) -> Iterator[Row]:
    """Requests that are valid, nearly valid, or noise."""
    metadata = _metadata("fuzzed")
    with grpc.insecure_channel(server.address) as channel:

        def code_of(request: tuple[str, str, bytes]) -> str:
            kind, path, raw = request
            try:
                answer = getattr(channel, kind)(f"/audience.v1.{path}")(raw, metadata=metadata, timeout=20)
                list(answer if kind == "unary_stream" else ())
            except grpc.RpcError as error:
                return str(error.code().name)
            return "OK"

        requests = Fuzzer(filter_texts(), random.Random(20260325)).requests(number)  # noqa: S311
        with ThreadPoolExecutor(3) as pool:
            codes = Counter(pool.map(code_of, requests))
    name = f"{number:,} fuzzed calls"
    yield Row(name, "INTERNAL and UNKNOWN", str(codes["INTERNAL"] + codes["UNKNOWN"]))
    if others := {code: count for code, count in codes.items() if code not in _ANSWERS}:
        yield Row(name, "other unexpected answers", _format_codes(others))
    yield Row(name, "answers of these", _format_codes(dict(codes.most_common())))


def _measure_watches(server: Server, store: Store) -> Iterator[Row]:
    """Idle watches, then one event for each of them."""
    name = f"{_WATCHES:,} watches of {_WATCHED_AUDIENCES} audiences"
    at_rest, threads_at_rest = _memory(server.process), server.process.num_threads()
    with grpc.insecure_channel(server.address) as channel:
        segments = SegmentServiceStub(channel)
        requests: list[Any] = [
            {"name": f"watched {n}", "filter": {"datatype": "contact", "where": {"group": n}}}
            for n in range(_WATCHED_AUDIENCES)
        ]
        ids = [
            segments.CreateSegment(
                segment_service_pb2.CreateSegmentRequest(segment=one), metadata=_metadata("watched")
            ).id
            for one in requests
        ]
    with run_load(loads.watch, server.address, _metadata("watched"), ids, _WATCHES) as load:
        time.sleep(5)
        cpu_before, started_at = server.cpu_seconds(), time.monotonic()
        time.sleep(10)
        cores = (server.cpu_seconds() - cpu_before) / (time.monotonic() - started_at)
        memory, threads = _memory(server.process), server.process.num_threads()
        written_at = time.monotonic()
        store.insert([_record("watched", n, {"group": n}) for n in range(_WATCHED_AUDIENCES)])
        lags = [at - written_at for at in load.pipe.recv()]
    yield Row(name, "memory more than at rest", f"{memory - at_rest:.0f} MB", f"{at_rest:.0f} MB")
    yield Row(name, "threads", str(threads), str(threads_at_rest))
    yield Row(name, "cores used by the service", f"{cores:.2f}")
    yield Row(name, "time from a write to its event, median", f"{statistics.median(lags):.2f} s")
    yield Row(name, "time from a write to its event, longest", f"{max(lags):.2f} s")


# --- the table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What a measurement runs on, and how many calls it makes."""

    uri: str
    database: str
    store: Store
    fuzzed_calls: int
    mixed_calls: int


@contextmanager
def _target(uri: str, database: str, workers: int = 1) -> Iterator[Target]:
    """A server with a segment, probed without a load."""
    # Workers share a port, which their supervisor must find free.
    # An org has half of the queries of each process.
    settings = {
        "AUDIENCE_WORKERS": str(workers),
        "AUDIENCE_LISTEN": f"127.0.0.1:{free_port()}",
        "AUDIENCE_MAX_CONCURRENT_QUERIES": str(2 * max(_SLOW_COUNTS // workers, 1)),
    }
    with audience_service(uri, database, **settings) as server:
        segment_id = _create_segment(server.address)
        _probe(server.address, segment_id, 2)
        yield Target(server, segment_id, alone=_probe(server.address, segment_id))


def _one_worker(run: Run) -> Iterator[Row]:
    with _target(run.uri, run.database) as target:
        yield from _measure_cpu(target.server, target.segment_id)
        yield from _measure_slow_counts(run, target, workers=1)
        yield from _measure_held_calls(target)


def _waiting(run: Run) -> Iterator[Row]:
    at = urlsplit(run.uri)
    for workers in (1, 2):
        with run_load(loads.delay_commands, at.hostname, at.port or 27017) as proxy:
            uri = urlunsplit(at._replace(netloc=f"127.0.0.1:{proxy.begun}"))
            with _target(uri, run.database, workers) as target:
                yield from _measure_waiting_counts(target, workers)


def _buffers(run: Run) -> Iterator[Row]:
    with audience_service(run.uri, run.database) as server:
        yield from _measure_stalled_readers(server)
    with audience_service(run.uri, run.database) as server:
        yield from _measure_large_requests(server)


def _watches(run: Run) -> Iterator[Row]:
    limits = {"AUDIENCE_MAX_WATCH_STREAMS": str(_WATCHES), "AUDIENCE_ORG_SHARE": "1", "AUDIENCE_CALLER_SHARE": "1"}
    with audience_service(run.uri, run.database, **limits) as server:
        yield from _measure_watches(server, run.store)


def _leaks(run: Run) -> Iterator[Row]:
    with audience_service(run.uri, run.database) as server:
        yield from _measure_leaks(server, _create_segment(server.address), run.mixed_calls)


def _fuzzed(run: Run) -> Iterator[Row]:
    with audience_service(run.uri, run.database) as server:
        yield from _measure_fuzzed(server, run.fuzzed_calls)


def _two_workers(run: Run) -> Iterator[Row]:
    with _target(run.uri, run.database, workers=2) as target:
        yield from _measure_slow_counts(run, target, workers=2)


_MEASUREMENTS = {
    "waiting": _waiting,
    "one": _one_worker,
    "buffers": _buffers,
    "watches": _watches,
    "leaks": _leaks,
    "fuzzed": _fuzzed,
    "two": _two_workers,
}

_TEXT = """<!-- Written by `make robustness`; never edited. -->

# Robustness

What one client or one org can do to others, for operators. The settings are those of
[limits](../how-to/run-in-production.md#limits). "Alone" is the same figure without the load, or before it.

The clients, the service and the database share the machine, so a part of each ratio is contention for its processors.
Rows with "cores used" say what each of them takes. Two kinds of load separate the service's part:

- Counts that wait 2 s for the network cost the database nothing. Their ratio is the service's.
- Slow counts use all processors that they get. The row of pymongo has the same work in the database without the
  service. "Next to pymongo" compares with that row, since no limit of the service can lower it.

`AUDIENCE_MAX_CONCURRENT_QUERIES` lets the slow counts of one org use half of the machine's cores, at least one per
process ([capacity](../how-to/capacity.md#database)).

Clients wait for the delay of RetryInfo after a refusal, unless the row says that they ignore it.

A watch holds a thread; [ADR 28](../adr/0028-raw-handlers-and-permits.md) says why. The rows of watches have its cost.

Measured on {date} with `make robustness URI=mongodb://...`, {busy}: {cores} cores, Python {python}, grpcio {grpcio}.

| load | figure | value | alone | ratio |
|---|---|---|---|---|
{rows}
"""


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on. The database is dropped afterwards.")
@click.option("--only", type=click.Choice([*_MEASUREMENTS]), help="Run one measurement, and write no page.")
@click.option("--fuzzed-calls", default=1_000, show_default=True, help="The number of fuzzed calls.")
@click.option("--mixed-calls", default=20_000, show_default=True, help="The number of mixed calls.")
def main(*, uri: str, only: str | None, fuzzed_calls: int, mixed_calls: int) -> None:
    """Measure what slow, greedy and stalled clients do to others. Without --only, write the page of docs/reference."""
    rows: list[Row] = []
    is_busy = psutil.getloadavg()[0] > 0.5
    with _database(uri) as (database, store):
        run = Run(uri, database, store, fuzzed_calls, mixed_calls)
        for name, measure in _MEASUREMENTS.items():
            if only in (None, name):
                for row in measure(run):
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
