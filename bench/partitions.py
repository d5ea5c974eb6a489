"""`python -m bench.partitions --uri URI`: four workers read an audience's parts at once, beside one who reads it whole.

Through the real client, for ids made at random and ids made in sequence, where members lie anywhere and side by side.
What the parts hold together must be what the whole holds, each member once.
"""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import click
import grpc
from google.protobuf.json_format import ParseDict
from rich.console import Console
from rich.progress import track
from rich.table import Table

from audience_service.cli.token import mint
from audience_service.mongo.store import Store, mongo_store
from audience_service.pb.audience.v1.membership_service_pb2 import StreamMembersRequest
from audience_service.pb.audience.v1.membership_service_pb2_grpc import MembershipServiceStub
from audience_service.settings import Settings
from bench.processes import KEY, Server, audience_service

PARTITION_COUNT = 4
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BATCH_SIZE = 10_000
_AUDIENCES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("everyone", {}),
    ("one in seven, anywhere", {"spread": {"$lt": 1 / 7}}),
    ("one in seven, created one after the other", {"day": {"$gte": 0.5, "$lt": 0.5 + 1 / 7}}),
)


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on.")
@click.option("--database", default="bench_parts", show_default=True, help="Made, and dropped in the end.")
@click.option("--contacts", default=1_000_000, show_default=True, help="Of each way of making ids.")
def main(*, uri: str, database: str, contacts: int) -> None:
    """Measure the balance of parts, and check that they are disjoint and complete."""
    console = Console(width=170)
    store = mongo_store(uri, database)
    table = Table("ids", "audience", "members", "parts", "largest by mean", "whole", "parts at once", "memory grew by")
    try:
        for index in store.missing_indexes(("contact",)):
            store.create_index(index)
        for org in ("nanoid", "sequential"):
            _load(store, org, contacts, console)
        with audience_service(uri, database) as server:
            for org in ("nanoid", "sequential"):
                for name, where in _AUDIENCES:
                    with console.status(f"{org} ids, {name}"):
                        table.add_row(org, name, *_measure(server, org, where))
    finally:
        store.database.client.drop_database(database)
        store.close()
    console.print(table)


def _load(store: Store, org: str, count: int, console: Console) -> None:
    rng = random.Random(17)  # noqa: S311 - ids, not secrets
    for start in track(range(0, count, _BATCH_SIZE), f"{count:,} contacts, {org} ids", console=console, transient=True):
        numbers = range(start, min(start + _BATCH_SIZE, count))
        store.insert([_record(org, number, count, rng) for number in numbers])


def _record(org: str, number: int, count: int, rng: random.Random) -> dict[str, Any]:
    key = f"{number:012d}" if org == "sequential" else "".join(rng.choices(_ALPHABET, k=21))
    data = {"spread": rng.random(), "day": number / count}
    return {
        "pk": f"contact-{key}",
        "sk": f"{org}/contact/{key}",
        "datatype": "contact",
        "state": "active",
        "data": data,
    }


def _measure(server: Server, org: str, where: dict[str, Any]) -> tuple[str, ...]:
    started_at = time.monotonic()
    complete_ids, memory_growth = _read(server, org, where, {})
    single_seconds = time.monotonic() - started_at
    started_at = time.monotonic()
    with ThreadPoolExecutor(PARTITION_COUNT) as workers:
        partition_fields = [
            {"partition": {"index": index, "count": PARTITION_COUNT}} for index in range(PARTITION_COUNT)
        ]
        partitions = [ids for ids, _ in workers.map(lambda part: _read(server, org, where, part), partition_fields)]
    parallel_seconds = time.monotonic() - started_at
    if [member for part in partitions for member in part] != complete_ids or len(set(complete_ids)) != len(
        complete_ids
    ):
        raise SystemExit(f"the parts of {org}, {where} are not the whole")
    sizes = [len(part) for part in partitions]
    return (
        f"{len(complete_ids):,}",
        " ".join(f"{size:,}" for size in sizes),
        f"{max(sizes) * PARTITION_COUNT / len(complete_ids):.3f}",
        f"{single_seconds:.1f} s",
        f"{parallel_seconds:.1f} s",
        f"{memory_growth:+.1f} MB",
    )


def _read(server: Server, org: str, where: dict[str, Any], partition_field: dict[str, Any]) -> tuple[list[str], float]:
    """The ids of a stream, and by how much the server's memory grew between a tenth of the way and the end."""
    request = ParseDict({"filter": {"datatype": "contact", "where": where}, **partition_field}, StreamMembersRequest())
    token = mint(Settings(jwt_key=KEY), org=org, subject="bench")
    ids: list[str] = []
    resident: list[int] = []
    with ExitStack() as stack:
        channel = stack.enter_context(grpc.insecure_channel(server.address))
        call = MembershipServiceStub(channel).StreamMembers(
            request, metadata=(("authorization", f"Bearer {token}"), ("orgid", org))
        )
        for message in call:
            ids += [member.id for member in message.members]
            resident.append(server.process.memory_info().rss)
        if len(ids) != message.totals.member_count:
            raise SystemExit(f"{len(ids)} members, {message.totals.member_count} by the totals")
    return ids, (resident[-1] - resident[len(resident) // 10]) / 2**20


if __name__ == "__main__":
    main()
