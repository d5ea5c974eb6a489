"""`python -m bench.upload --uri URI`: a file of addresses uploaded, beside insert_many of the rows that it makes.

Through the real client and server: every row of the file, in mixed case and in another order, is matched to one of as
many contacts. The file is sent whole, and once more broken at two random bytes and gone on with; each time the list
must be exactly whom the file names. insert_many writes the same documents, as many at a time, to a collection with
the same indexes, by turns with the uploads.
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
from rich.table import Table

from audience_service.cli.token import mint
from audience_service.mongo.core.collections import LISTS
from audience_service.mongo.store import Store, mongo_store
from audience_service.pb.audience.v1 import custom_audience_service_pb2 as pb
from audience_service.pb.audience.v1.custom_audience_service_pb2_grpc import CustomAudienceServiceStub
from audience_service.settings import Settings
from bench.processes import KEY, Server, audience_service

ORG = "bench"
_REFERENCE_COLLECTION = "raw_member"
_BATCH_SIZE = 5_000
_CHUNK_SIZE = 256 * 1024


@dataclass
class UploadFile:
    """The file, and what the server's memory was along the way, in bytes."""

    data: bytes
    server: Server
    resident_bytes: dict[int, int] = field(default_factory=dict)

    def messages(self, header: pb.UploadHeader, start: int = 0, stop: int | None = None) -> Iterator[Any]:
        """The messages from an offset on; up to another they are the last ones, without a trailer."""
        yield pb.UploadMembersRequest(header=header)
        until = len(self.data) if stop is None else stop
        for offset in range(start, until, _CHUNK_SIZE):
            data = self.data[offset : min(offset + _CHUNK_SIZE, until)]
            self.resident_bytes[offset * 100 // len(self.data)] = self.server.process.memory_info().rss
            yield pb.UploadMembersRequest(chunk=pb.UploadChunk(offset=offset, data=data, crc32=zlib.crc32(data)))
        if stop is None:
            yield pb.UploadMembersRequest(trailer=pb.UploadTrailer(size=len(self.data), crc32=zlib.crc32(self.data)))


class Uploader:
    """Uploads to the server of the benchmark."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.stub = CustomAudienceServiceStub(channel)
        token = mint(Settings(jwt_key=KEY), org=ORG, subject="bench")
        self.metadata = (("authorization", f"Bearer {token}"), ("orgid", ORG))

    def header(self) -> pb.UploadHeader:
        """The header of an upload to a new audience."""
        audience = pb.CustomAudience(name=uuid.uuid4().hex, type="file_upload")
        made = self.stub.CreateCustomAudience(
            pb.CreateCustomAudienceRequest(custom_audience=audience), metadata=self.metadata
        )
        return pb.UploadHeader(audience_id=made.id, upload_id="bench", mode=pb.UPLOAD_MODE_APPEND)

    def send(self, messages: Iterator[Any]) -> pb.Upload:
        """What a stream is answered with."""
        answer: pb.Upload = self.stub.UploadMembers(messages, metadata=self.metadata)
        return answer

    def state(self, header: pb.UploadHeader) -> pb.Upload:
        """How far an upload has come."""
        request = pb.GetUploadRequest(audience_id=header.audience_id, upload_id=header.upload_id)
        answer: pb.Upload = self.stub.GetUpload(request, metadata=self.metadata)
        return answer


@click.command()
@click.option("--uri", required=True, help="The MongoDB to measure on.")
@click.option("--database", default="bench_upload", show_default=True, help="Made, and dropped in the end.")
@click.option("--rows", default=1_000_000, show_default=True, help="Of the file, and contacts.")
@click.option("--rounds", default=3, show_default=True, help="How often each is measured; medians are told.")
def main(*, uri: str, database: str, rows: int, rounds: int) -> None:
    """Measure an upload, and check that its list is exact."""
    console = Console(width=170)
    with MongoClient[dict[str, Any]](uri) as raw:
        raw.drop_database(database)
    store = mongo_store(uri, database)
    table = Table("what", "took", "by the second", "")
    try:
        for index in store.missing_indexes(("contact",)):
            store.create_index(index)
        contacts = _load(store, rows, console)
        with audience_service(uri, database) as server, grpc.insecure_channel(server.address) as channel:
            file = UploadFile(_csv_file(contacts), server)
            uploader = Uploader(channel)
            for name in ("identifiers of all contacts, made", "the same, looked through for changes"):
                seconds = _measure_seconds(
                    lambda: uploader.send(UploadFile(b"email\n0@x.example\n", server).messages(uploader.header()))
                )
                table.add_row(name, f"{seconds:.1f} s", f"{rows / seconds:,.0f}", "with an upload of a row")
            uploads, inserts, memory_growth = [], [], []
            _reset_collections(store)
            for _ in track(range(rounds), "by turns", console=console, transient=True):
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
            table.add_row("upload by insert_many", "", f"{rate / raw_rate:.2f}", "")
            table.add_row("memory, from a tenth to the end", f"{max(memory_growth) / 2**20:+.1f} MB", "", "")
            table.add_row(
                "broken at two bytes and gone on with", _measure_resume(store, uploader, file, contacts), "", "exact"
            )
    finally:
        store.database.client.drop_database(database)
        store.close()
    console.print(table)


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
    """By hand: the documents that an upload makes, in the order of its file, to indexes like those of the lists."""
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
    return min((at for at in file.resident_bytes if at >= percent), default=max(file.resident_bytes))


def _format_range(seconds: list[float]) -> str:
    return f"{min(seconds):.1f} to {max(seconds):.1f} s"


def _measure_resume(store: Store, uploader: Uploader, file: UploadFile, contacts: list[dict[str, Any]]) -> str:
    """An upload whose stream ends at two random bytes; where it went on."""
    rng = random.Random(29)  # noqa: S311 - places, not secrets
    header = uploader.header()
    next_offset, resumed_at = 0, []
    for stop in sorted(rng.randrange(len(file.data)) for _ in range(2)):
        if stop <= next_offset:
            continue
        try:
            uploader.send(file.messages(header, next_offset, stop))
            raise SystemExit("a stream without a trailer was accepted as complete")
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.OUT_OF_RANGE:
                raise
        next_offset = uploader.state(header).next_offset
        resumed_at.append(f"{stop:,} from {next_offset:,}")
    _check(store, uploader.send(file.messages(header, next_offset)), contacts)
    return ", ".join(resumed_at)


def _check(store: Store, upload: pb.Upload, contacts: list[dict[str, Any]]) -> None:
    """The list must be whom the file names, and the counts say so. Then it goes, so that all begin alike."""
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
        raise SystemExit(f"the upload counts {counts} of {rows} rows")
    custom = store.database["custom"].find_one({"pk": upload.audience_id}) or {}
    match = {"audience": custom["data"]["list_version_id"]}
    listed = {row["sk"] for row in store.database[LISTS].find(match, {"sk": 1})}
    if listed != {each["sk"] for each in contacts}:
        raise SystemExit("the list is not whom the file names")
    _reset_collections(store)


def _reset_collections(store: Store) -> None:
    """Empty collections with the same indexes."""
    for name in (LISTS, _REFERENCE_COLLECTION):
        store.database.drop_collection(name)
    for index in store.missing_indexes(("contact",)):
        if index.collection == LISTS:
            store.create_index(index)
            store.database[_REFERENCE_COLLECTION].create_index(list(index.keys), **index.options)


if __name__ == "__main__":
    main()
