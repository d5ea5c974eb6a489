"""Reads text from values of records, as the first step of every rule."""

from typing import Any

_MAX_LENGTH = 1_000


def read_text(value: Any) -> str:
    """The text without surrounding white space; empty for other types and for more than 1,000 characters."""
    return value.strip() if isinstance(value, str) and len(value) <= _MAX_LENGTH else ""


def read_numeral(value: Any) -> str:
    """The same as `read_text`, but also accepts integers from 0 below 10**18, as decimal digits."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**18:
        return str(value)
    return read_text(value)
