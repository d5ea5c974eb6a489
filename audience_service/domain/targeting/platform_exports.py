"""Readers of the files in which ad platforms publish their taxonomies.

The id of an entry's own node is a noun, the platform and the platform's id: `interest-meta-6003369240775`. The noun is
Meta's type of a location, because Meta's cities and regions are numbered separately. Otherwise it is `location`.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.core.normalisation import normalise


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
    taxonomy: str = "places"
    """The taxonomy that its own node belongs to."""
    node_id: str = ""
    """The id of its own node."""
    kind: str = ""
    """The kind of its own node: one of KINDS, or the platform's type in that form (`postal_code`)."""
    parent_id: str = ""
    """The id of the parent's node. If it is empty, the parent is the entry with this path."""
    path: tuple[str, ...] = ()
    """The names above it at the platform, from the top down."""
    audience_size: tuple[int, int] | None = None
    """The least and most people that the platform states for it."""
    facet: str = ""
    """The name of an option's facet."""
    facet_id: str = ""
    """The platform's id of the facet; empty if the platform does not give one."""


OPTIONS_HEAD = ("facet", "value", "name")
"""The columns of an operator's own file of options, for values that a platform publishes on a web page only."""

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
        above = canonical.split(",")[1:]
        yield PlatformEntry(
            criterion,
            name,
            kinds,
            country,
            ancestors=tuple(above[:-1]),
            code=code,
            type=f"{kind}, {status}",
            node_id=f"location-google-{criterion}",
            kind=_GOOGLE_KINDS.get(kind, (_kind_of(kind),))[0] if parent else "country",
            parent_id=f"location-google-{parent}" if parent else "",
            path=tuple(reversed(above)),
        )


_META_KINDS = {"country": ("country",), "region": ("subdivision",), "city": ("city",)}


def _meta(text: str, file: str) -> Iterator[PlatformEntry]:
    """Responses of Meta's targeting search: adgeolocation, adinterest, adlocale."""
    for location, row in _objects(_json(text, file), ("data",), file):
        if "key" in row and "type" in row:
            type_ = _text(row, "type", location)
            kinds, country = _META_KINDS.get(type_, ()), _text(row, "country_code", location, required=False)
            key = _text(row, "key", location)
            region = _text(row, "region", location, required=False)
            ancestors = (region,) if region and type_ != "region" else ()
            code = key if kinds == ("country",) else ""
            region_id = _text(row, "region_id", location, required=False) if ancestors else ""
            parent_id = f"region-meta-{region_id}" if region_id else f"country-meta-{country}" if country else ""
            country_name = _text(row, "country_name", location, required=False)
            yield PlatformEntry(
                key,
                _text(row, "name", location),
                kinds,
                country or code,
                ancestors=ancestors,
                code=code,
                type=type_,
                node_id=f"{_kind_of(type_)}-meta-{key}",
                kind=(*kinds, _kind_of(type_))[0],
                parent_id="" if type_ == "country" else parent_id,
                path=() if type_ == "country" else tuple(filter(None, (country_name, *ancestors))),
            )
        elif "key" in row:
            key, name = _text(row, "key", location), _text(row, "name", location)
            yield PlatformEntry(
                key, name, ("language",), type="locale", node_id=f"language-meta-{key}", kind="language"
            )
        else:
            path, name = row.get("path") or [], _text(row, "name", location)
            if not isinstance(path, list):
                raise InvalidArgument.at(f"{location}.path", "is not a list of names")
            path_above = tuple(str(part) for part in path if part != name)
            # Responses of adTargetingCategory have a type, because they also contain behaviours and life events.
            kind = _text(row, "type", location, required=False) or "interests"
            kinds = _INTERESTS if kind == "interests" else ()
            key = _text(row, "id", location)
            yield PlatformEntry(
                key,
                name,
                kinds,
                ancestors=path_above,
                type=kind,
                taxonomy="interests",
                node_id=f"interest-meta-{key}",
                kind=(*kinds, _kind_of(kind))[0],
                path=tuple(str(part) for part in (path[:-1] if path and path[-1] == name else path)),
                audience_size=_audience_size(row, location),
            )


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
            yield PlatformEntry(
                key,
                name,
                kinds,
                country,
                ancestors=ancestors,
                code=code,
                type=level,
                geoname_id=key,
                node_id=f"location-tiktok-{key}",
                kind=(*kinds, _kind_of(level))[0],
                parent_id=f"location-tiktok-{row.get('parent_id')}",
                path=tuple(str(up.get("name")) for up in _chain(key, "location_id", regions))[::-1],
            )
    elif isinstance(data, dict) and "interest_categories" in data:
        rows = dict(_objects(data, ("interest_categories",), file))
        parents = {str(child): row for row in rows.values() for child in row.get("sub_category_ids") or ()}
        for location, row in rows.items():
            category = _text(row, "interest_category_id", location)
            ancestors = tuple(
                str(up.get("interest_category_name")) for up in _chain(category, "interest_category_id", parents)
            )
            name = _text(row, "interest_category_name", location)
            parent_row = parents.get(category)
            yield PlatformEntry(
                category,
                name,
                _INTERESTS,
                ancestors=ancestors,
                type="interest category",
                taxonomy="interests",
                node_id=f"interest-tiktok-{category}",
                kind="interest",
                parent_id=f"interest-tiktok-{parent_row['interest_category_id']}" if parent_row else "",
                path=ancestors[::-1],
            )
    else:
        for location, row in _objects(data, ("region_info", "interest_categories", "languages"), file):
            code = _text(row, "code", location)
            yield PlatformEntry(
                code,
                _text(row, "name", location),
                ("language",),
                code=code,
                type="language",
                node_id=f"language-tiktok-{code}",
                kind="language",
            )


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
            yield PlatformEntry(
                urn,
                first,
                kinds,
                country_name=country_name,
                ancestors=tuple(rest[:-1]),
                type=facet,
                node_id=f"location-linkedin-{urn}",
                kind=kinds[0],
                path=tuple(reversed(rest)),
            )
        elif facet == "interests":
            yield PlatformEntry(
                urn,
                name,
                _INTERESTS,
                type=facet,
                taxonomy="interests",
                node_id=f"interest-linkedin-{urn}",
                kind="interest",
            )
        else:
            yield _option("linkedin", facet, urn, name, _text(row, "facetUrn", location))


def _option(platform: str, facet: str, value: str, name: str, facet_id: str = "") -> PlatformEntry:
    return PlatformEntry(
        value,
        name,
        type=facet,
        taxonomy="options",
        node_id=f"option-{platform}-{facet}-{value}",
        kind="option",
        parent_id=f"option-{platform}-{facet}",
        facet=facet,
        facet_id=facet_id,
    )


def _options(platform: str, text: str, file: str) -> Iterator[PlatformEntry]:
    """An operator's own file of options."""
    rows = _rows(text, file)
    next(rows)
    for line, row in enumerate(rows, 2):
        if len(row) != len(OPTIONS_HEAD) or not all(cell.strip() for cell in row):
            raise InvalidArgument.at(
                f"{file}, line {line}",
                f"must have the {len(OPTIONS_HEAD)} columns {','.join(OPTIONS_HEAD)}, all filled",
            )
        yield _option(platform, *(cell.strip() for cell in row))


_READERS: dict[str, Callable[[str, str], Iterator[PlatformEntry]]] = {
    "google": _google,
    "meta": _meta,
    "tiktok": _tiktok,
    "linkedin": _linkedin,
}


def read_export(platform: str, text: str, file: str) -> list[PlatformEntry]:
    """The entries of a platform's export. Raises InvalidArgument if the file is not in the platform's format."""
    if text.partition("\n")[0].strip() == ",".join(OPTIONS_HEAD):
        return list(_options(platform, text, file))
    return list(_READERS[platform](text, file))


def _kind_of(type_: str) -> str:
    """A platform's name of a type as the name of a kind: "Postal Code" is "postal_code"."""
    return normalise(type_).replace(" ", "_")


def _audience_size(row: Mapping[str, Any], location: str) -> tuple[int, int] | None:
    """The bounds that Meta states; older versions of its API state one number."""
    fields = ("audience_size_lower_bound", "audience_size_upper_bound")
    bounds = [row.get(field, row.get("audience_size")) for field in fields]
    if None in bounds:
        return None
    # Meta states -1 if it does not know.
    if not all(type(bound) is int and -1 <= bound < 2**53 for bound in bounds):
        raise InvalidArgument.at(f"{location}.{fields[0]}", "and the upper bound must be integers")
    return None if -1 in bounds else (bounds[0], bounds[1])


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
