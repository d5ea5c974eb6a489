"""`audience-service sync`: keeps the list of an ad platform equal to audiences, by hand or from a script."""

import socket
from collections.abc import Sequence
from pathlib import Path

import click

from audience_service.cli.audiences import AD_PLATFORMS, SYNC, confirm_deletion, find, find_id
from audience_service.cli.client import MAX_INT32, ClientOptions, client_options, connect, request_id_option
from audience_service.cli.files import write_csv
from audience_service.cli.output import (
    format_time,
    note_console,
    print_deleted,
    print_json,
    print_list,
    print_resource,
    print_table,
)
from audience_service.domain.core.context import Scope
from audience_service.pb.audience.v1 import sync_service_pb2 as pb
from audience_service.pb.audience.v1.membership_service_pb2 import ExportOperation

_COUNT = click.IntRange(0, MAX_INT32)


@click.group()
def sync() -> None:
    """Keep the list of an ad platform equal to audiences."""


@sync.command("list")
@click.option("--platform", default="", help="Only syncs with this platform.")
@client_options
def list_(*, platform: str, options: ClientOptions) -> None:
    """List the syncs of the org."""
    with connect(options) as client:
        request = pb.ListSyncsRequest(platform=platform, page_size=100)
        found = list(client.items(client.syncs.ListSyncs, request, "syncs"))
    print_list(
        options,
        found,
        lambda each: each.id,
        {
            "id": lambda each: each.id,
            "name": lambda each: each.name,
            "platform": lambda each: each.platform,
            "audiences": lambda each: ", ".join(each.audience_ids),
            "compared (UTC)": lambda each: format_time(each.latest_scan.end_time),
        },
    )


@sync.command()
@click.argument("name")
@click.option("--platform", required=True, help=f"The ad platform: {AD_PLATFORMS}.")
@click.option("--audience", "audiences", multiple=True, required=True, help="An audience of the list. Repeatable.")
@click.option(
    "--exclude", multiple=True, metavar="AUDIENCE", help="Leave out the members of this audience. Repeatable."
)
@click.option("--field", "fields", multiple=True, help="An identifier to send: email. Repeatable. Default: all.")
@click.option(
    "--consent", "consent_fields", multiple=True, metavar="PATH", help="A field that must be true. Repeatable."
)
@click.option("--default-region", default="", help="The country of phone numbers without a country code: US.")
@click.option("--external-id", default="", help="The platform's id of the list.")
@request_id_option
@client_options
def create(
    *,
    name: str,
    platform: str,
    audiences: Sequence[str],
    exclude: Sequence[str],
    fields: Sequence[str],
    consent_fields: Sequence[str],
    default_region: str,
    external_id: str,
    request_id: str,
    options: ClientOptions,
) -> None:
    """Create a sync for a list that is empty on the platform."""
    with connect(options, Scope.READ, Scope.WRITE, request_id=request_id) as client:
        draft = pb.Sync(
            name=name,
            platform=platform,
            audience_ids=[find_id(client, each) for each in audiences],
            exclude_audience_ids=[find_id(client, each) for each in exclude],
            fields=fields,
            consent_fields=consent_fields,
            default_region=default_region,
            external_id=external_id,
        )
        created = client.call(client.syncs.CreateSync, pb.CreateSyncRequest(sync=draft, request_id=request_id))
    _print_sync(created, options)


@sync.command()
@click.argument("sync")
@client_options
def show(*, sync: str, options: ClientOptions) -> None:
    """Show a sync, by id or name: its latest comparison, and the match rates of its batches."""
    with connect(options) as client:
        found = client.call(client.syncs.GetSync, pb.GetSyncRequest(id=find_id(client, sync, [SYNC])))
    _print_sync(found, options)


@sync.command()
@click.argument("sync")
@click.option(
    "--directory",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder for the CSV files of the batches; it is created.",
)
@click.option("--worker", default="", help="The name of this worker. Default: the name of this machine.")
@client_options
def changes(*, sync: str, directory: Path, worker: str, options: ClientOptions) -> None:
    """Write what to add to and remove from the platform's list, a CSV file for each batch.

    Send each batch to the platform, then acknowledge it. A batch that is not acknowledged is written again later.
    """
    with connect(options, Scope.READ, Scope.EXPORT) as client:
        request = pb.StreamSyncChangesRequest(
            id=find_id(client, sync, [SYNC]), worker_id=worker or f"cli {socket.gethostname()}"
        )
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.ClickException(f"{directory} cannot be created: {error.strerror}") from None
        rows: list[Sequence[str]] = []
        totals = None
        for response in client.syncs.StreamSyncChanges(request, metadata=client.metadata):
            if response.rows or response.last_in_batch:
                rows += [row.values for row in response.rows]
                if response.last_in_batch:
                    _write_batch(directory, request.id, response, rows, options)
                    rows = []
            if response.HasField("totals"):
                totals = response.totals
    if totals is None:
        raise click.ClickException("the stream ended before its last message; run the command again")
    if options.as_json:
        print_json(totals)
        return
    note_console(quiet=options.quiet).print(
        f"{totals.batch_count:,} batches written; {totals.open_batch_count:,} wait for an acknowledgement, and"
        f" {totals.blocked_count:,} rows for that of another batch"
    )


@sync.command()
@click.argument("sync")
@click.argument("batch", type=click.IntRange(1, MAX_INT32))
@click.option("--received", required=True, type=_COUNT, help="The rows that the platform received.")
@click.option("--invalid", default=0, show_default=True, type=_COUNT, help="The rows that it found invalid.")
@click.option("--matched", type=_COUNT, help="The rows that it matched, if it says so.")
@client_options
def acknowledge(
    *, sync: str, batch: int, received: int, invalid: int, matched: int | None, options: ClientOptions
) -> None:
    """Record that the platform has accepted a batch, with the counts that it returned. Safe to repeat."""
    with connect(options, Scope.READ, Scope.WRITE) as client:
        request = pb.AcknowledgeSyncBatchRequest(
            id=find_id(client, sync, [SYNC]), batch_number=batch, received_count=received, invalid_count=invalid
        )
        if matched is not None:
            request.matched_count = matched
        receipt = client.call(client.syncs.AcknowledgeSyncBatch, request)
    if options.as_json:
        print_json(receipt)
    else:
        click.echo(receipt.batch_number if options.quiet else f"acknowledged batch {receipt.batch_number}")


@sync.command()
@click.argument("sync")
@click.option("--yes", is_flag=True, help="Do not ask.")
@client_options
def delete(*, sync: str, yes: bool, options: ClientOptions) -> None:
    """Delete a sync. The platform's list stays as it is."""
    with connect(options, Scope.READ, Scope.WRITE) as client:
        found = find(client, sync, [SYNC])
        confirm_deletion(found, is_confirmed=yes)
        deleted = client.call(client.syncs.DeleteSync, pb.DeleteSyncRequest(id=found.id))
    print_deleted(options, deleted)


def _write_batch(
    directory: Path,
    sync_id: str,
    response: pb.StreamSyncChangesResponse,
    rows: Sequence[Sequence[str]],
    options: ClientOptions,
) -> None:
    operation = ExportOperation.Name(response.operation).removeprefix("EXPORT_OPERATION_").lower()
    path = directory / f"{sync_id}-batch-{response.batch_number:06d}-{operation}.csv"
    with write_csv(path) as writer:
        writer.writerow(response.columns)
        writer.writerows(rows)
    if not options.as_json:
        click.echo(
            path if options.quiet else f"batch {response.batch_number}: {len(rows):,} rows to {operation}, {path}"
        )


def _print_sync(found: pb.Sync, options: ClientOptions) -> None:
    scan = found.latest_scan
    has_printed = print_resource(
        options,
        found,
        (
            ("id", found.id),
            ("name", found.name),
            ("platform", found.platform),
            ("platform's list", found.external_id),
            ("audiences", ", ".join(found.audience_ids)),
            ("without", ", ".join(found.exclude_audience_ids)),
            ("purpose", found.purpose),
            ("rules", found.rules_version),
            ("compared (UTC)", format_time(scan.end_time)),
            ("rows then", scan.valid_count if found.HasField("latest_scan") else None),
        ),
    )
    if has_printed and found.receipts:
        print_table(
            ("batch", "operation", "rows", "received", "invalid", "matched"),
            (
                (
                    each.batch_number,
                    ExportOperation.Name(each.operation).removeprefix("EXPORT_OPERATION_").lower(),
                    each.row_count,
                    each.received_count,
                    each.invalid_count,
                    each.matched_count if each.HasField("matched_count") else "",
                )
                for each in found.receipts
            ),
        )
