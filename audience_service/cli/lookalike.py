"""`audience-service lookalike`: creates or refreshes a lookalike on a running server, and shows its model."""

import math
import time
from collections.abc import Sequence
from typing import Any

import click
from click.core import ParameterSource
from rich.bar import Bar
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from audience_service.cli.audiences import CUSTOM_AUDIENCE, SEGMENT, SNAPSHOT, find_id
from audience_service.cli.client import MAX_INT32, Client, ClientOptions, client_options, connect, request_id_option
from audience_service.cli.output import note_console, output_console, print_json, print_warnings, printable
from audience_service.domain.core.context import Scope
from audience_service.pb.audience.v1 import custom_audience_service_pb2 as pb
from audience_service.pb.audience.v1.resources_pb2 import CREATION_STATE_CREATING, CREATION_STATE_FAILED

_BAR_WIDTH, _LABEL_WIDTH = 30, 40
_POLL_SECONDS = 0.5


@click.command()
@click.argument("audience")
@click.option("--create", "name", default="", metavar="NAME", help="Create a lookalike of this audience first.")
@click.option("--share", type=float, help="Size of the lookalike, as a share of the org's records: 0.01.")
@click.option("--count", type=click.IntRange(1, MAX_INT32), help="Size of the lookalike, in members.")
@click.option(
    "--country",
    "countries",
    multiple=True,
    metavar="CODE",
    help="A country of the members: US. Repeatable. Default: all.",
)
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="PATH",
    help="A feature of the model. Repeatable. Default: see the documentation.",
)
@click.option(
    "--exclude-field",
    "exclude_fields",
    multiple=True,
    metavar="PATH",
    help="A field that is not a feature. Repeatable.",
)
@click.option("--include-source", is_flag=True, help="Let members of the source be members of the lookalike.")
@click.option("--refresh", is_flag=True, help="Refresh the lookalike first.")
@click.option(
    "--limit",
    default=8,
    show_default=True,
    type=click.IntRange(1),
    help="The most values to show per field, the heaviest first.",
)
@request_id_option
@client_options
def lookalike(
    *,
    audience: str,
    name: str,
    share: float | None,
    count: int | None,
    countries: Sequence[str],
    fields: Sequence[str],
    exclude_fields: Sequence[str],
    include_source: bool,
    refresh: bool,
    limit: int,
    request_id: str,
    options: ClientOptions,
) -> None:
    """Show the model of a lookalike: its weights and its curve.

    With --create, AUDIENCE is the source of the new lookalike, and --share or
    --count is its size. The server creates and refreshes lookalikes in the background, which takes minutes. The
    command waits for that, without a limit unless --timeout is given.
    """
    is_writing = bool(name or refresh)
    if name and refresh:
        raise click.UsageError("--create and --refresh are both given; give one of them")
    if (share is not None) + (count is not None) != bool(name):
        raise click.UsageError("with --create give one of --share and --count; without --create give neither")
    if not name and (SEGMENT.is_id(audience) or SNAPSHOT.is_id(audience)):
        raise click.UsageError(f"{audience} is not a lookalike; give --create to create one from it")
    is_default = click.get_current_context().get_parameter_source("timeout") is ParameterSource.DEFAULT
    wait_until = math.inf if is_default else time.monotonic() + options.timeout
    scopes = (Scope.READ, Scope.WRITE) if is_writing else (Scope.READ,)
    with connect(options, *scopes, request_id=request_id if name else "") as client:
        if name:
            spec = pb.LookalikeSpec(
                source_audience_id=find_id(client, audience),
                countries=countries,
                include_source=include_source,
                fields=fields,
                exclude_fields=exclude_fields,
            )
            if share is not None:
                spec.share = share
            if count is not None:
                spec.count = count
            draft = pb.CustomAudience(name=name, type="lookalike", lookalike=spec)
            request = pb.CreateCustomAudienceRequest(custom_audience=draft, request_id=request_id)
            found = client.call(client.custom_audiences.CreateCustomAudience, request)
        else:
            audience_id = find_id(client, audience, [CUSTOM_AUDIENCE])
            if refresh:
                refresh_request = pb.RefreshCustomAudienceRequest(id=audience_id)
                found = client.call(client.custom_audiences.RefreshCustomAudience, refresh_request)
            else:
                get_request = pb.GetCustomAudienceRequest(id=audience_id)
                found = client.call(client.custom_audiences.GetCustomAudience, get_request)
        if is_writing:
            found = _wait_until_ready(client, found, wait_until, quiet=options.quiet)
        model = client.call(client.custom_audiences.GetLookalikeModel, pb.GetLookalikeModelRequest(id=found.id))
    if options.as_json:
        print_json(model)
        return
    if options.quiet:
        click.echo(found.id)
        return
    console = output_console()
    members = f": {found.contact_count:,} members by model {model.model_version}"
    console.print(printable(f"{found.id} {found.name}").append(members))
    quality = f"; AUC on a holdout of {model.holdout_count:,}: {model.auc:.3f}" if model.HasField("auc") else ""
    console.print(f"trained on a seed of {model.seed_count:,} and a baseline of {model.baseline_count:,}{quality}")
    if model.excluded_protected_fields:
        console.print(
            Text("protected fields, not used: ").append(printable(", ".join(model.excluded_protected_fields)))
        )
    if model.source_filter_fields:
        console.print(Text("fields of the source's filter: ").append(printable(", ".join(model.source_filter_fields))))
    print_warnings(model.warnings)
    for field in model.fields:
        if field.decorrelation:
            console.print(field_chart(field, limit))
    console.print(curve_table(model))


def _wait_until_ready(
    client: Client, audience: pb.CustomAudience, wait_until: float, *, quiet: bool
) -> pb.CustomAudience:
    """The lookalike once its creation or refresh has ended. Shows a progress bar until then.

    Raises ClickException if the work failed, or has not ended at `wait_until` (monotonic seconds).
    """
    columns: tuple[Any, ...] = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    console = note_console(quiet=quiet)
    with Progress(*columns, console=console, disable=not console.file.isatty()) as progress:
        task = progress.add_task(audience.name, total=100)
        while (work := _latest_work(audience)).state == CREATION_STATE_CREATING:
            if time.monotonic() > wait_until:
                raise click.ClickException(
                    f"{audience.id} is not ready yet; the server continues its creation or refresh"
                )
            progress.update(task, completed=work.progress)
            time.sleep(_POLL_SECONDS)
            audience = client.call(
                client.custom_audiences.GetCustomAudience, pb.GetCustomAudienceRequest(id=audience.id)
            )
        progress.update(task, completed=work.progress)
    if work.state == CREATION_STATE_FAILED:
        raise click.ClickException(f"{work.error} ({audience.id})")
    return audience


def _latest_work(audience: pb.CustomAudience) -> pb.CustomAudienceRefresh:
    """The latest refresh, or the creation if there was no refresh."""
    if audience.HasField("latest_refresh"):
        return audience.latest_refresh
    return pb.CustomAudienceRefresh(state=audience.creation_state, progress=audience.progress, error=audience.error)


def field_chart(field: pb.LookalikeField, limit: int) -> Table:
    """A table with one row per value. Positive weights are green bars to the right, negative ones red to the left."""
    title = printable(field.path).append(
        f": information value {field.information_value:.3f}, decorrelation {field.decorrelation:.2f}"
    )
    title.append(", protected" if field.protected else "")
    table = Table(title=title, title_justify="left", box=None, show_header=False, padding=(0, 1))
    table.add_column(max_width=_LABEL_WIDTH, no_wrap=True)
    table.add_column(width=_BAR_WIDTH)
    table.add_column(justify="right")
    widest = max((abs(factor.weight) for factor in field.factors), default=0) or 1
    for factor in field.factors[:limit]:
        low, high = sorted((0.0, factor.weight))
        colour = "green" if factor.weight > 0 else "red"
        bar = Bar(size=2, begin=1 + low / widest, end=1 + high / widest, width=_BAR_WIDTH, color=colour)
        table.add_row(printable(factor.value), bar, f"{factor.weight:+.3f}")
    return table


def curve_table(model: pb.LookalikeModel) -> Table:
    """A table with one row per point: the lowest score and similarity, and the recall of the holdout."""
    columns = ("share", "count", "min score", "similarity", "recall", "")
    table = Table(*columns, title="similarity by reach", title_justify="left", box=None, pad_edge=False)
    for column in table.columns[:5]:
        column.justify = "right"
    for point in model.curve:
        bar = Bar(size=1, begin=0, end=point.recall, width=_BAR_WIDTH, color="cyan")
        numbers = (f"{point.min_score:+.3f}", f"{point.similarity:.2f}", f"{point.recall:.1%}")
        table.add_row(f"{point.share:.0%}", f"{point.count:,}", *numbers, bar)
    return table
