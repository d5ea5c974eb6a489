"""Normalisations of phone numbers.

The package phonenumbers (libphonenumber) has the numbering plans of all countries.
"""

import re
from typing import Any

import phonenumbers
from phonenumbers import PhoneMetadata, PhoneNumber, PhoneNumberFormat

from audience_service.domain.identifiers.region_context import UNKNOWN_REGION, RegionContext
from audience_service.domain.identifiers.text import read_numeral

REGIONS = frozenset(phonenumbers.SUPPORTED_REGIONS)
"""Countries, as two letters, whose numbers can omit the country code."""

_MAX_DIGITS = 15
_MAX_CODE_LENGTH = 3


def e164(value: Any, context: RegionContext = UNKNOWN_REGION) -> str | None:
    """The number in E.164, such as `+18005550100`; None if its numbering plan has no such number."""
    text = read_numeral(value)
    if not text:
        return None
    if _is_e164(text):
        return text
    try:
        number = phonenumbers.parse(text, context.region)
    except phonenumbers.NumberParseException:
        return None
    return phonenumbers.format_number(number, PhoneNumberFormat.E164) if phonenumbers.is_valid_number(number) else None


def digits(value: Any, context: RegionContext = UNKNOWN_REGION) -> str | None:
    """The number in E.164 without the plus, such as `18005550100`."""
    number = e164(value, context)
    return number and number[1:]


def _is_e164(text: str) -> bool:
    """Whether the text is clearly a valid number in E.164. It takes half the time of parsing.

    False also if only parsing can decide: after a trunk prefix, or a zero that can be part of the number.
    """
    code, national = _split(text)
    if not code:
        return False
    region = phonenumbers.region_code_for_country_code(code)
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, region)
    prefix = metadata and metadata.national_prefix_for_parsing
    if prefix and re.match(prefix, national):
        return False
    return phonenumbers.is_valid_number(PhoneNumber(country_code=code, national_number=int(national)))


def _split(text: str) -> tuple[int, str]:
    """The country code and national number of E.164 text; (0, "") for other text, or if the number starts with 0."""
    rest = text[1:]
    if text[:1] == "+" and len(rest) <= _MAX_DIGITS and rest.isascii() and rest.isdigit():
        for length in range(1, _MAX_CODE_LENGTH + 1):
            code, national = int(rest[:length]), rest[length:]
            if code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE and national[:1] not in ("", "0"):
                return code, national
    return 0, ""
