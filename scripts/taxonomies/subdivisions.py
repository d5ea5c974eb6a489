"""Subdivisions: ISO's, with CLDR's names where both mean the same by a code, and what GeoNames calls them by."""

import collections
import gettext
import json
from collections.abc import Iterable
from difflib import SequenceMatcher

from audience_service.domain.targeting.folding import fold
from audience_service.domain.targeting.node import LOCALES

from .packages import ADMIN_CODES, PYCOUNTRY, SUBDIVISION_NAMES, read_json
from .rows import Row

_GENERIC = frozenset(
    fold(
        "province provincia region oblast oblasts county department departement prefecture governorate district state "
        "municipality voivodeship republic autonomous okrug krai kray of the city parish emirate canton kraj"
    ).split(" ")
)
"""Words that names of subdivisions are told with or without."""

_ALIKE, _UNLIKE = 0.7, 0.6
"""From which likeness on two spellings are one name, and below which they are two."""


def _bare(name: str) -> str:
    words = fold(name).split()
    return " ".join(word for word in words if word not in _GENERIC) or " ".join(words)


def list_subdivisions() -> list[Row]:
    """The subdivisions of ISO 3166-2, each with its parent."""
    listed = read_json(PYCOUNTRY, "pycountry/databases/iso3166-2.json")["3166-2"]
    localized = _subdivision_names(LOCALES, {entry["code"]: entry["name"] for entry in listed})
    translations = {locale: _translations(locale) for locale in LOCALES}
    everywhere = _subdivision_names(None, {entry["code"]: entry["name"] for entry in listed})
    rows = []
    for entry in listed:
        code, country = entry["code"], entry["code"].partition("-")[0]
        above = entry.get("parent")
        if above:
            above = f"subdivision-{above if above.startswith(f'{country}-') else f'{country}-{above}'}"
        row = Row(
            f"subdivision-{code}", entry["name"], "subdivision", "ISO 3166-2", above or f"country-{country}", country
        )
        translated = {locale: known[row.name] for locale, known in translations.items() if row.name in known}
        row.localized = translated | localized.get(code, {})
        row.by_code = _own_names(entry["name"]) | set(everywhere.get(code, {}).values())
        row.names = {code, *row.localized.values(), *row.by_code}
        rows.append(row)
    return rows


def _translations(locale: str) -> dict[str, str]:
    """What iso-codes, in pycountry, calls subdivisions in a language, by ISO's name of them."""
    folder = PYCOUNTRY.open() / "pycountry/locales" / {"zh": "zh_CN"}.get(locale, locale) / "LC_MESSAGES"
    if not (folder / "iso3166-2.mo").exists():
        return {}
    with (folder / "iso3166-2.mo").open("rb") as file:
        catalog = vars(gettext.GNUTranslations(file))["_catalog"]
    return {name: said.split(";")[0] for name, said in catalog.items() if isinstance(name, str) and name and said}


def _likeness(some: Iterable[str], others: Iterable[str]) -> float:
    """How alike the two most alike names of both are, from 0 to 1."""
    others = tuple(others)
    return max((SequenceMatcher(None, one, other).ratio() for one in some for other in others), default=0.0)


def _own_names(name: str) -> set[str]:
    """The spellings within a name of ISO 3166-2: `Illes Balears [Islas Baleares]` has two."""
    return {name, *(part.strip() for part in name.rstrip("]").split("["))}


def admin_codes(subdivisions: list[Row]) -> dict[tuple[str, str], str]:
    """(country, GeoNames' admin1 code) to the id of a subdivision, where the packages agree on its name.

    iso3166-2-db says which names a code has, and for which ISO code it takes it; these are older than today's.
    A code is linked where exactly one subdivision of the country has one of these names, or the one that is stated has
    one among others, or it has a name more alike than all others have. Cities of other codes hang on their country.
    """
    names: dict[str, dict[str, set[str]]] = collections.defaultdict(dict)
    for row in subdivisions:
        names[row.country][row.id] = {_bare(name) for name in row.by_code}
    linked: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for country, entry in read_json(ADMIN_CODES, "package/data/iso3166-2.json").items():
        for region in entry["regions"]:
            said = {_bare(name) for name in (region["name"], *region["names"].values()) if name}
            stated = f"subdivision-{country}-{region.get('iso')}"
            found = {node_id for node_id, known in names[country].items() if known & said}
            if not found and stated in names[country]:
                alike = {node_id: _likeness(said, known) for node_id, known in names[country].items()}
                found = {stated} if alike[stated] == max(alike.values()) >= _ALIKE else set()
            if region.get("admin") and found:
                linked[country, region["admin"]] |= {stated} if stated in found else found
    return {code: found.pop() for code, found in linked.items() if len(found) == 1}


def _subdivision_names(locales: Iterable[str] | None, iso: dict[str, str]) -> dict[str, dict[str, str]]:
    """CLDR's names of subdivisions: ISO 3166-2 code, then locale, then name. With None, in every locale there is.

    ISO has given old codes to other subdivisions (all of Iran's in 2020) where CLDR keeps what they meant. Such a code
    has the name that ISO gives to another one of the country, and nothing like its own: it is left out, and where a
    third of a country's codes are such, all of them.
    """
    folder = SUBDIVISION_NAMES.open() / "package/subdivisions"
    names: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for locale in sorted(path.name for path in folder.iterdir()):
        [path] = (folder / locale).glob("*.json")
        [known] = json.loads(path.read_text(encoding="utf-8")).values()
        for code, name in known["localeDisplayNames"]["subdivisions"].items():
            names[f"{code[:2]}-{code[2:]}".upper()][locale] = name
    owners: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for code, name in iso.items():
        for spelling in _own_names(name):
            owners[code[:2], _bare(spelling)].add(code)
    reused = set()
    for code, name in iso.items():
        said = {_bare(each) for each in names.get(code, {}).values()}
        elsewhere = {other for each in said for other in owners.get((code[:2], each), ())}
        if (
            elsewhere
            and code not in elsewhere
            and _likeness(said, {_bare(each) for each in _own_names(name)}) < _UNLIKE
        ):
            reused.add(code)
    often, listed = (collections.Counter(code[:2] for code in codes) for codes in (reused, iso))
    wanted = None if locales is None else set(locales)
    return {
        code: {locale: name for locale, name in known.items() if wanted is None or locale in wanted}
        for code, known in names.items()
        if code not in reused and 3 * often[code[:2]] <= listed[code[:2]]
    }
