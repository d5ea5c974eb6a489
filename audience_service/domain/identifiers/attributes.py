"""Values that go with a person's identifiers and identify nobody: consent, and what a customer is worth."""

import re
from decimal import Decimal
from typing import Any

from bson import Decimal128

from audience_service.domain.identifiers.region_context import UNKNOWN_REGION, RegionContext
from audience_service.domain.identifiers.text import read_text

ATTRIBUTES = frozenset(("ad_user_data", "ad_personalization", "customer_value"))
"""The fields that do not count as identifiers of a record."""

_GRANTED_WORDS, _DENIED_WORDS = ("granted", "yes", "true"), ("denied", "no", "false")


def _in_all_cases(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(form for word in words for form in (word, word.capitalize(), word.upper()))


GRANTED: tuple[Any, ...] = (True, *_in_all_cases(_GRANTED_WORDS))
"""The values that grant consent."""
_DENIED: tuple[Any, ...] = (False, *_in_all_cases(_DENIED_WORDS))
_NUMBER = re.compile(r"\d{1,15}(\.\d{1,15})?", re.ASCII)
_MAX_VALUE = 10**15


def consent_status(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """GRANTED or DENIED, the names of Google Ads API's ConsentStatus."""
    if not isinstance(value, bool | str):
        return None
    return "GRANTED" if value in GRANTED else "DENIED" if value in _DENIED else None


def prefixed_consent_status(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """CONSENT_GRANTED or CONSENT_DENIED, the names of Data Manager API's ConsentStatus."""
    status = consent_status(value)
    return f"CONSENT_{status}" if status else None


def customer_value(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """A number from 0 below 10**15 in decimal digits, without zeros at the end of its fraction."""
    if isinstance(value, Decimal128):
        value = value.to_decimal()
    if isinstance(value, str):
        value = Decimal(read_text(value)) if _NUMBER.fullmatch(read_text(value)) else None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    number = Decimal(repr(value) if isinstance(value, float) else value)
    if not number.is_finite() or not 0 <= number < _MAX_VALUE:
        return None
    digits = f"{abs(number):f}"  # without the sign of a negative zero
    return digits.rstrip("0").rstrip(".") if "." in digits else digits
