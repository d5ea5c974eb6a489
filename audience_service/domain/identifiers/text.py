"""Text in a record, as the rules for one field or another begin with it."""

from typing import Any

_MAX_LENGTH = 1_000


def read_text(value: Any) -> str:
    """The text without white space around it; empty for anything else, and for what no identifier is as long as."""
    return value.strip() if isinstance(value, str) and len(value) <= _MAX_LENGTH else ""


def read_numeral(value: Any) -> str:
    """The same, where numbers are kept as such too: whole ones, as they would be written."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**18:
        return str(value)
    return read_text(value)
