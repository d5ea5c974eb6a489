"""`audience-service insights`: what an audience consists of, drawn in the terminal, from a running server."""

import json

import click
import grpc
from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from audience_service.cli.token import mint
from audience_service.pb.audience.v1 import reach_service_pb2 as pb
from audience_service.pb.audience.v1.reach_service_pb2_grpc import ReachServiceStub
from audience_service.settings import Settings

_BAR_WIDTH, _LABEL_WIDTH = 30, 40
_TIMEOUT_SECONDS = 120


@click.command()
@click.argument("audience_id")
@click.option("--org", required=True, help="The org that the audience is of.")
@click.option(
    "--dimension", "dimensions", multiple=True, help="A dimension or a path, as often as wanted; default: all."
)
@click.option("--limit", default=10, show_default=True, help="Values of a dimension that are told one by one.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as it came.")
def insights(*, audience_id: str, org: str, dimensions: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Ask the server at AUDIENCE_LISTEN for an audience's insights."""
    settings = Settings.load()
    metadata = (("authorization", f"Bearer {mint(settings, org=org, subject='cli')}"), ("orgid", org))
    request = pb.GetInsightsRequest(id=audience_id, dimensions=dimensions, bucket_limit=limit)
    try:
        with grpc.insecure_channel(settings.listen) as channel:
            answer = ReachServiceStub(channel).GetInsights(request, metadata=metadata, timeout=_TIMEOUT_SECONDS)
    except grpc.RpcError as error:
        raise click.ClickException(f"{error.code().name}: {error.details()}") from None
    if as_json:
        click.echo(json.dumps(MessageToDict(answer), indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    console.print(f"{answer.count:,} members of {answer.baseline_count:,}; index 100: as in the org\n")
    for dimension in answer.dimensions:
        console.print(_drawn(dimension))


def _drawn(dimension: pb.DimensionInsights) -> Table:
    """A bar a bucket, as long as its share; the index in green where it is high and in red where it is low."""
    title = _plain(dimension.name) + (" (members may have several)" if dimension.multi_valued else "")
    table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False, padding=(0, 1))
    table.add_column(max_width=_LABEL_WIDTH, no_wrap=True)
    table.add_column(width=_BAR_WIDTH)
    for _ in range(3):
        table.add_column(justify="right")
    for bucket in dimension.buckets:
        bar = "█" * round(min(bucket.share, 1) * _BAR_WIDTH) or "▏"
        table.add_row(_plain(bucket.value), bar, f"{bucket.count:,}", f"{bucket.share:.1%}", _index(bucket))
    if dimension.HasField("quantiles") and dimension.quantiles.HasField("p50"):
        table.caption = f"median {dimension.quantiles.p50:g}, in the org {dimension.baseline_quantiles.p50:g}"
    return table


def _plain(value: str) -> str:
    """A value as it can be shown: whoever stored it has no say over the terminal."""
    return escape("".join(character if character.isprintable() else " " for character in value))


def _index(bucket: pb.InsightBucket) -> str:
    if not bucket.HasField("index"):
        return ""
    colour = "green" if bucket.index >= 120 else "red" if bucket.index <= 80 else "default"
    return f"[{colour}]{bucket.index:.0f}[/]"
