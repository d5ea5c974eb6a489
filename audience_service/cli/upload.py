"""`audience-service lists upload`: uploads a CSV file to a custom audience, and resumes after connection failures."""

import hashlib
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click
import grpc
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from audience_service.cli.audiences import CUSTOM_AUDIENCE, find_id
from audience_service.cli.client import MAX_INT32, Client, ClientOptions, client_options, connect, reason_of
from audience_service.cli.files import refuse_same_file, write_csv
from audience_service.cli.output import note_console, output_console, print_json, printable
from audience_service.domain.core.context import Scope
from audience_service.domain.filters.describe.values import format_count
from audience_service.domain.identifiers.readings import CHANGES
from audience_service.domain.uploads.columns import describe_delimiter
from audience_service.domain.uploads.csv_injection import escape_formula
from audience_service.domain.uploads.model import DELIMITERS, UploadMode
from audience_service.pb.audience.v1 import custom_audience_service_pb2 as pb

_CHUNK_SIZE = 256 * 1024
_RETRY_DELAYS = (0.5, 1, 2, 4, 8, 15, 30)
"""Seconds to wait before each retry. Progress between retries starts the list again."""
_RETRYABLE_CODES = frozenset(
    (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,  # the server's deadline of streams, AUDIENCE_STREAM_TIMEOUT_SECONDS
        grpc.StatusCode.CANCELLED,  # the server cancels a client that was idle for too long
        grpc.StatusCode.OUT_OF_RANGE,
    )
)
"""Status codes after which the upload is resumed."""
_RETRYABLE_REASONS = frozenset(("STALE_VERSION", "CHECKSUM_MISMATCH"))
"""Reasons with status ABORTED after which the upload is resumed."""
_MAX_SHOWN_REJECTIONS = 10
_DELIMITERS = {"auto": "", "comma": ",", "semicolon": ";", "pipe": "|", "tab": "\t", "\\t": "\t"}
"""Names of delimiters, which are easier to type in a shell."""


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--audience", required=True, help="The custom audience (file_upload or customer_match), by id or name.")
@click.option(
    "--mode",
    required=True,
    type=click.Choice([mode.value for mode in UploadMode]),
    help="The effect on the member list.",
)
@click.option("--upload-id", default="", help="The id of this upload. Default: a digest of the file and options.")
@click.option(
    "--delimiter",
    default="auto",
    show_default=True,
    type=click.Choice((*_DELIMITERS, *DELIMITERS)),
    help="The separator of cells. By default the file decides it.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="FIELD=NAME",
    help="email=E-Mail by name, or email=2 by position. Repeatable, also for one field.",
)
@click.option("--no-header", is_flag=True, help="The first row is data; give columns by position.")
@click.option("--default-region", default="", help="The country of phone numbers without a country code: US.")
@click.option(
    "--phones-have-country-code", is_flag=True, help="Phone numbers without a plus begin with their country code."
)
@click.option("--force", is_flag=True, help="Let a replacement empty the list, or shrink it by more than allowed.")
@click.option(
    "--unmatched", type=click.Path(dir_okay=False, path_type=Path), help="Write the unmatched rows to this CSV file."
)
@click.option(
    "--rejected", type=click.Path(dir_okay=False, path_type=Path), help="Write the rejected rows' lines to this file."
)
@client_options
def upload(
    *,
    file: Path,
    audience: str,
    mode: str,
    upload_id: str,
    delimiter: str,
    columns: Sequence[str],
    no_header: bool,
    default_region: str,
    phones_have_country_code: bool,
    force: bool,
    unmatched: Path | None,
    rejected: Path | None,
    options: ClientOptions,
) -> None:
    """Upload a CSV file in UTF-8, and publish its list.

    --timeout does not apply to the upload itself, which has no limit. Exits with
    1 if the upload was not published, or the rows could not be written to a file. Run the command again with the same
    file and options to resume it. After it is published, the same command uploads the file again, unless --upload-id
    names the same upload.
    """
    header = pb.UploadHeader(
        mode=pb.UploadMode.Value(f"UPLOAD_MODE_{mode.upper()}"),
        delimiter=_DELIMITERS.get(delimiter, delimiter),
        has_header=not no_header,
        columns=[_parse_column(option) for option in columns],
        default_region=default_region,
        phones_have_country_code=phones_have_country_code,
        force=force,
    )
    if not file.is_file():
        raise click.UsageError(f"{file} is not a file, and an upload reads it several times; write it to a file first")
    refuse_same_file({"FILE": file, "--unmatched": unmatched, "--rejected": rejected})
    console = note_console(quiet=options.quiet)
    scopes = (Scope.READ, Scope.WRITE, *((Scope.EXPORT,) if unmatched else ()))
    with file.open("rb") as content, connect(options, *scopes) as client:
        header.audience_id = find_id(client, audience, [CUSTOM_AUDIENCE])
        digest = _compute_digest(content, header)
        header.upload_id = upload_id
        try:
            with _progress_bar(console) as progress:
                task = progress.add_task(file.name, total=file.stat().st_size)
                source = _UploadFile(content, header, digest, lambda offset: progress.update(task, completed=offset))
                result = _upload_with_retries(
                    client, source, lambda message: progress.console.print(printable(message))
                )
                progress.update(task, completed=result.next_offset)
        except grpc.RpcError:
            if rejected and header.upload_id:
                try:
                    _write_rejected(client, header, rejected, console)
                except (grpc.RpcError, click.ClickException) as error:  # the first error matters more
                    reason = error.message if isinstance(error, click.ClickException) else "the server sends none"
                    note_console().print(f"no rejected rows are written: {reason}", markup=False, soft_wrap=True)
            raise
        if options.as_json:
            print_json(result)
        elif options.quiet:
            click.echo(result.list_size)
        else:
            _print_summary(output_console(), result)
        if rejected:
            _write_rejected(client, header, rejected, console)
        if unmatched:
            _write_unmatched(client, header, unmatched, console)


class _UploadFile:
    """A file as the messages of an upload."""

    def __init__(
        self, content: BinaryIO, header: pb.UploadHeader, digest: str, report_progress: Callable[[int], None]
    ) -> None:
        self.header = header
        self.digest = digest
        self._content = content
        self._report_progress = report_progress

    def messages(self, start: int) -> Iterator[pb.UploadMembersRequest]:
        """The messages from an offset on. Earlier bytes are read only for the checksum."""
        yield pb.UploadMembersRequest(header=self.header)
        self._content.seek(0)
        offset, file_crc = 0, 0
        while data := self._content.read(min(_CHUNK_SIZE, start - offset) if offset < start else _CHUNK_SIZE):
            checksum = zlib.crc32(data)
            file_crc = zlib.crc32(data, file_crc)
            if offset >= start:
                yield pb.UploadMembersRequest(chunk=pb.UploadChunk(offset=offset, data=data, crc32=checksum))
            offset += len(data)
            self._report_progress(offset)
        yield pb.UploadMembersRequest(trailer=pb.UploadTrailer(size_bytes=offset, crc32=file_crc))


def _upload_with_retries(client: Client, file: _UploadFile, report: Callable[[str], None]) -> pb.Upload:
    """The published upload. Resumes after connection failures.

    Raises grpc.RpcError after as many retries as `_RETRY_DELAYS` has, if none of them made progress.
    """
    start, attempts = -1, 0
    while True:
        try:
            if not file.header.upload_id:
                file.header.upload_id = _unused_upload_id(client, file)
            previous_start, start = start, _next_offset(client, file.header)
            if start > previous_start:
                attempts = 0
            result: pb.Upload = client.custom_audiences.UploadMembers(file.messages(start), metadata=client.metadata)
            return result
        except grpc.RpcError as error:
            code = error.code()
            is_retryable = code in _RETRYABLE_CODES or reason_of(error) in _RETRYABLE_REASONS
            if not is_retryable or attempts == len(_RETRY_DELAYS):
                raise
            delay = _RETRY_DELAYS[attempts]
            attempts += 1
            report(f"{code.name}; resuming in {delay:g} s")
            time.sleep(delay)


def _unused_upload_id(client: Client, file: _UploadFile) -> str:
    """The upload id: the digest of file and options, so that the same command resumes an open upload.

    If that upload has ended, the audience's version is added. The list may have changed since, so the file is
    uploaded again.
    """
    found = _get_upload(client, file.header.audience_id, file.digest)
    if found is None or found.state == pb.UPLOAD_STATE_OPEN:
        return file.digest
    request = pb.GetCustomAudienceRequest(id=file.header.audience_id)
    return f"{file.digest}-{client.call(client.custom_audiences.GetCustomAudience, request).version}"


def _next_offset(client: Client, header: pb.UploadHeader) -> int:
    """The offset at which the upload resumes: 0 if it is new or has failed, its end if it is published."""
    found = _get_upload(client, header.audience_id, header.upload_id)
    return found.next_offset if found and found.state != pb.UPLOAD_STATE_FAILED else 0


def _get_upload(client: Client, audience_id: str, upload_id: str) -> pb.Upload | None:
    request = pb.GetUploadRequest(audience_id=audience_id, upload_id=upload_id)
    try:
        found: pb.Upload = client.call(client.custom_audiences.GetUpload, request)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return None
        raise
    return found


def _write_unmatched(client: Client, header: pb.UploadHeader, path: Path, console: Console) -> None:
    """Write the unmatched rows of one upload, with an apostrophe before formulas."""
    request = pb.StreamUnmatchedRowsRequest(audience_id=header.audience_id)
    count = 0
    with write_csv(path) as writer:
        stream = client.custom_audiences.StreamUnmatchedRows
        for batch in client.stream(stream, request, lambda each: each.HasField("total_row_count")):
            if batch.upload_id != header.upload_id:
                continue
            if not count and batch.columns:
                writer.writerow(batch.columns)
            writer.writerows(row.cells for row in batch.rows)
            count += len(batch.rows)
    console.print(f"{format_count(count, 'unmatched row')} written to {path}", markup=False, soft_wrap=True)


def _write_rejected(client: Client, header: pb.UploadHeader, path: Path, console: Console) -> None:
    """Write the line, column, reason and description of each rejected row of an upload."""
    request = pb.ListRejectedRowsRequest(audience_id=header.audience_id, upload_id=header.upload_id)
    count = 0
    with write_csv(path) as writer:
        writer.writerow(("line", "column", "reason", "description"))
        for each in client.items(client.custom_audiences.ListRejectedRows, request, "rejections"):
            writer.writerow((each.line, escape_formula(each.column), each.reason, each.description))
            count += 1
    console.print(f"{format_count(count, 'rejected row')} written to {path}", markup=False, soft_wrap=True)


def _print_summary(console: Console, upload: pb.Upload) -> None:
    console.print(f"published: {format_count(upload.list_size, 'contact')} on the list")
    console.print(
        f"{format_count(upload.row_count, 'row')}: {upload.matched_row_count:,} matched, "
        f"{upload.duplicate_row_count:,} duplicate, {upload.unmatched_row_count:,} unmatched, "
        f"{sum(upload.rejected_row_counts.values()):,} rejected; "
        f"{format_count(upload.matched_contact_count, 'contact')} found"
    )
    if upload.delimiter and upload.delimiter != ",":
        console.print(f"cells are separated by {describe_delimiter(upload.delimiter)}")
    for change, count in sorted(upload.changed_row_counts.items()):
        console.print(f"  {format_count(count, 'row')} cleaned: {CHANGES[change]}", markup=False)
    for reason, count in sorted(upload.rejected_row_counts.items()):
        console.print(f"  {reason} {count:,}")
    for rejection in upload.rejections[:_MAX_SHOWN_REJECTIONS]:
        column = f", column {rejection.column}" if rejection.column else ""
        console.print(printable(f"  line {rejection.line}{column}: {rejection.description}"))


def _progress_bar(console: Console) -> Progress:
    columns: tuple[Any, ...] = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.file.isatty())


def _parse_column(option: str) -> pb.UploadColumn:
    field, _, name = option.partition("=")
    if not name:
        raise click.UsageError(f"--column {option}: has no column; write FIELD=NAME or FIELD=POSITION")
    if name.isdecimal():
        if not 1 <= int(name) <= MAX_INT32:
            raise click.UsageError(f"--column {option}: the position of the first column is 1")
        return pb.UploadColumn(field=field, position=int(name))
    return pb.UploadColumn(field=field, name=name)


def _compute_digest(content: BinaryIO, header: pb.UploadHeader) -> str:
    """A digest of the file's content and the upload's options."""
    digest = hashlib.sha256(header.SerializeToString(deterministic=True))
    while chunk := content.read(_CHUNK_SIZE):
        digest.update(chunk)
    return f"sha256-{digest.hexdigest()[:32]}"
