"""`python -m bench.gateway --uri URI`: the cost of the HTTP gateway, compared with the same RPCs by gRPC.

The service, the gateway and this client are processes of one machine. CPU is that of the gateway, per request.
"""

import json
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import click
import grpc
import psutil

from audience_service.cli.token import mint
from audience_service.pb.audience.v1 import resources_pb2, segment_service_pb2, targeting_service_pb2
from audience_service.settings import Settings
from bench.processes import KEY, audience_service, http_gateway
from bench.rows import Client
from bench.table import Table

ORG = "bench"
REQUESTS, CONNECTIONS = 400, 8


class HttpClient:
    """One connection that sends GET requests. It reads no more of a response than its length."""

    def __init__(self, port: int, path: str, authorization: str) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port))
        lines = (f"GET {path} HTTP/1.1", "host: bench", f"authorization: {authorization}", f"orgid: {ORG}", "", "")
        self._request = "\r\n".join(lines).encode()

    def get(self) -> bytes:
        """The body of a response. Raises RuntimeError for a status other than 200."""
        self._connection.sendall(self._request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._connection.recv(65_536)
        head, _, body = received.partition(b"\r\n\r\n")
        if b" 200 " not in head.splitlines()[0]:
            raise RuntimeError(received.decode())
        [length] = [int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:")]
        while len(body) < length:
            body += self._connection.recv(65_536)
        return body


def measure(call: Callable[[], object], process: psutil.Process) -> tuple[float, float]:
    """The median seconds of a call, and the CPU seconds of a process for one."""
    for _ in range(50):
        call()
    before, seconds = process.cpu_times(), []
    for _ in range(REQUESTS):
        started_at = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started_at)
    after = process.cpu_times()
    return statistics.median(seconds), (after.user + after.system - before.user - before.system) / REQUESTS


def measure_rate(clients: list[HttpClient]) -> float:
    """Requests per second of concurrent clients."""

    def send(client: HttpClient) -> None:
        for _ in range(REQUESTS // CONNECTIONS):
            client.get()

    started_at = time.perf_counter()
    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(send, clients))
    return REQUESTS / (time.perf_counter() - started_at)


@contextmanager
def paths(uri: str) -> Iterator[tuple[str, list[tuple[str, str, Callable[[], object]]]]]:
    """The address of a service, and the paths to measure: name, path and the same RPC by gRPC."""
    with audience_service(uri, "bench_gateway") as server, grpc.insecure_channel(server.address) as channel:
        client = Client(channel, ORG)
        segment = resources_pb2.Segment(
            name=f"bench {time.time_ns()}",
            filter=resources_pb2.Filter(datatype="contact", where_json='{"country":"US"}'),
        )
        create: Any = segment_service_pb2.CreateSegmentRequest(segment=segment)
        made = client.unary("SegmentService/CreateSegment", create, resources_pb2.Segment)
        get, found = segment_service_pb2.GetSegmentRequest(id=made.id), targeting_service_pb2.ListLocationsResponse
        search = targeting_service_pb2.ListLocationsRequest(query="san", page_size=20)
        yield (
            server.address,
            [
                (
                    "GetSegment",
                    f"/crm/audiences/segments/{made.id}",
                    lambda: client.unary("SegmentService/GetSegment", get, resources_pb2.Segment),
                ),
                (
                    "ListLocations, 20 nodes",
                    "/crm/audiences/locations?query=san&pageSize=20",
                    lambda: client.unary("TargetingService/ListLocations", search, found),
                ),
            ],
        )


def measure_path(port: int, process: psutil.Process, path: str, call: Callable[[], object]) -> list[str]:
    """The cells of a row: seconds by HTTP and by gRPC, CPU, and requests per second."""
    authorization = f"Bearer {mint(Settings(jwt_key=KEY), org=ORG, subject='bench')}"
    clients = [HttpClient(port, path, authorization) for _ in range(CONNECTIONS)]
    by_http, cpu = measure(clients[0].get, process)
    by_grpc, _ = measure(call, process)
    size = len(json.dumps(json.loads(clients[0].get())))
    cells = [f"{seconds * 1000:.2f} ms" for seconds in (by_http, by_grpc, by_http - by_grpc, cpu)]
    return [f"{size:,}", *cells, f"{measure_rate(clients):.0f}/s"]


@click.command()
@click.option("--uri", required=True, help="The MongoDB of the service. The benchmark writes one segment.")
def main(*, uri: str) -> None:
    """Measure a small and a large response."""
    columns = ("RPC", "bytes", "HTTP", "gRPC", "difference", "gateway CPU", f"{CONNECTIONS} connections")
    table = Table(*columns, title=f"Medians of {REQUESTS:,} requests each")
    with ExitStack() as stack:
        address, rows = stack.enter_context(paths(uri))
        gateway = stack.enter_context(http_gateway(address))
        for name, path, call in rows:
            table.add_row(name, *measure_path(int(gateway.address.rpartition(":")[2]), gateway.process, path, call))
        table.caption = f"Resident memory of the gateway: {gateway.process.memory_info().rss / 1e6:.0f} MB"
    click.echo(table)


if __name__ == "__main__":
    main()
