"""Escapes cells that a spreadsheet would run as formulas, or a terminal as commands."""

import re

_FORMULA_PREFIXES = frozenset("=+-@\t\r\n＝＋－＠")
"""OWASP's list (CSV Injection), including the full-width forms, which some spreadsheets treat alike."""


def escape_formula(cell: str) -> str:
    """The cell, with an apostrophe in front if it begins like a formula; spreadsheets read it as text then.

    OWASP's rule has no exceptions: `-5` and `+14155550100` get an apostrophe too.
    """
    return f"'{cell}" if cell[:1] in _FORMULA_PREFIXES and cell else cell


_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def escape_controls(cell: str) -> str:
    """The cell with U+FFFD in place of control characters, except tabs and line ends."""
    return cell if cell.isprintable() else _CONTROLS.sub("\ufffd", cell)
