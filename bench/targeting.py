"""`python -m bench.targeting --uri URI`: the cost of a taxonomy search, compared with a bare grpcio call.

The bare server answers with the same bytes, without authentication and without a search.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import click
import grpc
import psutil

from audience_service.pb.audience.v1 import targeting_service_pb2 as pb
from bench.processes import Server, audience_service, bare_server
from bench.rows import Client
from bench.table import Table

CALLS = 1_000
ROWS: tuple[tuple[str, Any, Any], ...] = (
    *(
        ("ListLocations", pb.ListLocationsRequest(query=query), pb.ListLocationsResponse)
        for query in ("munch", "New York", "san", "mu", "s", "a")
    ),
    ("ListLocations", pb.ListLocationsRequest(query="s", parent_id="country-US"), pb.ListLocationsResponse),
    ("ListLocations", pb.ListLocationsRequest(kind="country"), pb.ListLocationsResponse),
    ("ListInterests", pb.ListInterestsRequest(query="rugby"), pb.ListInterestsResponse),
    ("ListTargetingOptions", pb.ListTargetingOptionsRequest(platform="google"), pb.ListTargetingOptionsResponse),
)


@click.command()
@click.option("--uri", required=True, help="The MongoDB of the service. The benchmark does not write.")
def main(*, uri: str) -> None:
    """Measure each search and a bare call, in one run."""
    columns = ("RPC", "request", "nodes", "service", "bare", "ratio", "CPU", "bare CPU", "CPU ratio")
    table = Table(*columns, title=f"Medians of {CALLS:,} calls each; CPU of the server process per call")
    with audience_service(uri, "bench_targeting") as server, grpc.insecure_channel(server.address) as channel:
        client = Client(channel, "bench")
        for rpc, request, response_type in ROWS:
            table.add_row(*_measure_row(server, client, rpc, request, response_type))
        table.caption = f"Resident memory of the service: {server.process.memory_info().rss / 1e6:.0f} MB"
    click.echo(table)
    click.echo(_measure_loading())


def _measure_row(server: Server, client: Client, rpc: str, request: Any, response_type: Any) -> tuple[str, ...]:
    expected = client.unary(f"TargetingService/{rpc}", request, response_type)
    with ExitStack() as stack:
        bare = stack.enter_context(bare_server(expected.SerializeToString()))
        channel = stack.enter_context(grpc.insecure_channel(bare.address))
        call: Any = channel.unary_unary("/bare.Bare/Call", response_deserializer=response_type.FromString)
        sent = request.SerializeToString()
        if call(sent) != expected:
            raise SystemExit("the bare server returns another response than the service")
        service_times = _measure_seconds(
            server, lambda: client.unary(f"TargetingService/{rpc}", request, response_type)
        )
        reference_times = _measure_seconds(bare, lambda: call(sent))
    parameters = ", ".join(f"{field.name} {value}" for field, value in request.ListFields())
    times = [
        f"{seconds * 1000:.2f} ms"
        for seconds in (service_times[0], reference_times[0], service_times[1], reference_times[1])
    ]
    ratios = [f"{service / reference:.1f}" for service, reference in zip(service_times, reference_times, strict=True)]
    return rpc, parameters, f"{expected.total_size:,}", *times[:2], ratios[0], *times[2:], ratios[1]


def _measure_seconds(server: Server, call: Callable[[], object]) -> tuple[float, float]:
    """The median seconds of a call, and the server's CPU seconds for one."""
    for _ in range(50):
        call()
    before, seconds = server.cpu_seconds(), []
    for _ in range(CALLS):
        started_at = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started_at)
    return statistics.median(seconds), (server.cpu_seconds() - before) / CALLS


def _measure_loading() -> str:
    """The seconds to load the taxonomies in this process, and the memory that they occupy."""
    from audience_service.domain.targeting.taxonomy import packaged_taxonomies

    memory, started_at = psutil.Process().memory_info().rss, time.perf_counter()
    taxonomies = packaged_taxonomies()
    seconds, memory_growth = time.perf_counter() - started_at, psutil.Process().memory_info().rss - memory
    nodes = sum(map(len, taxonomies.values()))
    return f"{nodes:,} nodes: loaded in {seconds:.2f} s, {memory_growth / 1e6:.0f} MB of memory"


if __name__ == "__main__":
    main()
