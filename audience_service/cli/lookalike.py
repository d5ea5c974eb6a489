"""`audience-service lookalike`: a lookalike's model, drawn in the terminal, from a running server."""

import json

import click
from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from audience_service.cli.bars import printable
from audience_service.cli.client import as_dict, calling, connected
from audience_service.pb.audience.v1 import custom_audience_service_pb2 as pb

_BAR_WIDTH, _LABEL_WIDTH = 30, 40


@click.command()
@click.argument("audience_id")
@click.option("--limit", default=8, show_default=True, help="Values of a field that are drawn, the heaviest first.")
@calling
def lookalike(*, audience_id: str, limit: int, org: str, token: str, timeout: float, as_json: bool) -> None:
    """Open a lookalike's model, weights and curve, on the server at AUDIENCE_LISTEN."""
    with connected(org, token, timeout) as client:
        answer = client.call(client.custom.GetLookalikeModel, pb.GetLookalikeModelRequest(id=audience_id))
    if as_json:
        click.echo(json.dumps(as_dict(answer), ensure_ascii=False))
        return
    console = Console(highlight=False)
    quality = f"; AUC on {answer.held_out_count:,} held out: {answer.auc:.3f}" if answer.HasField("auc") else ""
    console.print(f"a seed of {answer.seed_count:,} beside {answer.baseline_count:,}{quality}")
    if answer.protected_fields:
        console.print(Text("left out as protected: ").append(printable(", ".join(answer.protected_fields))))
    for field in answer.fields:
        if field.damping:
            console.print(drawn_field(field, limit))
    console.print(drawn_curve(answer))


def drawn_field(field: pb.LookalikeField, limit: int) -> Table:
    """A bar a value, to the right in green where it speaks for likeness and to the left in red where against."""
    title = printable(field.path).append(f": information {field.information:.3f}, damping {field.damping:.2f}")
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


def drawn_curve(model: pb.LookalikeModel) -> Table:
    """A row a point: how similar the last one is, and how many of those held out are among them."""
    columns = ("of candidates", "count", "score", "similarity", "recall", "")
    table = Table(*columns, title="similarity by reach", title_justify="left", box=None, pad_edge=False)
    for column in table.columns[:5]:
        column.justify = "right"
    for point in model.curve:
        bar = Bar(size=1, begin=0, end=point.recall, width=_BAR_WIDTH, color="cyan")
        numbers = (f"{point.lowest_score:+.3f}", f"{point.similarity:.2f}", f"{point.recall:.1%}")
        table.add_row(f"{point.share:.0%}", f"{point.count:,}", *numbers, bar)
    return table
