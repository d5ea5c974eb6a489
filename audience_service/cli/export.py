"""`audience-service export`: the identifiers of members in the form that an ad platform accepts, as CSV files."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from audience_service.cli.audiences import AD_PLATFORMS, SNAPSHOT, filter_options, find_id, select
from audience_service.cli.client import Client, ClientOptions, client_options, connect
from audience_service.cli.files import count_progress, refuse_same_file, write_csv
from audience_service.cli.output import print_resource
from audience_service.domain.core.context import Scope
from audience_service.pb.audience.v1 import membership_service_pb2 as pb


@click.command()
@click.argument("audience", default="")
@filter_options
@click.option("--platform", required=True, help=f"The ad platform: {AD_PLATFORMS}.")
@click.option("--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The CSV file.")
@click.option("--field", "fields", multiple=True, help="An identifier to send: email. Repeatable. Default: all.")
@click.option(
    "--exclude", multiple=True, metavar="AUDIENCE", help="Leave out the members of this audience. Repeatable."
)
@click.option("--purpose", default="", help="What the members are used for. Default: ads.")
@click.option(
    "--consent", "consent_fields", multiple=True, metavar="PATH", help="A field that must be true. Repeatable."
)
@click.option("--default-region", default="", help="The country of phone numbers without a country code: US.")
@click.option("--since", default="", metavar="SNAPSHOT", help="Only the difference to this snapshot; needs --removals.")
@click.option("--removals", type=click.Path(dir_okay=False, path_type=Path), help="The CSV file of the rows to remove.")
@client_options
def export(
    *,
    audience: str,
    where: str,
    datatype: str,
    platform: str,
    output: Path,
    fields: Sequence[str],
    exclude: Sequence[str],
    purpose: str,
    consent_fields: Sequence[str],
    default_region: str,
    since: str,
    removals: Path | None,
    options: ClientOptions,
) -> None:
    """Write identifiers of members as an ad platform accepts them.

    They are normalised and hashed. The rows to add go to --output; --quiet prints their number. A file is complete or
    does not exist. Cells are exactly what the platform expects, so the file is for the platform, not for a spreadsheet.
    """
    if bool(since) != bool(removals):
        raise click.UsageError("give both --since and --removals, or neither")
    refuse_same_file({"--output": output, "--removals": removals})
    request = pb.ExportIdentifiersRequest(
        platform=platform,
        fields=fields,
        purpose=purpose,
        consent_fields=consent_fields,
        default_region=default_region,
    )
    files = {pb.EXPORT_OPERATION_ADD: output}
    if removals:
        files[pb.EXPORT_OPERATION_REMOVE] = removals
    with connect(options, Scope.READ, Scope.EXPORT) as client:
        select(client, request, audience, where, datatype)
        request.exclude_audience_ids.extend(find_id(client, each) for each in exclude)
        request.since_snapshot_id = find_id(client, since, [SNAPSHOT]) if since else ""
        with count_progress(f"rows for {platform}", quiet=options.quiet) as advance:
            readiness, added_count = _write(client, request, files, advance)
    _print_readiness(readiness, added_count, options)


def _write(
    client: Client, request: pb.ExportIdentifiersRequest, files: dict[Any, Path], advance: Any
) -> tuple[pb.ExportReadiness, int]:
    """Write the rows of each operation to its file. Returns the readiness, and the number of rows to add."""
    added_count = 0
    with ExitStack() as stack:
        writers = {operation: stack.enter_context(write_csv(path)) for operation, path in files.items()}
        has_header: set[Any] = set()
        readiness = pb.ExportReadiness()

        def rows() -> Iterator[tuple[Any, Any]]:
            nonlocal readiness
            stub = client.membership
            for response in client.stream(stub.ExportIdentifiers, request, lambda each: each.HasField("readiness")):
                if response.rows and response.operation not in has_header:
                    has_header.add(response.operation)
                    writers[response.operation].writerow(response.columns)
                yield from ((response.operation, row.values) for row in response.rows)
                readiness = response.readiness

        for operation, values in advance(rows()):
            writers[operation].writerow(values)
            added_count += operation == pb.EXPORT_OPERATION_ADD
    return readiness, added_count


def _print_readiness(readiness: pb.ExportReadiness, added_count: int, options: ClientOptions) -> None:
    exclusions = [f"{each.count:,} {each.reason}" for each in readiness.exclusions if each.count]
    invalid = [f"{each.count:,} {each.field}" for each in readiness.invalid]
    print_resource(
        options,
        readiness,
        (
            ("members", readiness.member_count),
            ("left out", ", ".join(exclusions)),
            ("members with a row", None if readiness.valid_count == added_count else readiness.valid_count),
            ("rows to add", added_count),
            ("rows to remove", readiness.removed_count or None),
            ("invalid values", ", ".join(invalid)),
            ("different rows", readiness.distinct_count if readiness.HasField("distinct_count") else None),
            ("platform's minimum", readiness.minimum_count or None),
        ),
        quiet_value=added_count,
    )
