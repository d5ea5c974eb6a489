"""`audience-service members`: the members of an audience as a table, or as a CSV, NDJSON or Parquet file."""

import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import click

from audience_service.cli.audiences import filter_options, find_id, select
from audience_service.cli.client import Client, ClientOptions, client_options, connect
from audience_service.cli.files import count_progress, write_file
from audience_service.cli.output import note_console, print_table
from audience_service.domain.core.context import Scope
from audience_service.domain.uploads.csv_injection import escape_formula
from audience_service.pb.audience.v1 import membership_service_pb2 as pb
from audience_service.rpc.converters.structs import decode_struct

_TABLE_ROWS = 20
_BATCH_SIZE = 1_000
_SUFFIXES = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet"}
_PARQUET_ROWS = 50_000
"""Members in a row group, and so in memory."""


@click.command()
@click.argument("audience", default="")
@filter_options
@click.option("--field", "fields", multiple=True, metavar="PATH", help="A field to show: email. Repeatable.")
@click.option(
    "--exclude", multiple=True, metavar="AUDIENCE", help="Leave out the members of this audience. Repeatable."
)
@click.option("--purpose", default="", help="Leave out who must not be reached for it: email, sms, ads.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "csv", "ndjson", "parquet"]),
    help="Default: by the name of --output; without one a table. Parquet needs the package pyarrow.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write all members to this file.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    help=f"The most members. Default: {_TABLE_ROWS} in a table, otherwise all.",
)
@click.option("--unescaped-formulas", is_flag=True, help="Write CSV cells like =1+1 without an apostrophe in front.")
@client_options
def members(
    *,
    audience: str,
    where: str,
    datatype: str,
    fields: Sequence[str],
    exclude: Sequence[str],
    purpose: str,
    format_: str | None,
    output: Path | None,
    limit: int | None,
    unescaped_formulas: bool,
    options: ClientOptions,
) -> None:
    """Show the members of an audience, or write them to a file.

    A file is complete or does not exist. A CSV cell that a spreadsheet would run as a formula gets an apostrophe in
    front. --json is --format ndjson; --quiet prints the ids.
    """
    kind = format_ or (_SUFFIXES.get(output.suffix.lower()) if output else "ndjson" if options.as_json else "table")
    if kind is None:
        raise click.UsageError(f"{output} ends with none of {', '.join(_SUFFIXES)}; give --format")
    if kind == "parquet":
        _import_pyarrow()
        if not output:
            raise click.UsageError("Parquet goes to a file; give --output")
    if kind == "table" and output:
        raise click.UsageError("a table goes to the terminal; give another --format for --output")
    request = pb.StreamMembersRequest(fields=fields, purpose=purpose)
    with connect(options, Scope.READ, *((Scope.EXPORT,) if fields else ())) as client:
        select(client, request, audience, where, datatype)
        request.exclude_audience_ids.extend(find_id(client, each) for each in exclude)
        found = _Members(client, request, limit or (_TABLE_ROWS if kind == "table" and not options.quiet else None))
        if output:
            with count_progress(f"members to {output.name}", quiet=options.quiet) as advance:
                count = _write(kind, output, advance(found), fields, unescaped_formulas)
            note_console(quiet=options.quiet).print(f"{count:,} members written to {output}", soft_wrap=True)
        elif kind == "table" and options.quiet:
            for member in found:
                click.echo(member["id"])
        elif kind == "table":
            print_table(["id", *fields], [_row(member, fields) for member in found])
        else:
            with click.open_file("-", "w", encoding="utf-8") as stdout:
                _write_text(kind, stdout, found, fields, unescaped_formulas)
    for exclusion in found.exclusions:
        note_console(quiet=options.quiet).print(f"left out: {exclusion.count:,} {exclusion.reason}")
    if found.is_cut:
        note_console(quiet=options.quiet).print(f"the first {limit or _TABLE_ROWS}; --limit or --output shows more")


class _Members:
    """The members that a request selects, each a dict of its id and fields, at most `limit` of them.

    After an iteration `exclusions` has the numbers of records that were left out, and `is_cut` says whether there are
    more members.
    """

    def __init__(self, client: Client, request: pb.StreamMembersRequest, limit: int | None) -> None:
        self._client = client
        self._request = request
        self._limit = limit
        if limit:
            request.batch_size = min(limit + 1, _BATCH_SIZE)
        self.exclusions: Sequence[pb.Exclusion] = ()
        self.is_cut = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        count = 0
        stub = self._client.membership
        for response in self._client.stream(stub.StreamMembers, self._request, lambda each: each.HasField("totals")):
            self.exclusions = response.totals.exclusions
            for member in response.members:
                if count == self._limit:
                    self.is_cut = True
                    return
                count += 1
                yield {"id": member.id, **decode_struct(member.fields)}


def _write(
    kind: str, path: Path, found: Iterable[dict[str, Any]], fields: Sequence[str], unescaped_formulas: bool
) -> int:
    """Write the members to a file, which appears when it is complete. Returns their number."""
    if kind == "parquet":
        return _write_parquet(path, found, fields)
    with write_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        return _write_text(kind, file, found, fields, unescaped_formulas)


def _write_text(
    kind: str, file: IO[str], found: Iterable[dict[str, Any]], fields: Sequence[str], unescaped_formulas: bool
) -> int:
    count = 0
    escape: Callable[[str], str] = str if unescaped_formulas else escape_formula
    writer = csv.writer(file)
    if kind == "csv":
        writer.writerow([escape(cell) for cell in ("id", *fields)])
    for member in found:
        count += 1
        if kind == "csv":
            writer.writerow([escape(cell) for cell in _row(member, fields)])
        else:
            file.write(json.dumps(member, ensure_ascii=False) + "\n")
    return count


def _row(member: dict[str, Any], fields: Sequence[str]) -> list[str]:
    """The cells of a member. Lists and objects are JSON, a missing value is empty."""
    return [_to_text(member.get(name)) for name in ("id", *fields)]


def _to_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _write_parquet(path: Path, found: Iterable[dict[str, Any]], fields: Sequence[str]) -> int:
    """Write a Parquet file whose columns are text: a type of each column would need all members first."""
    pyarrow, parquet = _import_pyarrow()
    schema = pyarrow.schema([(name, pyarrow.string()) for name in ("id", *fields)])
    count, rest = 0, iter(found)
    with write_file(path) as part, parquet.ParquetWriter(part, schema) as writer:
        while rows := list(itertools.islice(rest, _PARQUET_ROWS)):
            columns = [
                [None if (value := row.get(name)) is None else _to_text(value) for row in rows] for name in schema.names
            ]
            writer.write_table(pyarrow.table(columns, schema=schema))
            count += len(rows)
    return count


def _import_pyarrow() -> tuple[Any, Any]:
    """The modules of pyarrow. Raises ClickException if it is not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise click.ClickException("Parquet needs the package pyarrow; run: pip install pyarrow") from None
    return pyarrow, parquet
