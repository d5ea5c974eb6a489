"""`audience-service insights`: what an audience consists of, drawn in the terminal, from a running server."""

import json

import click
from google.protobuf.timestamp_pb2 import Timestamp
from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from audience_service.cli.bars import printable
from audience_service.cli.client import as_dict, calling, connected
from audience_service.pb.audience.v1 import reach_service_pb2 as pb

_BAR_WIDTH, _LABEL_WIDTH = 30, 40
_POINTS = 24
_HIGH, _LOW = 120, 80


@click.command()
@click.argument("audience_id")
@click.option(
    "--dimension", "dimensions", multiple=True, help="A dimension or a path, as often as wanted; default: all."
)
@click.option("--limit", default=10, show_default=True, help="Values of a dimension that are told one by one.")
@click.option(
    "--history",
    "points",
    type=int,
    is_flag=False,
    flag_value=_POINTS,
    metavar="[POINTS]",
    help=f"The size of a watched audience over time as well, at so many points; {_POINTS} where none are given.",
)
@calling
def insights(
    *,
    audience_id: str,
    dimensions: tuple[str, ...],
    limit: int,
    points: int | None,
    org: str,
    token: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Break an audience down by dimension, beside its org.

    Asks the server at AUDIENCE_LISTEN.
    """
    wanted = None if points is None else pb.SizeHistoryQuery(points=points)
    request = pb.GetInsightsRequest(
        audience_id=audience_id, dimensions=dimensions, bucket_limit=limit, size_history=wanted
    )
    with connected(org, token, timeout) as client:
        answer = client.call(client.reach.GetInsights, request)
    if as_json:
        click.echo(json.dumps(as_dict(answer), ensure_ascii=False))
        return
    console = Console(highlight=False)
    console.print(f"{answer.count:,} members of {answer.baseline_count:,}; index 100: as in the org\n")
    if points is not None:
        _show_history(console, answer.size_history)
    for dimension in answer.dimensions:
        console.print(drawn(dimension))


def drawn(dimension: pb.DimensionInsights) -> Table:
    """A bar a bucket, as long as its share; the index in green where it is high and in red where it is low."""
    title = printable(dimension.name).append(" (members may have several)" if dimension.multi_valued else "")
    table = Table(title=title, title_justify="left", box=None, show_header=False, padding=(0, 1))
    table.add_column(max_width=_LABEL_WIDTH, no_wrap=True)
    table.add_column(width=_BAR_WIDTH)
    for _ in range(3):
        table.add_column(justify="right")
    for bucket in dimension.buckets:
        bar = Bar(size=1, begin=0, end=min(bucket.share, 1), width=_BAR_WIDTH, color="cyan")
        table.add_row(printable(bucket.value), bar, f"{bucket.count:,}", f"{bucket.share:.1%}", _index(bucket))
    if dimension.quantiles.HasField("p50"):
        of_org = dimension.baseline_quantiles
        beside = f", in the org {of_org.p50:,.12g}" if of_org.HasField("p50") else ""
        table.caption = f"median {dimension.quantiles.p50:,.12g}{beside}"
    return table


def _show_history(console: Console, history: pb.SizeHistory) -> None:
    """A bar a point, as long as its size beside the largest; who entered in green and who exited in red."""
    if not history.tracked:
        console.print("size over time: not known, since nobody watches the audience\n")
        return
    known = f"{_shown(history.earliest_time)} to {_shown(history.watermark)}"
    console.print(f"size over time, known from {known} (UTC)", soft_wrap=True, style="italic")
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(width=_BAR_WIDTH)
    for _ in range(3):
        table.add_column(justify="right")
    largest = max((point.size for point in history.points), default=0)
    for point in history.points:
        bar = Bar(size=max(largest, 1), begin=0, end=point.size, width=_BAR_WIDTH, color="cyan")
        entered, exited = Text(f"+{point.entered:,}", style="green"), Text(f"-{point.exited:,}", style="red")
        table.add_row(_shown(point.time), bar, f"{point.size:,}", entered, exited)
    console.print(table, "")


def _shown(moment: Timestamp) -> str:
    return f"{moment.ToDatetime():%Y-%m-%d %H:%M:%S}"


def _index(bucket: pb.InsightBucket) -> Text:
    if not bucket.HasField("index"):
        return Text()
    colour = "green" if bucket.index >= _HIGH else "red" if bucket.index <= _LOW else "default"
    return Text(f"{bucket.index:.0f}", style=colour)
