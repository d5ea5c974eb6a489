"""The fields that a collection's `$jsonSchema` states. Source: MongoDB manual, $jsonSchema."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.fields import SYSTEM_FIELDS
from audience_service.domain.schema.field_stats import MAX_DEPTH

_TYPES = {"boolean": "bool"}
"""BSON's names for the JSON types that it names differently."""
_ALTERNATIVES = ("allOf", "anyOf", "oneOf")


def schema_profiles(schema: Mapping[str, Any]) -> dict[str, FieldProfile]:
    """A profile for each field that the schema declares and a filter can name.

    It has the declared types and enum values, each with a share of 0, since no record is read.
    """
    profiles: dict[str, FieldProfile] = {}
    for path, declared in _properties((), schema):
        if path[0] not in SYSTEM_FIELDS and (path[0] != "data" or len(path) < 2):
            continue
        name = ".".join(path)
        before = profiles.get(name, FieldProfile(name, {}, 0.0))
        values = dict.fromkeys([*(value for value, _ in before.top_values), *_values(declared)], 0.0)
        types = {**before.types, **dict.fromkeys(_types(declared), 0.0)}
        profiles[name] = FieldProfile(name, types, 0.0, tuple(values.items()))
    return profiles


def _properties(path: tuple[str, ...], schema: Any) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    if not isinstance(schema, Mapping) or len(path) >= MAX_DEPTH:
        return
    for name, declared in _mapping(schema.get("properties")).items():
        if isinstance(declared, Mapping) and name and "." not in name and not name.startswith("$"):
            yield (*path, name), declared
            yield from _properties((*path, name), declared)
            yield from _properties((*path, name), declared.get("items"))
    for alternative in _alternatives(schema):
        yield from _properties(path, alternative)


def _types(declared: Mapping[str, Any]) -> list[str]:
    found = [name for key in ("bsonType", "type") for name in _listed(declared.get(key))]
    if items := _mapping(declared.get("items")):
        found += _types(items)
    return [_TYPES.get(name, name) for name in found if isinstance(name, str)]


def _values(declared: Mapping[str, Any]) -> list[Any]:
    listed = [*_listed(declared.get("enum")), *_listed(_mapping(declared.get("items")).get("enum"))]
    return [value for value in listed if isinstance(value, bool | int | float | str)]


def _alternatives(schema: Mapping[str, Any]) -> list[Any]:
    return [item for name in _ALTERNATIVES for item in _listed(schema.get(name))]


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
