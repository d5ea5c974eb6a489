"""`python -m bench.unary --uri URI`: the service's own CPU for unary calls, and its rate of calls for 32 callers.

Three servers answer with the same bytes, each in a process of its own:

    service    the RPC
    driver     a bare grpcio server that runs the RPC's commands by the driver, and drops their results
    bare       a bare grpcio server without a database

The service's own CPU is that of `service`, less that of `driver`, plus that of `bare`: what is left is gRPC and the
service's own code. The table shows it as a ratio to `bare`. Then 32 callers at once call the service, and the driver's
server.

The CPU of a process is counted in hundredths of a second, so the servers take turns of `--calls` calls, many times.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import click
import grpc
from google.protobuf.message import Message
from pymongo import MongoClient
from rich.console import Console

from audience_service.pb.audience.v1 import membership_service_pb2 as membership
from audience_service.pb.audience.v1 import reach_service_pb2 as reach
from audience_service.pb.audience.v1 import resources_pb2 as resources
from audience_service.pb.audience.v1 import segment_service_pb2 as segments
from bench import reference
from bench.dataset import LARGE, prepare
from bench.processes import Command, Server, audience_service, bare_server
from bench.rows import Client, filter_message, save_segment
from bench.table import Table

CALLERS = 32
_CONTACTS = 10_000
_CHECKED_CONTACTS, _AUDIENCES = 10, 1
_SERVICE_CPU, _LOAD_CPU = 0, 1
_WARM_UP_CALLS = 100


@dataclass(frozen=True)
class UnaryCall:
    """An RPC, and the commands that it sends to the database."""

    name: str
    path: str
    request: Message
    response: type[Message]
    commands: list[Command]


@dataclass
class _Side:
    """A server and one call of it, with the CPU of its process and the number of its calls so far."""

    server: Server
    call: Callable[[], object]
    cpu: float = 0.0
    calls: int = 0
    rates: list[float] = field(default_factory=list)

    def run(self, count: int) -> None:
        """Call it so many times, one after the other."""
        before = self.server.cpu_seconds()
        for _ in range(count):
            self.call()
        self.cpu += self.server.cpu_seconds() - before
        self.calls += count

    def run_concurrently(self, pool: ThreadPoolExecutor, count: int) -> None:
        """Call it so many times from `CALLERS` threads."""
        started_at = time.perf_counter()
        list(pool.map(lambda _: [self.call() for _ in range(count // CALLERS)], range(CALLERS)))
        self.rates.append(count / (time.perf_counter() - started_at))

    @property
    def cpu_per_call(self) -> float:
        """Seconds of CPU for a call."""
        return self.cpu / self.calls


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on. It retains the database bench_10000.")
@click.option("--calls", default=200, show_default=True, help="The calls of each turn.")
@click.option("--turns", default=10, show_default=True, help="The turns of each server.")
@click.option("--pin", is_flag=True, help="Run the servers on processor 0, and the load on processor 1.")
def main(*, uri: str, calls: int, turns: int, pin: bool) -> None:
    """Measure the CPU of each call, and the rate of 32 callers."""
    console = Console()
    name = prepare(uri, _CONTACTS, console)
    if pin:
        os.sched_setaffinity(0, {_LOAD_CPU})
    rates = (f"{CALLERS} callers: service", "driver", "ratio")
    table = Table("RPC", "service", "driver", "bare", "own CPU / bare", *rates)
    with (
        ExitStack() as stack,
        MongoClient[reference.Document](uri, tz_aware=True) as database,
        audience_service(uri, name) as server,
    ):
        client = Client(stack.enter_context(grpc.insecure_channel(server.address)), LARGE)
        pool = stack.enter_context(ThreadPoolExecutor(CALLERS))
        for call in unary_calls(client, database[name]):
            with console.status(call.name):
                sides = _sides(call, client, server, uri, name, stack)
                if pin:
                    for side in sides:
                        side.server.process.cpu_affinity([_SERVICE_CPU])
                for _ in range(turns):
                    for side in sides:
                        side.run(calls)
                service, driver, bare = (side.cpu_per_call for side in sides)
                own = f"{(service - driver + bare) / bare:.2f}"
                cpu = [f"{seconds * 1000:.2f} ms" for seconds in (service, driver, bare)]
                for _ in range(turns):
                    for side in sides[:2]:
                        side.run_concurrently(pool, max(calls, CALLERS) * 2)
                ratio = statistics.median(a / b for a, b in zip(sides[0].rates, sides[1].rates, strict=True))
                medians = [f"{statistics.median(side.rates):,.0f}/s" for side in sides[:2]]
                table.add_row(call.name, *cpu, own, *medians, f"{ratio:.2f}")
    click.echo(table)


def unary_calls(client: Client, database: reference.Contacts) -> Iterator[UnaryCall]:
    """The calls to measure, on the large org of a database."""
    scope = reference.in_org(LARGE, {})["sk"]
    segment_id = save_segment(client, "unary", {"score": {"$gte": 50}}).id
    present = {"sk": scope, "$and": [{"pk": segment_id, "state": {"$ne": "deleted"}}]}
    yield UnaryCall(
        "GetSegment",
        "SegmentService/GetSegment",
        segments.GetSegmentRequest(id=segment_id),
        resources.Segment,
        [Command("segment", "find_one", present)],
    )
    contacts = [row["pk"] for row in database["contact"].find({"sk": scope}, {"pk": 1}, limit=_CHECKED_CONTACTS)]
    active = {"state": {"$nin": ["archived", "deleted"]}}
    member = [
        {"$match": {"sk": scope, "$and": [{"$and": [{"data.score": {"$gte": 50}}, active]}]}},
        {"$group": {"_id": None, "ids": {"$push": "$pk"}}},
    ]
    check = [
        {"$match": {"sk": scope, "$and": [{"pk": {"$in": contacts}}]}},
        {"$unset": "_id"},
        {"$facet": {"records": [{"$project": {"_id": 0, "pk": 1}}], "f0": member}},
    ]
    loaded = {"sk": scope, "$and": [{"pk": {"$in": [segment_id]}, "state": {"$ne": "deleted"}}]}
    yield UnaryCall(
        f"CheckMembership, {_CHECKED_CONTACTS} contacts, {_AUDIENCES} audience",
        "MembershipService/CheckMembership",
        membership.CheckMembershipRequest(audience_ids=[segment_id], contact_ids=contacts),
        membership.CheckMembershipResponse,
        [Command("segment", "find", loaded), Command("contact", "aggregate", check)],
    )
    match = {"$match": {"sk": scope, "$and": [{"$and": [{"pk": contacts[0]}, active]}]}}
    yield UnaryCall(
        "EstimateReach by pk",
        "ReachService/EstimateReach",
        reach.EstimateReachRequest(filter=filter_message({"pk": contacts[0]})),
        reach.EstimateReachResponse,
        [Command("contact", "aggregate", [match, {"$limit": 2}])],
    )


def _sides(
    call: UnaryCall, client: Client, server: Server, uri: str, database: str, stack: ExitStack
) -> tuple[_Side, _Side, _Side]:
    """The service, the driver's server and the bare one, all warm."""

    def serve() -> Any:
        return client.unary(call.path, call.request, call.response)

    answer = serve().SerializeToString()
    sides = [_Side(server, serve)]
    for commands in (call.commands, []):
        other = stack.enter_context(bare_server(answer, uri, database, commands))
        channel = stack.enter_context(grpc.insecure_channel(other.address))
        method: Any = channel.unary_unary(
            "/bare.Bare/Call",
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.response.FromString,
        )
        sides.append(_Side(other, partial(method, call.request)))
    for side in sides:
        for _ in range(_WARM_UP_CALLS):
            side.call()
    service, driver, bare = sides
    return service, driver, bare


if __name__ == "__main__":
    main()
