"""`audience-service snapshots`: copies of the members of audiences, and their differences."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import click
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from audience_service.cli.audiences import SNAPSHOT, confirm_deletion, find, find_id
from audience_service.cli.client import Client, ClientOptions, client_options, connect, request_id_option
from audience_service.cli.output import (
    format_time,
    note_console,
    print_deleted,
    print_json,
    print_list,
    print_resource,
    printable,
)
from audience_service.domain.core.context import Scope
from audience_service.pb.audience.v1 import membership_service_pb2 as pb
from audience_service.pb.audience.v1.resources_pb2 import (
    CREATION_STATE_CREATING,
    CREATION_STATE_FAILED,
    CREATION_STATE_READY,
    CreationState,
)

_POLL_SECONDS = 0.5


@click.group()
def snapshots() -> None:
    """List, create, show, compare and delete snapshots."""


@snapshots.command("list")
@click.option("--audience", default="", help="Only snapshots of this audience.")
@client_options
def list_(*, audience: str, options: ClientOptions) -> None:
    """List the snapshots of the org, newest first."""
    with connect(options) as client:
        request = pb.ListSnapshotsRequest(audience_id=find_id(client, audience) if audience else "", page_size=100)
        found = list(client.items(client.membership.ListSnapshots, request, "snapshots"))
    print_list(
        options,
        found,
        lambda each: each.id,
        {
            "id": lambda each: each.id,
            "name": lambda each: each.name,
            "state": _format_state,
            "members": lambda each: each.count if each.creation_state == CREATION_STATE_READY else "",
            "created (UTC)": lambda each: format_time(each.create_time),
            "expires (UTC)": lambda each: format_time(each.expire_time),
        },
    )


@snapshots.command()
@click.argument("audiences", nargs=-1, required=True)
@click.option(
    "--exclude", multiple=True, metavar="AUDIENCE", help="Leave out the members of this audience. Repeatable."
)
@click.option("--purpose", default="", help="Leave out who must not be reached for it: email, sms, ads.")
@click.option("--name", default="", help="The name of the snapshot.")
@click.option("--days", type=click.IntRange(1, 10_000), help="How long it is kept. Default: the server's, 30 days.")
@request_id_option
@client_options
def create(
    *,
    audiences: Sequence[str],
    exclude: Sequence[str],
    purpose: str,
    name: str,
    days: int | None,
    request_id: str,
    options: ClientOptions,
) -> None:
    """Copy the current members of the union of AUDIENCES, and wait until the snapshot is ready."""
    with connect(options, Scope.READ, Scope.WRITE, request_id=request_id) as client:
        request = pb.CreateSnapshotRequest(
            audience_ids=[find_id(client, each) for each in audiences],
            exclude_audience_ids=[find_id(client, each) for each in exclude],
            purpose=purpose,
            name=name,
            request_id=request_id,
        )
        if days:
            request.time_to_live.FromTimedelta(timedelta(days=days))
        snapshot = _wait(client, client.call(client.membership.CreateSnapshot, request), options)
    _print_snapshot(snapshot, options)


@snapshots.command()
@click.argument("snapshot")
@client_options
def show(*, snapshot: str, options: ClientOptions) -> None:
    """Show a snapshot, by id or name: its count, and who was left out."""
    with connect(options) as client:
        request = pb.GetSnapshotRequest(id=find_id(client, snapshot, [SNAPSHOT]))
        found = client.call(client.membership.GetSnapshot, request)
    _print_snapshot(found, options)


@snapshots.command()
@click.argument("older")
@click.argument("newer")
@client_options
def diff(*, older: str, newer: str, options: ClientOptions) -> None:
    """Compare two snapshots: a line with + for each record that only NEWER contains, with - for only OLDER."""
    with connect(options) as client:
        request = pb.DiffSnapshotsRequest(
            from_snapshot_id=find_id(client, older, [SNAPSHOT]), to_snapshot_id=find_id(client, newer, [SNAPSHOT])
        )
        stub = client.membership
        for response in client.stream(stub.DiffSnapshots, request, lambda each: each.HasField("totals")):
            if options.as_json:
                print_json(response)
                continue
            lines = [f"+{found}" for found in response.entered_ids] + [f"-{found}" for found in response.exited_ids]
            click.echo("".join(f"{line}\n" for line in lines), nl=False)
    totals = response.totals
    note_console(quiet=options.quiet or options.as_json).print(
        f"{totals.entered_count:,} entered, {totals.exited_count:,} exited, {totals.unchanged_count:,} unchanged"
    )


@snapshots.command()
@click.argument("snapshot")
@click.option("--yes", is_flag=True, help="Do not ask.")
@client_options
def delete(*, snapshot: str, yes: bool, options: ClientOptions) -> None:
    """Delete a snapshot and its members. It cannot be brought back."""
    with connect(options, Scope.READ, Scope.WRITE) as client:
        found = find(client, snapshot, [SNAPSHOT])
        confirm_deletion(found, is_confirmed=yes)
        deleted = client.call(client.membership.DeleteSnapshot, pb.DeleteSnapshotRequest(id=found.id))
    print_deleted(options, deleted)


def _wait(client: Client, snapshot: pb.Snapshot, options: ClientOptions) -> pb.Snapshot:
    """The snapshot once it is READY, with a progress bar until then. Raises ClickException if it is FAILED."""
    columns: tuple[Any, ...] = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    console = note_console(quiet=options.quiet)
    with Progress(*columns, console=console, transient=True, disable=not console.file.isatty()) as progress:
        task = progress.add_task(snapshot.name or snapshot.id, total=100)
        while snapshot.creation_state == CREATION_STATE_CREATING:
            progress.update(task, completed=snapshot.progress)
            time.sleep(_POLL_SECONDS)
            snapshot = client.call(client.membership.GetSnapshot, pb.GetSnapshotRequest(id=snapshot.id))
    if snapshot.creation_state == CREATION_STATE_FAILED:
        raise click.ClickException(f"{snapshot.id} failed: {printable(snapshot.error)}; create another")
    return snapshot


def _print_snapshot(snapshot: pb.Snapshot, options: ClientOptions) -> None:
    print_resource(
        options,
        snapshot,
        (
            ("id", snapshot.id),
            ("name", snapshot.name),
            ("state", _format_state(snapshot)),
            ("error", snapshot.error),
            ("members", snapshot.count if snapshot.creation_state == CREATION_STATE_READY else None),
            ("datatype", snapshot.datatype),
            ("sources", ", ".join(source.audience_id for source in snapshot.sources)),
            ("purpose", snapshot.purpose),
            ("left out", ", ".join(f"{each.count:,} {each.reason}" for each in snapshot.exclusions if each.count)),
            ("read (UTC)", format_time(snapshot.read_time)),
            ("created (UTC)", format_time(snapshot.create_time)),
            ("expires (UTC)", format_time(snapshot.expire_time)),
            ("author", snapshot.author),
        ),
    )


def _format_state(snapshot: pb.Snapshot) -> str:
    return CreationState.Name(snapshot.creation_state).removeprefix("CREATION_STATE_")
