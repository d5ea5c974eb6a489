"""Normalisations of countries, states, cities and postal codes. Each returns None for an invalid value."""

import functools
import unicodedata
from typing import Any

import pycountry

from audience_service.domain.identifiers.region_context import UNKNOWN_REGION, RegionContext
from audience_service.domain.identifiers.text import read_numeral, read_text

_ALIASES = {
    "uk": "GB",
    "great britain": "GB",
    "russia": "RU",
    "turkey": "TR",
    "czech republic": "CZ",
    "ivory coast": "CI",
    "swaziland": "SZ",
    "macedonia": "MK",
    "cape verde": "CV",
}
"""Common names that ISO 3166 lacks."""

_LETTER_REPLACEMENTS = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}
)
"""Latin letters that Unicode does not decompose into a letter from a to z and a mark."""

_ZIP_LENGTH = 20
_US_ZIP_LENGTH = 5


def iso_country(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The country as two letters, such as `US`, from its code of two or three letters or its English name."""
    text = read_text(value)
    return _countries().get(text.casefold()) if text else None


def lower_country(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The country as two letters in lower case, such as `us`."""
    code = iso_country(value)
    return code and code.lower()


def is_country_code(code: str) -> bool:
    """Whether `code` is a country's code: two letters in upper case."""
    return len(code) == 2 and pycountry.countries.get(alpha_2=code) is not None


def country_spellings(code: str) -> tuple[str, ...]:
    """The spellings of a country in records: its codes, and its English names. `code` has two letters."""
    country = pycountry.countries.lookup(code)
    names = [country.name, getattr(country, "common_name", ""), getattr(country, "official_name", "")]
    aliases = [name.upper() if len(name) == len(code) else name.title() for name, of in _ALIASES.items() if of == code]
    return tuple(dict.fromkeys(name for name in (code, code.lower(), country.alpha_3, *names, *aliases) if name))


def compact_zip(value: Any, context: RegionContext = UNKNOWN_REGION) -> str | None:
    """The postal code in lower case without white space; in the US, its first five digits."""
    code = "".join(read_numeral(value).split()).lower()
    if context.country == "US":
        code = code[:_US_ZIP_LENGTH]
        return code if len(code) == _US_ZIP_LENGTH and code.isascii() and code.isdigit() else None
    return code if _is_zip(code) else None


def trimmed_zip(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The postal code without surrounding white space, otherwise unchanged."""
    code = read_numeral(value)
    return code if _is_zip("".join(code.split(" "))) and len(code) <= _ZIP_LENGTH else None


def letters(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The letters a to z of the text in lower case, without diacritics: `saopaulo` for "São Paulo"."""
    text = read_text(value).lower().translate(_LETTER_REPLACEMENTS)
    return "".join(c for c in unicodedata.normalize("NFKD", text).lower() if "a" <= c <= "z") or None


def state(value: Any, context: RegionContext = UNKNOWN_REGION) -> str | None:
    """The state as `letters` returns it; in the US, its two letters in lower case."""
    if context.country == "US":
        return _us_states().get(read_text(value).casefold())
    return letters(value)


def _is_zip(code: str) -> bool:
    bare = code.replace("-", "")
    return len(code) <= _ZIP_LENGTH and bare.isascii() and bare.isalnum()


@functools.cache
def _countries() -> dict[str, str]:
    """The two letters of each country, by its casefolded names and codes."""
    codes = dict(_ALIASES)
    for country in pycountry.countries:
        names = (country.name, getattr(country, "common_name", ""), getattr(country, "official_name", ""))
        for name in (country.alpha_2, country.alpha_3, *names):
            codes.setdefault(name.casefold(), country.alpha_2)
    codes.pop("", None)
    return codes


@functools.cache
def _us_states() -> dict[str, str]:
    """The two letters of each US state in lower case, by its casefolded name and code."""
    codes = {}
    for division in pycountry.subdivisions:
        country, _, code = division.code.lower().partition("-")
        if country == "us":
            codes[code] = codes[division.name.casefold()] = code
    return codes
