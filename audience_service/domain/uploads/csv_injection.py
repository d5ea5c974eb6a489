"""Cells that a spreadsheet would run as formulas."""

_FORMULA_PREFIXES = frozenset("=+-@\t\r\n＝＋－＠")
"""As OWASP lists them (CSV Injection), the full-width forms included, which some spreadsheets take for the same."""


def escape_formula(cell: str) -> str:
    """The cell with an apostrophe in front where it begins as a formula does: spreadsheets take it for text then.

    By the letter of OWASP's rule, which knows no exception: `-5` and `+14155550100` get one, too.
    """
    return f"'{cell}" if cell[:1] in _FORMULA_PREFIXES and cell else cell
