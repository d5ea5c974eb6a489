"""Bar charts of counts in a terminal."""

from collections.abc import Sequence

from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from audience_service.cli.output import printable

_BAR_WIDTH = 32


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
