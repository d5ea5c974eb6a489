"""`python -m bench.syncs --uri URI`: the difference that a sync sends after some changes, compared with a full export.

1. A worker of the benchmark mirrors an audience on Meta: it acknowledges each batch as it arrives.
2. A quarter of the changed contacts gets another address, a quarter exits, a quarter is deleted and a quarter enters.
3. The worker sends the difference. The identifiers on the platform must then be those of a full export.
"""

import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import click
import grpc
from google.protobuf.message import Message
from pymongo import DeleteOne, InsertOne, MongoClient, UpdateOne
from rich.console import Console
from rich.progress import track

from audience_service.mongo.store import Store, mongo_store
from audience_service.pb.audience.v1 import membership_service_pb2 as membership
from audience_service.pb.audience.v1 import resources_pb2 as resources
from audience_service.pb.audience.v1 import segment_service_pb2 as segments
from audience_service.pb.audience.v1 import sync_service_pb2 as syncs
from bench.processes import Server, audience_service
from bench.rows import Client
from bench.table import Table

ORG = "bench"
FIELDS = ("email", "phone")
_BATCH_SIZE = 5_000


@dataclass
class Transfer:
    """What one stream, or several in sequence, have sent."""

    name: str
    stream_count: int = 0
    seconds: float = 0.0
    first_seconds: float = 0.0
    size: int = 0
    row_count: int = 0
    peak_megabytes: float = 0.0
    identifiers: set[int] = field(default_factory=set)


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on.")
@click.option("--database", default="bench_syncs", show_default=True, help="Created, and dropped at the end.")
@click.option("--members", default=1_000_000, show_default=True, help="The members of the audience.")
@click.option("--changes", default=0, help="The contacts that change. Default one in a hundred members.")
def main(*, uri: str, database: str, members: int, changes: int) -> None:
    """Measure a full export, the first stream of a sync, and the difference after the changes."""
    changes = changes or members // 100
    console = Console()
    with MongoClient[dict[str, Any]](uri) as raw:
        raw.drop_database(database)
    store = mongo_store(uri, database)
    try:
        for index in store.missing_indexes(("contact",)):
            store.create_index(index)
        _load(store, members, console)
        with audience_service(uri, database) as server, grpc.insecure_channel(server.address) as channel:
            worker = Worker(Client(channel, ORG), server)
            transfers = [worker.export("full export"), worker.mirror("sync, first stream")]
            _change(store, members, changes)
            transfers += [worker.mirror(f"sync, after {changes:,} changes"), worker.mirror("sync, without changes")]
            transfers.append(worker.export("full export, after the changes"))
            if worker.listed != transfers[-1].identifiers:
                raise SystemExit("the identifiers that the sync has sent differ from those of a full export")
    finally:
        store.database.client.drop_database(database)
        store.close()
    click.echo(_table(transfers, members))


class Worker:
    """A worker with a sync, and the identifiers that the platform has."""

    def __init__(self, client: Client, server: Server) -> None:
        self._client, self._server = client, server
        self.listed: set[int] = set()
        vips = resources.Filter(datatype="contact")
        vips.where.update({"tags": "vip"})
        segment = segments.CreateSegmentRequest(segment=resources.Segment(name="VIPs", filter=vips))
        self._audience_id = client.unary("SegmentService/CreateSegment", segment, resources.Segment).id
        written = syncs.Sync(name="VIPs", audience_ids=[self._audience_id], platform="meta", fields=FIELDS)
        self._sync_id = client.unary("SyncService/CreateSync", syncs.CreateSyncRequest(sync=written), syncs.Sync).id

    def export(self, name: str) -> Transfer:
        """A full export."""
        request = membership.ExportIdentifiersRequest(audience_id=self._audience_id, platform="meta", fields=FIELDS)
        transfer = Transfer(name)
        path = "MembershipService/ExportIdentifiers"
        for message in self._messages(transfer, path, request, membership.ExportIdentifiersResponse):
            transfer.row_count += len(message.rows)
            transfer.identifiers |= _identifiers(message.rows)
        return transfer

    def mirror(self, name: str) -> Transfer:
        """Send and acknowledge batches until none is open and no row waits for one."""
        transfer = Transfer(name)
        while self._stream(transfer):
            pass
        return transfer

    def _stream(self, transfer: Transfer) -> bool:
        """Send and acknowledge the batches of one stream. Returns whether another stream has more."""
        request, path = syncs.StreamSyncChangesRequest(id=self._sync_id, worker_id="bench"), "SyncService/"
        totals = syncs.SyncChangesTotals()
        for message in self._messages(transfer, f"{path}StreamSyncChanges", request, syncs.StreamSyncChangesResponse):
            transfer.row_count += len(message.rows)
            if message.operation == membership.EXPORT_OPERATION_ADD:
                self.listed |= _identifiers(message.rows)
            else:
                self.listed -= _identifiers(message.rows)
            if message.last_in_batch:
                acknowledgement = syncs.AcknowledgeSyncBatchRequest(id=self._sync_id, batch_number=message.batch_number)
                self._client.unary(f"{path}AcknowledgeSyncBatch", acknowledgement, syncs.SyncReceipt)
            totals = message.totals
        return totals.open_batch_count + totals.blocked_count > 0

    def _messages(self, transfer: Transfer, path: str, request: Message, response_type: Any) -> Iterator[Any]:
        self._server.reset_peak()
        transfer.stream_count += 1
        started_at = time.perf_counter()
        for message in self._client.stream(path, request):
            transfer.first_seconds = transfer.first_seconds or time.perf_counter() - started_at
            transfer.size += len(message)
            yield response_type.FromString(message)
        transfer.seconds += time.perf_counter() - started_at
        transfer.peak_megabytes = max(transfer.peak_megabytes, self._server.peak_megabytes())


def _identifiers(rows: Iterable[Any]) -> set[int]:
    """The beginnings of the digests in rows, with their columns."""
    return {
        int(value[:14], 16) * len(FIELDS) + column for row in rows for column, value in enumerate(row.values) if value
    }


def _load(store: Store, members: int, console: Console) -> None:
    for start in track(range(0, members, _BATCH_SIZE), f"{members:,} members", console=console, transient=True):
        store.insert([_contact(number) for number in range(start, min(start + _BATCH_SIZE, members))])


def _contact(number: int) -> dict[str, Any]:
    data = {"email": f"first.last.{number}@example.com", "phone": _phone(number), "tags": ["vip"]}
    key = _key(number)
    return {
        "pk": f"contact-{key}",
        "sk": f"{ORG}/contact/{key}",
        "datatype": "contact",
        "state": "active",
        "data": data,
    }


def _key(number: int) -> str:
    return f"{random.Random(number).getrandbits(100):025x}"  # noqa: S311 - ids, not secrets


def _phone(number: int) -> str:
    """A valid number of the US; ten million differ."""
    areas = ("212", "213", "312", "415", "512", "617", "702", "713", "808", "917")
    return f"+1{areas[number // 1_000_000 % 10]}{200 + number // 10_000 % 100 * 7:03}{number % 10_000:04}"


def _change(store: Store, members: int, changes: int) -> None:
    """Change, untag, delete and insert a quarter each."""
    chosen = random.Random(31).sample(range(members), changes * 3 // 4)  # noqa: S311 - a sample, no secret
    writes: list[Any] = []
    for index, number in enumerate(chosen):
        match = {"sk": f"{ORG}/contact/{_key(number)}"}
        writes.append(
            (
                UpdateOne(match, {"$set": {"data.email": f"new.{number}@example.com"}}),
                UpdateOne(match, {"$set": {"data.tags": []}}),
                DeleteOne(match),
            )[index % 3]
        )
    writes += [InsertOne(_contact(members + number)) for number in range(changes - len(chosen))]
    for start in range(0, len(writes), _BATCH_SIZE):
        store.database["contact"].bulk_write(writes[start : start + _BATCH_SIZE], ordered=False)


def _table(transfers: Iterable[Transfer], members: int) -> Table:
    table = Table(
        "what", "streams", "rows", "MB", "seconds", "first batch after", "peak memory", title=f"{members:,} members"
    )
    for transfer in transfers:
        table.add_row(
            transfer.name,
            str(transfer.stream_count),
            f"{transfer.row_count:,}",
            f"{transfer.size / 1e6:.2f}",
            f"{transfer.seconds:.1f}",
            f"{transfer.first_seconds:.1f} s",
            f"{transfer.peak_megabytes:.0f} MB",
        )
    return table


if __name__ == "__main__":
    main()
