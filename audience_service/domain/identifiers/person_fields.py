"""Names, dates of birth and gender."""

import unicodedata
from datetime import date, datetime
from typing import Any

from audience_service.domain.identifiers.region_context import UNKNOWN_REGION, RegionContext
from audience_service.domain.identifiers.text import read_text

_KEPT_CATEGORIES = ("L", "M", "N")
"""Letters of any script, the marks that belong to them, and digits: the general categories of Unicode."""

_MAX_NAME_LENGTH = 35
_FIRST_YEAR = 1900
_DATE_LENGTH = len("1990-05-17")
_GENDERS = {"m": "m", "male": "m", "f": "f", "female": "f"}


def bare_name(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """Lower case, letters of any script, digits and single spaces alone, composed (NFC)."""
    text = read_text(value).lower()
    if not (text.isascii() and text.isalpha()):  # as most are
        spaced = "".join(c for c in _to_nfc(text) if c.isspace() or unicodedata.category(c)[0] in _KEPT_CATEGORIES)
        text = _to_nfc(" ".join(spaced.split()))
    return text if _has_letter(text) else None


def lowercase_name(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """Lower case, composed (NFC), with what is inside."""
    text = _to_nfc(read_text(value).lower())
    return text if _is_name(text) else None


def plain_name(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """As it stands, composed (NFC), if it has no more than 35 characters."""
    text = _to_nfc(read_text(value))
    return text if len(text) <= _MAX_NAME_LENGTH and _is_name(text) else None


def birth_year(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """`1990`."""
    born = _birth_date(value)
    return f"{born.year:04}" if born else None


def birth_month(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """`05`."""
    born = _birth_date(value)
    return f"{born.month:02}" if born else None


def birth_day(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """`17`."""
    born = _birth_date(value)
    return f"{born.day:02}" if born else None


def gender(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """`m` or `f`."""
    return _GENDERS.get(read_text(value).lower())


def _birth_date(value: Any) -> date | None:
    """The day at the beginning of ISO 8601 text, or that of a date, if anyone alive could be born on it."""
    if isinstance(value, datetime):
        born = value.date()
    else:
        text = read_text(value)
        day, rest = text[:_DATE_LENGTH], text[_DATE_LENGTH:]
        if day[4:5] + day[7:8] != "--" or rest[:1] not in ("", "T", " "):
            return None
        try:
            born = date.fromisoformat(day)
        except ValueError:
            return None
    return born if born.year >= _FIRST_YEAR else None


def _to_nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _is_name(text: str) -> bool:
    """Whether it has a letter, and no control characters, which nobody's name has and a plain one would bring along."""
    return _has_letter(text) and not any(unicodedata.category(c) == "Cc" for c in text)


def _has_letter(text: str) -> bool:
    return any(c.isalpha() for c in text)
