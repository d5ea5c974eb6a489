"""`audience-service insights`: bar charts of an audience's dimensions, from a running server."""

import click
from google.protobuf.timestamp_pb2 import Timestamp
from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from audience_service.cli.audiences import find_id
from audience_service.cli.client import MAX_INT32, ClientOptions, client_options, connect
from audience_service.cli.output import output_console, print_json, print_warnings, printable
from audience_service.pb.audience.v1 import reach_service_pb2 as pb

_BAR_WIDTH, _LABEL_WIDTH = 30, 40
_DEFAULT_POINTS = 24
_HIGH_INDEX, _LOW_INDEX = 120, 80


@click.command()
@click.argument("audience")
@click.option("--dimension", "dimensions", multiple=True, help="A dimension or a field path. Repeatable. Default: all.")
@click.option(
    "--limit",
    default=10,
    show_default=True,
    type=click.IntRange(1, MAX_INT32),
    help="The most buckets per dimension; the rest are summed up.",
)
@click.option(
    "--history",
    "points",
    type=click.IntRange(1, MAX_INT32),
    is_flag=False,
    flag_value=_DEFAULT_POINTS,
    metavar="[POINTS]",
    help=f"Also show the size of a watched audience over time, at this many points. Default: {_DEFAULT_POINTS}.",
)
@client_options
def insights(
    *, audience: str, dimensions: tuple[str, ...], limit: int, points: int | None, options: ClientOptions
) -> None:
    """Break an audience down by dimension, compared with its org."""
    size_history = None if points is None else pb.SizeHistoryQuery(point_count=points)
    with connect(options) as client:
        request = pb.GetInsightsRequest(
            audience_id=find_id(client, audience),
            dimensions=dimensions,
            max_buckets=limit,
            size_history=size_history,
        )
        response = client.call(client.reach.GetInsights, request)
    if options.as_json:
        print_json(response)
        return
    if options.quiet:
        click.echo(response.count)
        return
    console = output_console()
    console.print(
        f"{response.count:,} members, of {response.baseline_count:,} in the org; index 100: share equal to the org's\n"
    )
    print_warnings(response.warnings)
    if points is not None:
        _print_history(console, response.size_history)
    for dimension in response.dimensions:
        console.print(dimension_chart(dimension))


def dimension_chart(dimension: pb.DimensionInsights) -> Table:
    """A table with one row per bucket: a bar for its share, and the index, green if high and red if low."""
    title = printable(dimension.name).append(" (multi-valued)" if dimension.multi_valued else "")
    table = Table(title=title, title_justify="left", box=None, show_header=False, padding=(0, 1))
    table.add_column(max_width=_LABEL_WIDTH, no_wrap=True)
    table.add_column(width=_BAR_WIDTH)
    for _ in range(3):
        table.add_column(justify="right")
    for bucket in dimension.buckets:
        bar = Bar(size=1, begin=0, end=min(bucket.share, 1), width=_BAR_WIDTH, color="cyan")
        table.add_row(printable(bucket.value), bar, f"{bucket.count:,}", f"{bucket.share:.1%}", _format_index(bucket))
    if dimension.quantiles.HasField("p50"):
        baseline = dimension.baseline_quantiles
        comparison = f", in the org {baseline.p50:,.12g}" if baseline.HasField("p50") else ""
        table.caption = f"median {dimension.quantiles.p50:,.12g}{comparison}"
    return table


def _print_history(console: Console, history: pb.SizeHistory) -> None:
    """Print one row per point: a bar for the size, the contacts that entered in green, those that exited in red."""
    if not history.watched:
        console.print("size over time: unknown, since the audience is not watched; start a WatchMembership stream\n")
        return
    period = f"{_format_time(history.earliest_time)} to {_format_time(history.watermark)}"
    console.print(f"size over time, {period} (UTC)", soft_wrap=True, style="italic")
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(width=_BAR_WIDTH)
    for _ in range(3):
        table.add_column(justify="right")
    largest = max((point.size for point in history.points), default=0)
    for point in history.points:
        bar = Bar(size=max(largest, 1), begin=0, end=point.size, width=_BAR_WIDTH, color="cyan")
        entered, exited = (
            Text(f"+{point.entered_count:,}", style="green"),
            Text(f"-{point.exited_count:,}", style="red"),
        )
        table.add_row(_format_time(point.time), bar, f"{point.size:,}", entered, exited)
    console.print(table, "")


def _format_time(timestamp: Timestamp) -> str:
    return f"{timestamp.ToDatetime():%Y-%m-%d %H:%M:%S}"


def _format_index(bucket: pb.InsightBucket) -> Text:
    if not bucket.HasField("index"):
        return Text()
    colour = "green" if bucket.index >= _HIGH_INDEX else "red" if bucket.index <= _LOW_INDEX else "default"
    return Text(f"{bucket.index:.0f}", style=colour)
