"""Escapes cells that a spreadsheet would run as formulas."""

_FORMULA_PREFIXES = frozenset("=+-@\t\r\n＝＋－＠")
"""OWASP's list (CSV Injection), including the full-width forms, which some spreadsheets treat alike."""


def escape_formula(cell: str) -> str:
    """The cell, with an apostrophe in front if it begins like a formula; spreadsheets read it as text then.

    OWASP's rule has no exceptions: `-5` and `+14155550100` get an apostrophe too.
    """
    return f"'{cell}" if cell[:1] in _FORMULA_PREFIXES and cell else cell
