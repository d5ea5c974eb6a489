"""`audience-service upload`: a CSV file onto the list of a custom audience, gone on with when the way breaks."""

import csv
import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click
import grpc
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from audience_service.cli.bars import printable
from audience_service.cli.client import Client, as_dict, calling, connected, reason_of
from audience_service.domain.caller import Scope
from audience_service.domain.filters.words.values import counted
from audience_service.domain.uploads.upload import DELIMITERS, Mode
from audience_service.pb.audience.v1 import custom_audience_service_pb2 as pb

_CHUNK = 256 * 1024
_PAUSES = (0.5, 1, 2, 4, 8, 15, 30)
"""How long to wait before the next try, as often as nothing more was taken, in seconds."""
_BROKEN = frozenset(
    (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,  # of streams, AUDIENCE_STREAM_TIMEOUT_SECONDS
        grpc.StatusCode.CANCELLED,  # by the server, of a client that was stopped for a while
        grpc.StatusCode.OUT_OF_RANGE,
    )
)
"""Status codes after which the upload is resumed."""
_RESENT = frozenset(("STALE_VERSION", "CHECKSUM_MISMATCH"))
"""Reasons with status ABORTED after which the upload is resumed."""
_SHOWN_REJECTIONS = 10


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--audience", "audience_id", required=True, help="The file upload or customer match to write.")
@click.option(
    "--mode", required=True, type=click.Choice([mode.value for mode in Mode]), help="What becomes of the list."
)
@click.option("--upload-id", default="", help="A name for this upload. Default one made of file and options.")
@click.option("--delimiter", default=",", show_default=True, type=click.Choice(DELIMITERS), help="Between cells.")
@click.option("--column", "columns", multiple=True, metavar="FIELD=NAME", help="email=E-Mail, or email=2 by place.")
@click.option("--no-header", is_flag=True, help="The first row is data; columns are by place.")
@click.option("--default-region", default="", help="The country of phone numbers without a country code: US.")
@click.option("--unmatched", type=click.Path(dir_okay=False, path_type=Path), help="Write who was not found here.")
@calling
def upload(
    *,
    file: Path,
    audience_id: str,
    mode: str,
    upload_id: str,
    delimiter: str,
    columns: Sequence[str],
    no_header: bool,
    default_region: str,
    unmatched: Path | None,
    org: str,
    token: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Upload a CSV file in UTF-8, and publish the list that it makes.

    Goes to the server at AUDIENCE_LISTEN. --timeout is for each call but the upload, which takes as long as it takes.
    Exits with 1 where nothing was published. Run again with the same file and options after a break it goes on where it
    was; once it is published, it uploads the file once more, unless it has the same --upload-id.
    """
    header = pb.UploadHeader(
        audience_id=audience_id,
        mode=pb.UploadMode.Value(f"UPLOAD_MODE_{mode.upper()}"),
        delimiter=delimiter,
        has_header=not no_header,
        columns=[_column(written) for written in columns],
        default_region=default_region,
    )
    console = Console(stderr=True, highlight=False)
    with file.open("rb") as content, connected(org, token, timeout, scopes=(Scope.READ, Scope.WRITE)) as client:
        digest = _digest(content, header)
        header.upload_id = upload_id
        with _progress(console) as progress:
            task = progress.add_task(file.name, total=file.stat().st_size)
            sent = _File(content, header, digest, lambda offset: progress.update(task, completed=offset))
            done = _sent(client, sent, lambda why: progress.console.print(printable(why)))
            progress.update(task, completed=done.next_offset)
        if unmatched:
            written = _write_unmatched(client, audience_id, header.upload_id, unmatched)
            console.print(f"{counted(written, 'row')} that matched nobody: in {unmatched}")
    if as_json:
        click.echo(json.dumps(as_dict(done), ensure_ascii=False))
    else:
        _tell(Console(highlight=False), done)


class _File:
    """The file as the messages of an upload."""

    def __init__(self, content: BinaryIO, header: pb.UploadHeader, digest: str, sent: Callable[[int], None]) -> None:
        self.header = header
        self.digest = digest
        self._content = content
        self._sent = sent

    def messages(self, start: int) -> Iterator[pb.UploadMembersRequest]:
        """The messages from an offset on. What lies before is read for the checksum alone."""
        yield pb.UploadMembersRequest(header=self.header)
        self._content.seek(0)
        offset, whole = 0, 0
        while piece := self._content.read(min(_CHUNK, start - offset) if offset < start else _CHUNK):
            checksum = zlib.crc32(piece)
            whole = zlib.crc32(piece, whole)
            if offset >= start:
                yield pb.UploadMembersRequest(chunk=pb.UploadChunk(offset=offset, data=piece, crc32=checksum))
            offset += len(piece)
            self._sent(offset)
        yield pb.UploadMembersRequest(trailer=pb.UploadTrailer(size=offset, crc32=whole))


def _sent(client: Client, file: _File, say: Callable[[str], None]) -> pb.Upload:
    """The upload once it is published. Goes on where the way breaks, as long as more is taken now and then."""
    start, tries = -1, 0
    while True:
        try:
            if not file.header.upload_id:
                file.header.upload_id = _free_id(client, file)
            before, start = start, _next_offset(client, file.header)
            if start > before:
                tries = 0
            done: pb.Upload = client.custom.UploadMembers(file.messages(start), metadata=client.metadata)
            return done
        except grpc.RpcError as error:
            code = error.code()
            is_broken = code in _BROKEN or reason_of(error) in _RESENT
            if not is_broken or tries == len(_PAUSES):
                raise
            pause = _PAUSES[tries]
            tries += 1
            say(f"{code.name}; going on in {pause:g} s")
            time.sleep(pause)


def _free_id(client: Client, file: _File) -> str:
    """A name that an upload of the same file with the same options has again, until it is over.

    After that it is one for the list as it is now, since what has been done to the list meanwhile may want it again.
    """
    found = _state(client, file.header.audience_id, file.digest)
    if found is None or found.state == pb.UPLOAD_STATE_OPEN:
        return file.digest
    asked = pb.GetCustomAudienceRequest(id=file.header.audience_id)
    return f"{file.digest}-{client.call(client.custom.GetCustomAudience, asked).version}"


def _next_offset(client: Client, header: pb.UploadHeader) -> int:
    """Where the upload goes on: at 0 where there is none, at its end where it is published."""
    found = _state(client, header.audience_id, header.upload_id)
    return found.next_offset if found and found.state != pb.UPLOAD_STATE_FAILED else 0


def _state(client: Client, audience_id: str, upload_id: str) -> pb.Upload | None:
    asked = pb.GetUploadRequest(audience_id=audience_id, upload_id=upload_id)
    try:
        found: pb.Upload = client.call(client.custom.GetUpload, asked)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return None
        raise
    return found


def _write_unmatched(client: Client, audience_id: str, upload_id: str, path: Path) -> int:
    """Write one upload's rows that have matched nobody, formulas with an apostrophe in front. How many they are."""
    request = pb.StreamUnmatchedRowsRequest(audience_id=audience_id)
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for batch in client.custom.StreamUnmatchedRows(request, metadata=client.metadata):
            if batch.upload_id != upload_id:
                continue
            if not count and batch.columns:
                writer.writerow(batch.columns)
            writer.writerows(row.cells for row in batch.rows)
            count += len(batch.rows)
    return count


def _tell(console: Console, done: pb.Upload) -> None:
    console.print(f"published: {counted(done.list_size, 'contact')} on the list")
    console.print(
        f"{counted(done.row_count, 'row')}: {done.matched_row_count:,} matched, "
        f"{done.duplicate_row_count:,} duplicate, {done.unmatched_row_count:,} unmatched, "
        f"{sum(done.rejected_row_counts.values()):,} rejected; {counted(done.matched_contact_count, 'contact')} found"
    )
    for reason, count in sorted(done.rejected_row_counts.items()):
        console.print(f"  {reason} {count:,}")
    for rejection in done.rejections[:_SHOWN_REJECTIONS]:
        column = f", column {rejection.column}" if rejection.column else ""
        console.print(printable(f"  line {rejection.line}{column}: {rejection.description}"))


def _progress(console: Console) -> Progress:
    columns: tuple[Any, ...] = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)


def _column(written: str) -> pb.UploadColumn:
    field, _, name = written.partition("=")
    if not name:
        raise click.UsageError(f"--column {written}: is FIELD=NAME, or FIELD=PLACE")
    if name.isdecimal():
        return pb.UploadColumn(field=field, position=int(name))
    return pb.UploadColumn(field=field, name=name)


def _digest(content: BinaryIO, header: pb.UploadHeader) -> str:
    """A name that the same file with the same options has again."""
    digest = hashlib.sha256(header.SerializeToString(deterministic=True))
    while piece := content.read(_CHUNK):
        digest.update(piece)
    return f"sha256-{digest.hexdigest()[:32]}"
