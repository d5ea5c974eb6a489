"""Postal codes: readings that restore lost zeros, and the normalisations of platforms."""

import re
from typing import Any

from audience_service.domain.core.punctuation import DASHES
from audience_service.domain.identifiers.readings import Reading, unwrap
from audience_service.domain.identifiers.region_context import UNKNOWN_REGION, RegionContext
from audience_service.domain.identifiers.text import read_numeral

_MAX_LENGTH = 20
_US_LENGTH = 5
_US_EXTENDED_LENGTH = 9
_US_MIN = 501
"""The lowest ZIP code is 00501."""
_US_POST = frozenset(("US", "PR", "VI", "GU", "AS", "MP"))
"""Countries with ZIP codes of the US."""

_LENGTHS = {
    **dict.fromkeys(("NO", "DK", "AU", "NZ", "ZA", "GE", "AM", "PH"), 4),
    **dict.fromkeys(("DE", "FR", "ES", "IT", "FI", "EE", "MX", "MY", "TR", "KR", "DZ", "LT", "UA", "PE"), 5),
    **dict.fromkeys(("GT", "LK", "MM", "PL", "SK", "KE", "LA"), 5),
    **dict.fromkeys(("CN", "RO", "SG", "KZ", "CO", "EC"), 6),
    "JP": 7,
    "BR": 8,
}
"""Countries whose postal codes have only digits, always as many, and begin with 0 in some regions."""
_TWO_ZEROS = frozenset(("NO", "ZA", "AM", "LK", "JP", "IT", "FI", "PL", "KE"))
"""Countries in which some postal codes begin with two zeros: 00184 in Rome, 00-950 in Warsaw."""
_DIVIDED = {"BR": ((5, 3), "-"), "JP": ((3, 4), "-"), "PL": ((2, 3), "-"), "SK": ((3, 2), " ")}
"""The lengths of the two parts of a postal code, and what people write between them: `060-0001`, `040 01`."""
_THOUSANDS = re.compile(r"(\d{1,2})\.(\d{3}-\d{3})", re.ASCII)
"""A Brazilian code with a full stop: `01.310-100`."""

_COUNTRY_PREFIX = re.compile(r"([A-Za-z]{1,2}|〒)[\s-]*(?=\d{1,5}(?:[\s-]\d|$))")
"""A country's letters before its postal code: `D-01067`, `SE-111 22`, `CH 8001`."""
_PREFIXES = {
    **{code: (letter, code) for letter, code in (("D", "DE"), ("A", "AT"), ("B", "BE"), ("F", "FR"), ("I", "IT"))},
    **{code: (code[0], code) for code in ("ES", "HU", "LU", "NO", "PT", "SE")},
    **dict.fromkeys(("AR", "CA", "GB", "IE", "LT", "LV", "MD", "PR", "US"), ()),
    "JP": ("〒",),
}
"""The letters that countries use, if not only their code. In some countries, letters are part of the code itself."""

_DASHES = re.compile(f"[{re.escape(DASHES)}]")
_DECIMAL = re.compile(r"(\d{3,8})[.,]0+")


def read_postal_codes(value: Any, context: RegionContext = UNKNOWN_REGION) -> list[Reading]:
    """The reading of a postal code. A code that a spreadsheet stored as a number gets its zeros back.

    US ZIP codes have five digits, so `2134` is 02134. Countries with codes of other lengths are left alone.
    """
    text, changes = unwrap(read_numeral(value))
    if decimal := _DECIMAL.fullmatch(text):
        text = decimal[1]
        changes.append("decimal_zeros")
    prefix = _COUNTRY_PREFIX.match(text)
    if prefix and prefix[1].upper() in _PREFIXES.get(context.country or "", (context.country,)):
        text = text[prefix.end() :]
        changes.append("uri_prefix")
    if context.country == "BR" and (thousands := _THOUSANDS.fullmatch(text)):
        text = f"{thousands[1]}{thousands[2]}"
        changes.append("punctuation")
    restored = _restore_zeros(text, context.country)
    if restored != text:
        changes.append("leading_zeros")
    return [Reading(restored, tuple(changes))]


def compact(value: Any, context: RegionContext = UNKNOWN_REGION) -> str | None:
    """The postal code in lower case without white space; in the US, its first five digits."""
    code = "".join(read_numeral(value).split()).lower()
    if context.country in _US_POST:
        code = code[:_US_LENGTH]
        return code if len(code) == _US_LENGTH and code.isascii() and code.isdigit() else None
    return code if _is_postal_code(code) else None


def without_dashes(value: Any, context: RegionContext = UNKNOWN_REGION) -> str | None:
    """The same as `compact`, without dashes as well: `1500002` for "150-0002"."""
    code = compact(value, context)
    return code and _DASHES.sub("", code)


def before_dash(value: Any, context: RegionContext = UNKNOWN_REGION) -> str | None:
    """The same as `compact`, up to the first dash: `150` for "150-0002"."""
    code = compact(value, context)
    return (code and _DASHES.split(code)[0]) or None


def trimmed(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The postal code without surrounding white space, otherwise unchanged."""
    code = read_numeral(value)
    return code if _is_postal_code("".join(code.split(" "))) and len(code) <= _MAX_LENGTH else None


def _restore_zeros(text: str, country: str | None) -> str:
    if not text.isascii() or not text[:1].isdigit():
        return text
    if country in _US_POST:
        head, dash, extension = text.partition("-")
        if not dash and head.isdigit() and _US_EXTENDED_LENGTH - 2 <= len(head) < _US_EXTENDED_LENGTH:
            padded = head.zfill(_US_EXTENDED_LENGTH)
            return f"{padded[:_US_LENGTH]}-{padded[_US_LENGTH:]}"
        is_short = head.isdigit() and _US_LENGTH - 2 <= len(head) < _US_LENGTH and int(head) >= _US_MIN
        return f"{head.zfill(_US_LENGTH)}{dash}{extension}" if is_short else text
    length = _LENGTHS.get(country or "", 0)
    most = 2 if country in _TWO_ZEROS else 1
    if country in _DIVIDED:
        (first, second), divider = _DIVIDED[country]
        head, found, rest = _DASHES.sub("-", text).partition(divider)
        is_complete = rest.isdigit() and len(rest) == second and head.isdigit()
        if found and is_complete and first - most <= len(head) < first:
            return f"{head.zfill(first)}{divider}{rest}"
    return text.zfill(length) if text.isdigit() and length - most <= len(text) < length else text


def _is_postal_code(code: str) -> bool:
    bare = _DASHES.sub("", code)
    return len(code) <= _MAX_LENGTH and bare.isascii() and bare.isalnum()
