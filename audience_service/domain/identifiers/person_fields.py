"""Normalisations of names, dates of birth and gender. Each returns None for an invalid value."""

import unicodedata
from datetime import date, datetime
from typing import Any

from audience_service.domain.identifiers.region_context import UNKNOWN_REGION, RegionContext
from audience_service.domain.identifiers.text import read_text

_KEPT_CATEGORIES = ("L", "M", "N")
"""Unicode's general categories of letters of any script, their marks, and digits."""

_MAX_NAME_LENGTH = 35
_FIRST_YEAR = 1900
_DATE_LENGTH = len("1990-05-17")
_GENDERS = {"m": "m", "male": "m", "f": "f", "female": "f"}


def bare_name(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The name in lower case and NFC, reduced to letters of any script, digits and single spaces."""
    text = read_text(value).lower()
    if not (text.isascii() and text.isalpha()):  # the common case needs no Unicode work
        spaced = "".join(c for c in _to_nfc(text) if c.isspace() or unicodedata.category(c)[0] in _KEPT_CATEGORIES)
        text = _to_nfc(" ".join(spaced.split()))
    return text if _has_letter(text) else None


def lowercase_name(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The name in lower case and NFC, with its punctuation."""
    text = _to_nfc(read_text(value).lower())
    return text if _is_name(text) else None


def plain_name(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The name in NFC, otherwise unchanged; at most 35 characters."""
    text = _to_nfc(read_text(value))
    return text if len(text) <= _MAX_NAME_LENGTH and _is_name(text) else None


def birth_year(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The year of birth, such as `1990`."""
    born = _birth_date(value)
    return f"{born.year:04}" if born else None


def birth_month(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The month of birth, such as `05`."""
    born = _birth_date(value)
    return f"{born.month:02}" if born else None


def birth_day(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The day of birth, such as `17`."""
    born = _birth_date(value)
    return f"{born.day:02}" if born else None


def gender(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """`m` or `f`."""
    return _GENDERS.get(read_text(value).lower())


def _birth_date(value: Any) -> date | None:
    """The date of a datetime, or at the start of ISO 8601 text; None before 1900 or for anything else."""
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
    """Whether the text has a letter and no control characters. `plain_name` would otherwise send them."""
    return _has_letter(text) and not any(unicodedata.category(c) == "Cc" for c in text)


def _has_letter(text: str) -> bool:
    return any(c.isalpha() for c in text)
