"""Reads text from values of records, as the first step of every rule."""

import unicodedata
from typing import Any

_MAX_LENGTH = 1_000
_JOINERS = frozenset("\u200c\u200d")
"""Signs that join letters or keep them apart. Some scripts need them within a word."""
_FILLERS = frozenset("\u034f\u115f\u1160\u3164\uffa0\ufe0e\ufe0f")
"""Characters without a shape that Unicode calls letters or marks."""
_WIDE = {ord("\u3000"): " "} | {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
"""The full-width forms of ASCII characters, which East Asian keyboards type."""


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


def without_invisible(text: str) -> str:
    """The text without characters that nobody sees: zero-width spaces, byte order marks, marks of direction.

    Joiners stay between two letters outside ASCII.
    """
    if text.isascii():
        return text
    kept = []
    for index, char in enumerate(text):
        if char in _JOINERS:
            if text[index - 1 : index].isascii() or text[index + 1 : index + 2].isascii():
                continue  # also at both ends, because an empty text is ASCII
        elif char in _FILLERS or unicodedata.category(char) == "Cf":
            continue
        kept.append(char)
    return "".join(kept)


def to_ascii_width(text: str) -> str:
    """The text with full-width forms as plain ASCII: `ａ＠ｂ` becomes `a@b`."""
    return text if text.isascii() else text.translate(_WIDE)
