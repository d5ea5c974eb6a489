"""`python -m bench.upload --uri URI`: the upload of a file of addresses, compared with insert_many of its rows.

1. The benchmark uses the real client and server. Each row of the file matches one contact, in mixed case and another
   order.
2. It sends the file once without interruption, and once interrupted at two random bytes and resumed.
3. After each upload the list must have exactly the contacts in the file.
4. insert_many alternates with the uploads. It writes the same documents, in batches of the same size, to a collection
   with the same indexes.
"""

import random
import time
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import click
import grpc
from pymongo import MongoClient
from rich.console import Console
from rich.progress import track

from audience_service.cli.token import mint
from audience_service.mongo.core.collections import LISTS
from audience_service.mongo.store import Store, mongo_store
from audience_service.pb.audience.v1 import custom_audience_service_pb2 as pb
from audience_service.pb.audience.v1.custom_audience_service_pb2_grpc import CustomAudienceServiceStub
from audience_service.settings import Settings
from bench.processes import KEY, Server, audience_service
from bench.table import Table

ORG = "bench"
_REFERENCE_COLLECTION = "raw_member"
_BATCH_SIZE = 5_000
_CHUNK_SIZE = 256 * 1024


@dataclass
class UploadFile:
    """The file, and the server's resident memory in bytes by percent of the file."""

    data: bytes
    server: Server
    resident_bytes: dict[int, int] = field(default_factory=dict)

    def messages(self, header: pb.UploadHeader, start: int = 0, stop: int | None = None) -> Iterator[Any]:
        """The messages from an offset on. With `stop` they end at that offset, without a trailer."""
        yield pb.UploadMembersRequest(header=header)
        end = len(self.data) if stop is None else stop
        for offset in range(start, end, _CHUNK_SIZE):
            data = self.data[offset : min(offset + _CHUNK_SIZE, end)]
            self.resident_bytes[offset * 100 // len(self.data)] = self.server.process.memory_info().rss
            yield pb.UploadMembersRequest(chunk=pb.UploadChunk(offset=offset, data=data, crc32=zlib.crc32(data)))
        if stop is None:
            yield pb.UploadMembersRequest(
                trailer=pb.UploadTrailer(size_bytes=len(self.data), crc32=zlib.crc32(self.data))
            )


class Uploader:
    """Uploads to the server of the benchmark."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.stub = CustomAudienceServiceStub(channel)
        token = mint(Settings(jwt_key=KEY), org=ORG, subject="bench")
        self.metadata = (("authorization", f"Bearer {token}"), ("orgid", ORG))

    def header(self) -> pb.UploadHeader:
        """The header of an upload to a new audience."""
        audience = pb.CustomAudience(name=uuid.uuid4().hex, type="file_upload")
        created = self.stub.CreateCustomAudience(
            pb.CreateCustomAudienceRequest(custom_audience=audience), metadata=self.metadata
        )
        return pb.UploadHeader(audience_id=created.id, upload_id="bench", mode=pb.UPLOAD_MODE_APPEND)

    def send(self, messages: Iterator[Any]) -> pb.Upload:
        """The response to a stream of messages."""
        response: pb.Upload = self.stub.UploadMembers(messages, metadata=self.metadata)
        return response

    def state(self, header: pb.UploadHeader) -> pb.Upload:
        """The state of an upload."""
        request = pb.GetUploadRequest(audience_id=header.audience_id, upload_id=header.upload_id)
        response: pb.Upload = self.stub.GetUpload(request, metadata=self.metadata)
        return response


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on.")
@click.option("--database", default="bench_upload", show_default=True, help="Created, and dropped at the end.")
@click.option("--rows", default=1_000_000, show_default=True, help="Rows of the file, and contacts.")
@click.option("--rounds", default=3, show_default=True, help="Measurements of each; the table shows medians.")
def main(*, uri: str, database: str, rows: int, rounds: int) -> None:
    """Measure an upload, and check its list."""
    console = Console()
    with MongoClient[dict[str, Any]](uri) as raw:
        raw.drop_database(database)
    store = mongo_store(uri, database)
    table = Table("step", "time", "rows per second", "")
    try:
        for index in store.missing_indexes(("contact",)):
            store.create_index(index)
        contacts = _load(store, rows, console)
        with audience_service(uri, database) as server, grpc.insecure_channel(server.address) as channel:
            file = UploadFile(_csv_file(contacts), server)
            uploader = Uploader(channel)
            for name in ("create the match keys of all contacts", "check the match keys for changes"):
                seconds = _measure_seconds(
                    lambda: uploader.send(UploadFile(b"email\n0@x.example\n", server).messages(uploader.header()))
                )
                table.add_row(name, f"{seconds:.1f} s", f"{rows / seconds:,.0f}", "during an upload of one row")
            uploads, inserts, memory_growth = [], [], []
            _reset_collections(store)
            for _ in track(range(rounds), "alternating", console=console, transient=True):
                inserts.append(_measure_seconds(lambda: _insert(store, contacts)))
                header = uploader.header()
                uploads.append(_measure_seconds(lambda header=header: uploader.send(file.messages(header))))
                memory_growth.append(
                    file.resident_bytes[max(file.resident_bytes)] - file.resident_bytes[_nearest_percent(file, 10)]
                )
                _check(store, uploader.state(header), contacts)
            raw_rate, rate = rows / median(inserts), rows / median(uploads)
            table.add_row(
                "insert_many of the rows", f"{median(inserts):.1f} s", f"{raw_rate:,.0f}", _format_range(inserts)
            )
            table.add_row("upload", f"{median(uploads):.1f} s", f"{rate:,.0f}", _format_range(uploads))
            table.add_row("upload / insert_many", "", f"{rate / raw_rate:.2f}", "")
            table.add_row(
                "memory growth, from the first tenth to the end", f"{max(memory_growth) / 2**20:+.1f} MB", "", ""
            )
            table.add_row(
                "interrupted at two bytes and resumed", _measure_resume(store, uploader, file, contacts), "", "exact"
            )
    finally:
        store.database.client.drop_database(database)
        store.close()
    click.echo(table)


def _load(store: Store, rows: int, console: Console) -> list[dict[str, Any]]:
    rng = random.Random(23)  # noqa: S311 - ids, not secrets
    contacts = []
    for start in track(range(0, rows, _BATCH_SIZE), f"{rows:,} contacts", console=console, transient=True):
        batch = [_contact(number, rng) for number in range(start, min(start + _BATCH_SIZE, rows))]
        store.insert(batch)
        contacts += [{"pk": each["pk"], "sk": each["sk"], "email": each["data"]["email"]} for each in batch]
    rng.shuffle(contacts)
    return contacts


def _contact(number: int, rng: random.Random) -> dict[str, Any]:
    key = f"{rng.getrandbits(100):025x}"
    data = {"email": f"First.Last.{number}@Example.com", "phone": f"+1415555{number % 10_000:04}", "country": "US"}
    return {
        "pk": f"contact-{key}",
        "sk": f"{ORG}/contact/{key}",
        "datatype": "contact",
        "state": "active",
        "data": data,
    }


def _csv_file(contacts: list[dict[str, Any]]) -> bytes:
    lines = (f"{i},{each['email'].upper() if i % 2 else each['email'].lower()}\r\n" for i, each in enumerate(contacts))
    return ("number,email\r\n" + "".join(lines)).encode()


def _insert(store: Store, contacts: list[dict[str, Any]]) -> None:
    """Insert the documents of an upload in the order of its file, into a collection with the lists' indexes."""
    collection = store.database[_REFERENCE_COLLECTION]
    audience = "custom-abcdefghijklmnopqrstu.12345678"
    for start in range(0, len(contacts), _BATCH_SIZE):
        documents = [
            {"_id": f"{audience}/{each['sk']}", "audience": audience, "pk": each["pk"], "sk": each["sk"], "line": line}
            for line, each in enumerate(contacts[start : start + _BATCH_SIZE], start + 2)
        ]
        collection.insert_many(documents, ordered=False)


def _measure_seconds(action: Any) -> float:
    started_at = time.monotonic()
    action()
    return time.monotonic() - started_at


def _nearest_percent(file: UploadFile, percent: int) -> int:
    return min((known for known in file.resident_bytes if known >= percent), default=max(file.resident_bytes))


def _format_range(seconds: list[float]) -> str:
    return f"{min(seconds):.1f} to {max(seconds):.1f} s"


def _measure_resume(store: Store, uploader: Uploader, file: UploadFile, contacts: list[dict[str, Any]]) -> str:
    """The offsets at which an upload resumes after its stream ends at two random bytes."""
    rng = random.Random(29)  # noqa: S311 - offsets, not secrets
    header = uploader.header()
    next_offset, resumed_at = 0, []
    for stop in sorted(rng.randrange(len(file.data)) for _ in range(2)):
        if stop <= next_offset:
            continue
        try:
            uploader.send(file.messages(header, next_offset, stop))
            raise SystemExit("the server accepted a stream without a trailer")
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.OUT_OF_RANGE:
                raise
        next_offset = uploader.state(header).next_offset
        resumed_at.append(f"{stop:,} from {next_offset:,}")
    _check(store, uploader.send(file.messages(header, next_offset)), contacts)
    return ", ".join(resumed_at)


def _check(store: Store, upload: pb.Upload, contacts: list[dict[str, Any]]) -> None:
    """Check the list and the counts of an upload, and then delete the list.

    Raises SystemExit if the list differs from the contacts in the file.
    """
    counts = (
        upload.state,
        upload.row_count,
        upload.matched_row_count,
        upload.duplicate_row_count,
        upload.matched_contact_count,
        upload.list_size,
    )
    rows = len(contacts)
    if counts != (pb.UPLOAD_STATE_PUBLISHED, rows, rows, 0, rows, rows):
        raise SystemExit(f"the upload's counts are {counts}, but the file has {rows} rows")
    custom = store.database["custom"].find_one({"pk": upload.audience_id}) or {}
    match = {"audience": custom["data"]["list_version_id"]}
    listed = {row["sk"] for row in store.database[LISTS].find(match, {"sk": 1})}
    if listed != {each["sk"] for each in contacts}:
        raise SystemExit("the list differs from the contacts in the file")
    _reset_collections(store)


def _reset_collections(store: Store) -> None:
    """Replace both collections by empty ones with the same indexes."""
    for name in (LISTS, _REFERENCE_COLLECTION):
        store.database.drop_collection(name)
    for index in store.missing_indexes(("contact",)):
        if index.collection == LISTS:
            store.create_index(index)
            store.database[_REFERENCE_COLLECTION].create_index(list(index.keys), **index.options)


if __name__ == "__main__":
    main()
