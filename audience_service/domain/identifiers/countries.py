"""Countries by their codes and names, as people write them: "U.K.", "Côte d’Ivoire", "Deutschland"."""

import gzip
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.resources import files
from itertools import islice, product

import phonenumbers
import pycountry

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.core.normalisation import normalise

_REGIONS = frozenset(phonenumbers.SUPPORTED_REGIONS)

_NOT_AVAILABLE = re.compile(r"n[/\\-]a|n\.\s?a\.?|#n/a", re.IGNORECASE)
_SECOND_NAME = re.compile(r"^([^()]+)\(([^()]+)\)$|^(.+?)(?:\s[-–—]\s|/)(.+)$")
_ABBREVIATIONS = {
    "rep": ("republic",), "repub": ("republic",), "dem": ("democratic",), "fed": ("federated", "federal"),
    "is": ("islands", "island"), "isl": ("islands", "island"), "i": ("island",),
    "st": ("saint",), "ste": ("saint", "sainte"), "sts": ("states",), "soc": ("socialist",),
    "n": ("north", "northern", "new"), "s": ("south", "southern"), "e": ("east",), "w": ("west", "western"),
    "gt": ("great",), "eq": ("equatorial",), "equat": ("equatorial",), "cent": ("central",), "ctrl": ("central",),
    "utd": ("united",), "untd": ("united",), "unit": ("united",), "u": ("united",),
    "fr": ("french",), "br": ("british",), "ter": ("territory",), "terr": ("territories",),
    "herz": ("herzegovina",), "guin": ("guinea",), "jamah": ("jamahiriya",),
}  # fmt: skip
"""What an abbreviated word of a country's name can mean. The first meaning is the most frequent one."""
_FILLERS = frozenset(("the", "of", "and"))
_ISLANDS = frozenset(("islands", "island"))
_MAX_MEANINGS = 32
_SOVEREIGNS = {
    territory: state
    for state, territories in {
        "GB": "GG JE IM GI BM KY FK VG AI MS TC SH GS IO PN", "FR": "GP MQ GF RE YT PM BL MF NC PF WF TF",
        "US": "PR VI GU AS MP UM", "NL": "AW CW SX BQ", "DK": "GL FO", "NO": "SJ BV", "AU": "NF CX CC HM",
        "NZ": "CK NU TK", "CN": "HK MO", "FI": "AX",
    }.items()
    for territory in territories.split()
}  # fmt: skip
"""The state to which each territory with a code of its own belongs: "Jersey (UK)" is Jersey. Source: ISO 3166-1."""

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
    ("Rep.", "St."), and their order does not count: "Congo, Dem. Rep.". Two names of one country can be together, as in
    "USA (United States)", and so can a territory and its state: "Jersey (UK)". A code has only letters, spaces and full
    stops, so "N/A" is not Namibia.
    """
    if _NOT_AVAILABLE.fullmatch(text.strip()):
        return None
    if found := _find(normalise(text)):
        return found
    head, separator, rest = (part.strip() for part in _SECOND_NAME.sub(r"\1\3,\2\4", text).partition(","))
    if separator and (found := _find(normalise(f"{rest} {head}"))):
        return found
    first, second = (_find(normalise(head)), _find(normalise(rest))) if separator else (None, None)
    if first and second and second in (first, _SOVEREIGNS.get(first)):
        return first
    return _find_words(normalise(text))


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
    complete = "".join(_ABBREVIATIONS.get(word, (word,))[0] for word in words)
    return (known.get(complete) if len(words) > 1 else None) or known.get("".join(words))


def _find_words(name: str) -> str | None:
    """The only country with a name of these words, in any order, their abbreviations completed; None if unknown."""
    words = name.split()
    meanings = list(islice(product(*(_ABBREVIATIONS.get(word, (word,)) for word in words)), _MAX_MEANINGS))
    if len(words) < 2:
        return None
    bags = [frozenset(meaning) - _FILLERS for meaning in meanings]
    for found in ({_bags().get(bag) for bag in bags}, {_bags().get(bag - _ISLANDS) for bag in bags if bag & _ISLANDS}):
        if len(known := found - {None}) == 1:
            return known.pop()
    return None


@cache
def _countries() -> dict[str, str]:
    """The two letters of each country by its names in normalised form, without spaces."""
    return {name.removeprefix("the ").replace(" ", ""): code for name, code in _names()}


@cache
def _bags() -> dict[frozenset[str], str]:
    """The two letters of each country by the words of its names. Words that several countries share have none."""
    codes_by_bag = defaultdict[frozenset[str], set[str]](set)
    for name, code in _names():
        if " " in name:
            codes_by_bag[frozenset(name.split()) - _FILLERS].add(code)
    return {bag: codes.pop() for bag, codes in codes_by_bag.items() if len(codes) == 1}


def _names() -> Iterator[tuple[str, str]]:
    """The normalised names and codes of countries, each with two letters.

    scripts/taxonomies builds the file from ISO 3166, CLDR and a list of aliases.
    """
    packed = (files("audience_service.domain.identifiers") / "data/countries.txt.gz").read_bytes()
    for line in gzip.decompress(packed).decode().splitlines():
        name, _, code = line.partition("\t")
        yield name, code
