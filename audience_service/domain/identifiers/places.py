"""Normalisations of countries, states and cities. Each returns None for an invalid value."""

import functools
import unicodedata
from typing import Any

import pycountry

from audience_service.domain.core.normalisation import normalise
from audience_service.domain.identifiers.countries import find_country
from audience_service.domain.identifiers.region_context import UNKNOWN_REGION, RegionContext
from audience_service.domain.identifiers.text import read_text

_LETTER_REPLACEMENTS = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}
)
"""Latin letters that Unicode does not decompose into a letter from a to z and a mark."""


def iso_country(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The country as two letters, such as `US`, from its code of two or three letters or its name in any language."""
    text = read_text(value)
    return find_country(text) if text else None


def lower_country(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The country as two letters in lower case, such as `us`."""
    code = iso_country(value)
    return code and code.lower()


def letters(value: Any, _: RegionContext = UNKNOWN_REGION) -> str | None:
    """The letters a to z of the text in lower case, without diacritics: `saopaulo` for "São Paulo"."""
    text = read_text(value).lower().translate(_LETTER_REPLACEMENTS)
    return "".join(c for c in unicodedata.normalize("NFKD", text).lower() if "a" <= c <= "z") or None


def state(value: Any, context: RegionContext = UNKNOWN_REGION) -> str | None:
    """The state as `letters` returns it; in the US, its two letters in lower case."""
    if context.country == "US":
        return _us_states().get(_compact(read_text(value)))
    return letters(value)


def _compact(name: str) -> str:
    return normalise(name).replace(" ", "")


@functools.cache
def _us_states() -> dict[str, str]:
    """The two letters of each US state in lower case, by its normalised name and code without spaces."""
    codes = {"washingtondc": "dc"}
    for division in pycountry.subdivisions:
        country, _, code = division.code.lower().partition("-")
        if country == "us":
            codes[code] = codes[_compact(division.name)] = code
    return codes
