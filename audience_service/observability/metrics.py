"""The metrics of a process, for Prometheus. Any layer counts; only a process with AUDIENCE_METRICS_LISTEN serves them.

1. No label has unbounded values: methods, codes, reasons and commands are fixed sets, and orgs come from a setting.
2. Worker processes write their values to files of one directory, and their parent serves the sums. A gauge sums the
   processes that run.

The names of the calls are those of the gRPC interceptors for Go and Java (`grpc_server_handled_total`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client import disable_created_metrics as _disable_created_metrics
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which prometheus_client finds the directory of worker processes."""

# They would be a second series per counter, which no query here uses.
_disable_created_metrics()  # type: ignore[no-untyped-call]

_METHOD = ("grpc_type", "grpc_service", "grpc_method")
_CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 600, 3600)
_COMMAND_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


def _sum_of_processes(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
    return Gauge(name, text, labels, multiprocess_mode="livesum")


CALLS_STARTED = Counter("grpc_server_started_total", "Calls that began.", _METHOD)
CALLS_HANDLED = Counter("grpc_server_handled_total", "Calls that ended, by status code.", (*_METHOD, "grpc_code"))
CALL_SECONDS = Histogram(
    "grpc_server_handling_seconds", "Seconds from the start of a call to its end.", _METHOD, buckets=_CALL_SECONDS
)
CALLS_OPEN = _sum_of_processes(
    "audience_calls_open", "Calls in progress. Streams, and so uploads, are those of their grpc_type.", _METHOD
)
ERRORS = Counter("audience_errors_total", "Calls that failed, by the reason in ErrorInfo.", ("grpc_method", "reason"))
ORG_CALLS = Counter(
    "audience_org_calls_total", "Calls that ended, of the orgs in AUDIENCE_METRICS_ORGS.", ("org", "grpc_code")
)

PERMITS = _sum_of_processes("audience_permits", "Calls of a workload that may work concurrently.", ("workload",))
PERMITS_IN_USE = _sum_of_processes("audience_permits_in_use", "Calls of a workload that work.", ("workload",))
CALLS_WAITING = _sum_of_processes(
    "audience_calls_waiting", "Calls that wait for a permit of a workload.", ("workload",)
)
WAITING_REQUEST_BYTES = _sum_of_processes(
    "audience_waiting_request_bytes", "Bytes of the requests of calls that wait for a permit."
)
CALL_WAIT_SECONDS = Histogram(
    "audience_call_wait_seconds",
    "Seconds that a call waited for a permit, if none was free; also of calls that gave up.",
    ("workload",),
    buckets=_CALL_SECONDS,
)
STREAM_SLOTS = _sum_of_processes("audience_stream_slots", "Streams of a workload that may be open.", ("workload",))
STREAMS_OPEN = _sum_of_processes("audience_streams_open", "Open streams of a workload.", ("workload",))

DATABASE_REACHABLE = Gauge(
    "audience_database_reachable", "1 if the last health check reached the database.", multiprocess_mode="livemin"
)
COMMANDS = Counter("audience_mongodb_commands_total", "Database commands that ended.", ("command", "outcome"))
COMMAND_SECONDS = Histogram(
    "audience_mongodb_command_seconds",
    "Seconds from sending a database command to its response.",
    ("command",),
    buckets=_COMMAND_SECONDS,
)
CONNECTIONS_OPEN = _sum_of_processes("audience_mongodb_connections_open", "Connections to the database.")
CONNECTIONS_IN_USE = _sum_of_processes("audience_mongodb_connections_in_use", "Connections that run a command.")
CONNECTION_WAIT_SECONDS = Histogram(
    "audience_mongodb_connection_wait_seconds",
    "Seconds that a command waited for a connection.",
    buckets=_COMMAND_SECONDS,
)
CONNECTION_FAILURES = Counter(
    "audience_mongodb_connection_failures_total", "Commands that got no connection.", ("reason",)
)

WATCHES_LEASED = _sum_of_processes("audience_watches_leased", "Watched audiences that processes track.")
WATCH_LEASES = Counter("audience_watch_lease_changes_total", "Leases acquired, lost and released.", ("change",))
WATCH_LAG_SECONDS = Gauge(
    "audience_watch_lag_seconds",
    "How long the most delayed scan of a watched audience is overdue, including the time that it has run.",
    multiprocess_mode="livemax",
)
RECONCILE_SECONDS = Histogram(
    "audience_watch_reconcile_seconds",
    "Seconds of one scan of a watched audience.",
    ("outcome",),
    buckets=_CALL_SECONDS,
)

JOBS_OPEN = _sum_of_processes(
    "audience_jobs_open", "Background jobs that run or wait: snapshots, lookalikes, refreshes.", ("kind",)
)
JOBS_ENDED = Counter("audience_jobs_total", "Background jobs that ended.", ("kind", "outcome"))
REACH_ANSWERS = Counter("audience_reach_answers_total", "Estimates of reach, exact or sampled.", ("kind",))
CACHE_LOOKUPS = Counter("audience_cache_lookups_total", "Lookups in a cache of the process.", ("cache", "outcome"))


METRICS: tuple[MetricWrapperBase, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, MetricWrapperBase)
)
"""Every metric of this module."""


def count_lookup(name: str, *, hit: bool) -> None:
    """Count a lookup in a cache."""
    _lookups(name, "hit" if hit else "miss").inc()


@cache
def _lookups(name: str, outcome: str) -> Counter:
    return CACHE_LOOKUPS.labels(name, outcome)


@contextmanager
def serve_metrics(listen: str, directory: Path | None = None) -> Iterator[int]:
    """Serve `/metrics` on an address, and yield the port.

    With a directory the metrics are those of the worker processes that write to it, otherwise those of this process.
    Raises OSError if the port is not available.
    """
    registry = REGISTRY
    if directory is not None:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(directory))  # type: ignore[no-untyped-call]
    host, _, port = listen.rpartition(":")
    server, thread = start_http_server(int(port), host.strip("[]"), registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def forget_process(pid: int, directory: Path) -> None:
    """Remove the gauges of a worker process that has ended. Its counters remain, since sums must not decrease."""
    mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]
