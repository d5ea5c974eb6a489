"""`python -m bench.partitions --uri URI`: four parallel readers of partitions, compared with one reader.

The readers use the real client, with random and with sequential ids, and with scattered and adjacent members. The
partitions together must have exactly the members of the complete stream, each once.
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

from audience_service.cli.token import mint
from audience_service.mongo.store import Store, mongo_store
from audience_service.pb.audience.v1.membership_service_pb2 import StreamMembersRequest
from audience_service.pb.audience.v1.membership_service_pb2_grpc import MembershipServiceStub
from audience_service.settings import Settings
from bench.processes import KEY, Server, audience_service
from bench.table import Table

PARTITION_COUNT = 4
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BATCH_SIZE = 10_000
_AUDIENCES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("everyone", {}),
    ("one in seven, scattered", {"spread": {"$lt": 1 / 7}}),
    ("one in seven, created consecutively", {"day": {"$gte": 0.5, "$lt": 0.5 + 1 / 7}}),
)


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on.")
@click.option("--database", default="bench_parts", show_default=True, help="Created, and dropped at the end.")
@click.option("--contacts", default=1_000_000, show_default=True, help="Contacts for each kind of id.")
def main(*, uri: str, database: str, contacts: int) -> None:
    """Measure the balance of partitions, and check that they are disjoint and complete."""
    console = Console()
    store = mongo_store(uri, database)
    table = Table(
        "ids", "audience", "members", "partitions", "largest / mean", "one stream", "parallel streams", "memory growth"
    )
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
    click.echo(table)


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
        partitions = [
            ids for ids, _ in workers.map(lambda partition: _read(server, org, where, partition), partition_fields)
        ]
    parallel_seconds = time.monotonic() - started_at
    if [member for ids in partitions for member in ids] != complete_ids or len(set(complete_ids)) != len(complete_ids):
        raise SystemExit(f"the partitions of {org}, {where} differ from the complete stream")
    sizes = [len(ids) for ids in partitions]
    return (
        f"{len(complete_ids):,}",
        " ".join(f"{size:,}" for size in sizes),
        f"{max(sizes) * PARTITION_COUNT / len(complete_ids):.3f}",
        f"{single_seconds:.1f} s",
        f"{parallel_seconds:.1f} s",
        f"{memory_growth:+.1f} MB",
    )


def _read(server: Server, org: str, where: dict[str, Any], partition_field: dict[str, Any]) -> tuple[list[str], float]:
    """The ids of a stream, and the growth of the server's memory in MB from its first tenth to its end."""
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
            raise SystemExit(f"the stream sent {len(ids)} members, but its total is {message.totals.member_count}")
    return ids, (resident[-1] - resident[len(resident) // 10]) / 2**20


if __name__ == "__main__":
    main()
