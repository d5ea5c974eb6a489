"""Bar charts of counts in a terminal."""

from collections.abc import Iterable, Sequence

from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from audience_service.pb.audience.v1.resources_pb2 import ResultWarning

_BAR_WIDTH = 32


def printable(text: str) -> Text:
    """The text, safe to print: markup has no effect, and control characters are replaced."""
    return Text("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text))


def print_warnings(console: Console, warnings: Iterable[ResultWarning]) -> None:
    """Print why a result means little, one line for each warning."""
    for warning in warnings:
        console.print(
            Text(f"{warning.reason}: ", style="yellow").append(printable(warning.description)), soft_wrap=True
        )


def percent(part: float, total: float) -> str:
    """A share as text: `12.3 %`."""
    return f"{100 * part / total:.1f} %" if total else "0.0 %"


def bar_chart(title: str, counts: Sequence[tuple[Text, int]], total: int) -> Table:
    """A table of names and counts, each count with a bar and its share of the total."""
    table = Table("", "count", "share", "", title=printable(title), title_justify="left", box=None, pad_edge=False)
    for column in table.columns[1:3]:
        column.justify = "right"
    for name, count in counts:
        bar = Bar(size=max(total, 1), begin=0, end=min(count, total), width=_BAR_WIDTH, color="cyan")
        table.add_row(name, f"{count:,}", percent(count, total), bar)
    return table
