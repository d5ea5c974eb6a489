"""A table that can be pasted into docs/reference/performance.md as it is printed."""

import re


class Table:
    """Rows of cells below columns. `str` gives Markdown."""

    def __init__(self, *columns: str, title: str = "") -> None:
        self._columns = columns
        self._title = title
        self._rows: list[tuple[str, ...]] = []
        self.caption = ""

    def add_row(self, *cells: str) -> None:
        """Add a row. Cells that it lacks are empty."""
        self._rows.append(cells + ("",) * (len(self._columns) - len(cells)))

    def __str__(self) -> str:
        """The title as a paragraph, a line for each row, and the caption as a paragraph."""
        title = [f"{self._title}:", ""] if self._title else []
        caption = [f"{self.caption}.", ""] if self.caption else []
        rows = [_line(self._columns), "|---" * len(self._columns) + "|", *map(_line, self._rows), ""]
        return "\n".join([*title, *rows, *caption])


def _line(cells: tuple[str, ...]) -> str:
    """A row. Operators of MongoDB are set as code, as in the documentation's prose."""
    shown = (re.sub(r"\$\w+", r"`\g<0>`", cell.replace("|", "\\|")) for cell in cells)
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in shown)
