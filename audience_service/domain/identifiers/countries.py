"""Countries by their codes and names, as people write them: "U.K.", "Côte d’Ivoire", "Deutschland"."""

import gzip
import re
from functools import cache, lru_cache
from importlib.resources import files

import phonenumbers
import pycountry

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.core.normalisation import normalise

_REGIONS = frozenset(phonenumbers.SUPPORTED_REGIONS)

_NOT_AVAILABLE = re.compile(r"n[/\\-]a|n\.\s?a\.?|#n/a", re.IGNORECASE)
_SECOND_NAME = re.compile(r"^([^()]+)\(([^()]+)\)$")
_ABBREVIATIONS = {
    "rep": "republic",
    "dem": "democratic",
    "fed": "federated",
    "is": "islands",
    "st": "saint",
    "ste": "saint",
    "n": "north",
    "s": "south",
    "gt": "great",
    "eq": "equatorial",
}

_ENGLISH_ALIASES = {
    "GB": ("UK",),
    "TR": ("Turkey",),
    "RU": ("Russia",),
    "CZ": ("Czech Republic",),
    "CI": ("Ivory Coast",),
    "SZ": ("Swaziland",),
    "MK": ("Macedonia",),
    "CV": ("Cape Verde",),
}
"""Common English names that ISO 3166 lacks, for `country_spellings`."""


@lru_cache(maxsize=1_000)
def find_country(text: str) -> str | None:
    """The country as two letters, from a code of two or three letters or a name in any language; None if unknown.

    Case, diacritics, punctuation and spaces do not count, nor does "the" at either end. Abbreviated words are completed
    ("Rep.", "St."), and inverted names are read in their natural order. Two names of one country can be together, as in
    "USA (United States)". A code has only letters, spaces and full stops, so "N/A" is not Namibia.
    """
    if _NOT_AVAILABLE.fullmatch(text.strip()):
        return None
    if found := _find(normalise(text)):
        return found
    head, separator, rest = (part.strip() for part in _SECOND_NAME.sub(r"\1,\2", text).partition(","))
    if not separator:
        return None
    countries = {_find(normalise(head)), _find(normalise(rest))}
    return _find(normalise(f"{rest} {head}")) or (countries.pop() if len(countries) == 1 else None)


def is_country_code(code: str) -> bool:
    """Whether `code` is a country's code: two letters in upper case."""
    return len(code) == 2 and pycountry.countries.get(alpha_2=code) is not None


def country_spellings(code: str) -> tuple[str, ...]:
    """The spellings of a country in records: its codes, and its English names. `code` has two letters."""
    country = pycountry.countries.lookup(code)
    names = [country.name, getattr(country, "common_name", ""), getattr(country, "official_name", "")]
    aliases = _ENGLISH_ALIASES.get(code, ())
    return tuple(dict.fromkeys(name for name in (code, code.lower(), country.alpha_3, *names, *aliases) if name))


def phone_region(country: str | None) -> str | None:
    """The country if its phone numbers can omit the country code, otherwise None."""
    return country if country in _REGIONS else None


def read_default_region(text: str, field_path: str) -> str:
    """The two letters of the country that a request names; empty for an empty text.

    Raises InvalidArgument at `field_path`.
    """
    if not text:
        return ""
    region = phone_region(find_country(text))
    if region is None:
        raise InvalidArgument.at(
            field_path, f"{text[:50]!r} is not a country with phone numbers; use two letters, such as US"
        )
    return region


def _find(name: str) -> str | None:
    known = _countries()
    words = name.removeprefix("the ").removesuffix(" the").split()
    complete = "".join(_ABBREVIATIONS.get(word, word) for word in words)
    return (known.get(complete) if len(words) > 1 else None) or known.get("".join(words))


@cache
def _countries() -> dict[str, str]:
    """The two letters of each country by its names in normalised form, without spaces.

    scripts/taxonomies builds the file from ISO 3166, CLDR and a list of aliases.
    """
    packed = (files("audience_service.domain.identifiers") / "data/countries.txt.gz").read_bytes()
    lines = (line.split("\t") for line in gzip.decompress(packed).decode().splitlines())
    return {name.removeprefix("the ").replace(" ", ""): code for name, code in lines}
