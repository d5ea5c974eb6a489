"""Readers of the files in which ad platforms publish their taxonomies."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from audience_service.domain.core.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class PlatformEntry:
    """An entry of a platform's export: one id, and its name and position."""

    platform_id: str
    name: str
    kinds: tuple[str, ...] = ()
    """The kinds of node that it can match, the likeliest first; empty if it can match none."""
    country: str = ""
    """The ISO 3166-1 code of its country; empty if the platform does not give one."""
    country_name: str = ""
    ancestors: tuple[str, ...] = ()
    """The names of its ancestors at the platform, without the country, in any order."""
    code: str = ""
    """The ISO code of an entry that is a country or language; empty if the platform does not give one."""
    type: str = ""
    """The platform's name of its type."""
    geoname_id: str = ""
    """GeoNames' id, if the platform uses those ids. It decides between nodes of the same name."""


_INTERESTS = ("interest",)

_GOOGLE_HEAD = ("Criteria ID", "Name", "Canonical Name", "Parent ID", "Country Code", "Target Type", "Status")
_GOOGLE_KINDS = {
    "Country": ("country",),
    "City": ("city",),
    "Municipality": ("subdivision", "city"),
    **dict.fromkeys(
        (
            "Autonomous Community", "Canton", "County", "Department", "Governorate", "Prefecture", "Province", "Region",
            "State", "Territory", "Union Territory",
        ),
        ("subdivision",),
    ),
}  # fmt: skip


def _google(text: str, file: str) -> Iterator[PlatformEntry]:
    """Google's geo targets, geotargets-<date>.csv. A canonical name is comma-separated, with the country last."""
    rows = _rows(text, file)
    if tuple(next(rows, ())) != _GOOGLE_HEAD:
        raise InvalidArgument.at(
            file, f"does not start with Google's columns; the first line must be {','.join(_GOOGLE_HEAD)}"
        )
    for line, row in enumerate(rows, 2):
        if len(row) != len(_GOOGLE_HEAD):
            raise InvalidArgument.at(
                f"{file}, line {line}", f"has {len(row)} columns; it must have {len(_GOOGLE_HEAD)}"
            )
        criterion, name, canonical, parent, country, kind, status = row
        # Google calls some countries Region, such as the British Virgin Islands. Without a parent, it is a country.
        kinds = _GOOGLE_KINDS["Country"] if not parent else _GOOGLE_KINDS.get(kind, ())
        kinds = kinds if status == "Active" else ()
        code = country if kinds == ("country",) else ""
        ancestors = tuple(canonical.split(",")[1:-1])
        yield PlatformEntry(criterion, name, kinds, country, ancestors=ancestors, code=code, type=f"{kind}, {status}")


_META_KINDS = {"country": ("country",), "region": ("subdivision",), "city": ("city",)}


def _meta(text: str, file: str) -> Iterator[PlatformEntry]:
    """Responses of Meta's targeting search: adgeolocation, adinterest, adlocale."""
    for location, row in _objects(_json(text, file), ("data",), file):
        if "key" in row and "type" in row:
            kinds, country = _META_KINDS.get(row["type"], ()), _text(row, "country_code", location, required=False)
            key = _text(row, "key", location)
            region = _text(row, "region", location, required=False)
            ancestors = (region,) if region and row["type"] != "region" else ()
            code = key if kinds == ("country",) else ""
            yield PlatformEntry(
                key,
                _text(row, "name", location),
                kinds,
                country or code,
                ancestors=ancestors,
                code=code,
                type=row["type"],
            )
        elif "key" in row:
            yield PlatformEntry(_text(row, "key", location), _text(row, "name", location), ("language",), type="locale")
        else:
            path, name = row.get("path") or [], _text(row, "name", location)
            path_above = tuple(str(part) for part in path if part != name)
            # Responses of adTargetingCategory have a type, because they also contain behaviours and life events.
            kind = _text(row, "type", location, required=False) or "interests"
            kinds = _INTERESTS if kind == "interests" else ()
            yield PlatformEntry(_text(row, "id", location), name, kinds, ancestors=path_above, type=kind)


_TIKTOK_KINDS = {"COUNTRY": ("country",), "PROVINCE": ("subdivision",), "CITY": ("city",)}


def _tiktok(text: str, file: str) -> Iterator[PlatformEntry]:
    """Responses of TikTok's /tool/region/, /tool/interest_category/ and /tool/language/."""
    data = _json(text, file)
    data = data.get("data") if isinstance(data, dict) else None
    if isinstance(data, dict) and "region_info" in data:
        rows = dict(_objects(data, ("region_info",), file))
        by_id = {_text(row, "location_id", location): row for location, row in rows.items()}
        regions = {key: by_id[parent] for key, row in by_id.items() if (parent := str(row.get("parent_id"))) in by_id}
        for location, row in rows.items():
            level, country = str(row.get("level")), _text(row, "region_code", location)
            kinds, code = _TIKTOK_KINDS.get(level, ()), country if level == "COUNTRY" else ""
            key, name = _text(row, "location_id", location), _text(row, "name", location)
            chain = _chain(key, "location_id", regions)
            ancestors = tuple(str(up.get("name")) for up in chain if up.get("level") != "COUNTRY")
            if key not in regions and kinds == ("city",):
                ancestors = (
                    _text(row, "parent_id", location),
                )  # The file lacks the parent region, so the id replaces its name.
            yield PlatformEntry(key, name, kinds, country, ancestors=ancestors, code=code, type=level, geoname_id=key)
    elif isinstance(data, dict) and "interest_categories" in data:
        rows = dict(_objects(data, ("interest_categories",), file))
        parents = {str(child): row for row in rows.values() for child in row.get("sub_category_ids") or ()}
        for location, row in rows.items():
            category = _text(row, "interest_category_id", location)
            ancestors = tuple(
                str(up.get("interest_category_name")) for up in _chain(category, "interest_category_id", parents)
            )
            name = _text(row, "interest_category_name", location)
            yield PlatformEntry(category, name, _INTERESTS, ancestors=ancestors, type="interest category")
    else:
        for location, row in _objects(data, ("region_info", "interest_categories", "languages"), file):
            code = _text(row, "code", location)
            yield PlatformEntry(code, _text(row, "name", location), ("language",), code=code, type="language")


def _chain(key: str, id_field: str, parents: Mapping[str, Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The ancestors of a row, from its parent up. A cycle ends the chain."""
    seen = {key}
    while (row := parents.get(key)) and (key := str(row.get(id_field))) not in seen:
        seen.add(key)
        yield row


def _linkedin(text: str, file: str) -> Iterator[PlatformEntry]:
    """Responses of LinkedIn's adTargetingEntities. A location has only a name: `Munich, Bavaria, Germany`."""
    for location, row in _objects(_json(text, file), ("elements",), file):
        urn, name, facet = (_text(row, field, location) for field in ("urn", "name", "facetUrn"))
        facet = facet.rpartition(":")[2]
        if facet in ("locations", "profileLocations"):
            first, *rest = (part.strip() for part in name.split(","))
            # "Germany", "Bavaria, Germany", "Munich, Bavaria, Germany": a name inside a region is a city.
            kinds = (("country",), ("subdivision", "city"), ("city",))[min(len(rest), 2)]
            country_name = rest[-1] if rest else first
            yield PlatformEntry(urn, first, kinds, country_name=country_name, ancestors=tuple(rest[:-1]), type=facet)
        else:
            yield PlatformEntry(urn, name, _INTERESTS if facet == "interests" else (), type=facet)


_READERS: dict[str, Callable[[str, str], Iterator[PlatformEntry]]] = {
    "google": _google,
    "meta": _meta,
    "tiktok": _tiktok,
    "linkedin": _linkedin,
}


def read_export(platform: str, text: str, file: str) -> list[PlatformEntry]:
    """The entries of a platform's export. Raises InvalidArgument if the file is not in the platform's format."""
    return list(_READERS[platform](text, file))


def _rows(text: str, file: str) -> Iterator[list[str]]:
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        yield from rows
    except csv.Error as error:
        raise InvalidArgument.at(f"{file}, line {rows.line_num}", f"is not valid CSV: {error}") from None


def _json(text: str, file: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument.at(file, f"is not valid JSON: {error}") from None


def _objects(data: Any, names: tuple[str, ...], file: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of the list under one of these names, each with its location in the file."""
    for name in names:
        if isinstance(data, dict) and isinstance(data.get(name), list):
            for number, row in enumerate(data[name]):
                if not isinstance(row, dict):
                    raise InvalidArgument.at(f"{file}, {name}[{number}]", "is not a JSON object")
                yield f"{file}, {name}[{number}]", row
            return
    raise InvalidArgument.at(file, f"has no list {' or '.join(names)}; give a complete response of the platform")


def _text(row: Mapping[str, Any], name: str, location: str, *, required: bool = True) -> str:
    value = row.get(name)
    if value is None and not required:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise InvalidArgument.at(f"{location}.{name}", "is missing, or neither a non-empty string nor an integer")
    return str(value)
