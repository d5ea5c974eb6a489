"""`audience-service watch`: prints who enters and exits an audience, while it happens."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
from rich.text import Text

from audience_service.cli.audiences import CUSTOM_AUDIENCE, SEGMENT, SNAPSHOT, find, find_id
from audience_service.cli.client import ClientOptions, client_options, connect
from audience_service.cli.files import write_file
from audience_service.cli.output import format_time, note_console, output_console, print_json, printable
from audience_service.pb.audience.v1 import membership_service_pb2 as pb
from audience_service.pb.audience.v1.resources_pb2 import ChangeCause


@click.command()
@click.argument("audience")
@click.option("--since", default="", metavar="SNAPSHOT", help="Begin with all changes since this snapshot.")
@click.option(
    "--position",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Store the position in this file, and continue there the next time.",
)
@click.option("--events", type=click.IntRange(1), help="End after this many events. Default: never.")
@client_options
def watch(*, audience: str, since: str, position: Path | None, events: int | None, options: ClientOptions) -> None:
    """Print who enters (+) and exits (-) an audience, until Ctrl-C.

    It follows a segment or a custom audience. An interrupted connection is resumed, so that no event is lost or
    printed twice. With --position a later run continues after the last events that this one printed. --json prints an
    object for each event, --quiet only + or - and the id.
    """
    console, notes = output_console(), note_console(quiet=options.quiet)
    token = position.read_text("utf-8", "replace").strip() if position and position.exists() else ""
    if since and token:
        raise click.UsageError(f"{position} has a position already; remove the file, or leave out --since")
    count = 0
    with connect(options) as client, suppress(KeyboardInterrupt):
        found = find(client, audience, [SEGMENT, CUSTOM_AUDIENCE])
        request = pb.WatchMembershipRequest(
            audience_id=found.id,
            resume_token=token,
            since_snapshot_id=find_id(client, since, [SNAPSHOT]) if since else "",
        )
        notes.print(Text("watching ").append(printable(found.name)).append("; Ctrl-C ends it"))
        stub = client.membership
        for response in client.stream(stub.WatchMembership, request, lambda _: False, "resume_token"):
            with _defer_interrupt():  # an event that was printed is not printed by the next run
                for event in response.events:
                    if options.as_json:
                        print_json(event)
                    else:
                        console.print(_format_event(event, with_details=not options.quiet), soft_wrap=True)
                if position:
                    with write_file(position) as part:
                        part.write_text(response.resume_token + "\n", "utf-8")
            count += len(response.events)
            request.since_snapshot_id = ""  # a resumed stream continues at its token
            if events and count >= events:
                break


@contextmanager
def _defer_interrupt() -> Iterator[None]:
    """Let Ctrl-C take effect at the end of the block."""
    interrupts: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if interrupts and previous is not signal.SIG_IGN:
        raise KeyboardInterrupt


def _format_event(event: pb.MembershipEvent, *, with_details: bool) -> Text:
    has_entered = event.change == pb.CHANGE_KIND_ENTERED
    text = Text(f"{'+' if has_entered else '-'} {event.contact_id}", style="green" if has_entered else "red")
    if with_details:
        cause = ChangeCause.Name(event.cause).removeprefix("CHANGE_CAUSE_").lower()
        text.append(f"  {format_time(event.event_time)}  {cause}", style="default")
    return text
