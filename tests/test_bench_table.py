"""The tables that benchmarks print."""

from bench.table import Table


def test_a_table_is_markdown() -> None:
    """With the rows as in docs/reference/performance.md: operators are code, and short rows have empty cells."""
    table = Table("RPC", "compared with", "ratio", title="Medians")
    table.add_row("DiffSnapshots", "$unionWith and $group", "1.24")
    table.add_row("a|b")
    table.caption = "Resident memory: 80 MB"
    assert str(table).splitlines() == [
        "Medians:",
        "",
        "| RPC | compared with | ratio |",
        "|---|---|---|",
        "| DiffSnapshots | `$unionWith` and `$group` | 1.24 |",
        "| a\\|b | | |",
        "",
        "Resident memory: 80 MB.",
    ]
