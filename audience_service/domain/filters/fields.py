"""Field paths as callers write them, and as they are in the record."""

import json
import re
from collections.abc import Sequence

from audience_service.domain.core.errors import InvalidFilter

SYSTEM_FIELDS = frozenset(
    ("pk", "sk", "name", "datatype", "version", "state", "createdate", "modifydate", "author", "owner")
)
"""The record envelope's fields that a filter may read. `owner` may be an object, with fields `owner.<key>`."""

LIFECYCLE_STATES = ("draft", "new", "active", "published", "archived", "deleted")
"""The values of `state` that the platform documents."""

_RESERVED = SYSTEM_FIELDS | {"data"}
_SEGMENT = re.compile(r"\$[A-Za-z_][\w-]*|[^$\0][^\0]*")
"""A key that a path can name. A key with $ is part of a path after the first dot."""
_DOTTED = re.compile(r'(?P<base>[^\[]*)\[(?P<name>"(?:[^"\\]|\\.)+")\]')
"""A path that ends in a key with dots: `data["utm.source"]`."""
_MAX_PATH_LENGTH, _MAX_PATH_SEGMENTS = 250, 20


def record_path(path: str, field_path: str) -> str:
    """The path in the record: system fields and `data.x` stay as they are, a bare `x` becomes `data.x`.

    Raises InvalidFilter at `field_path` for a path that no field can have.
    """
    head, _, rest = element_path(path, field_path).partition(".")
    if head == "data":
        if not rest:
            raise InvalidFilter.at(field_path, "names the complete payload; name a field in it, like data.email")
        return path
    if head in SYSTEM_FIELDS and (head == "owner" or not rest):
        return path
    return f"data.{path}"


def plain_path(path: str, field_path: str) -> str:
    """The path in the record, as `record_path`, for features that cannot read keys with $. Raises as it does."""
    found = record_path(path, field_path)
    if ".$" in found:
        raise InvalidFilter.at(field_path, "names a key with $, which only conditions and $getField in $expr can read")
    return found


def record_steps(path: str, field_path: str) -> tuple[str, ...]:
    """The steps of a path in the record; its last one may be a key with dots. Raises as `record_path` does."""
    dotted = _DOTTED.fullmatch(path)
    if dotted is None:
        return tuple(record_path(path, field_path).split("."))
    base = dotted["base"]
    parents = ("data",) if base in ("", "data") else tuple(record_path(base, field_path).split("."))
    return (*parents, json.loads(dotted["name"]))


def display_path(path: str) -> str:
    """A path in the record as callers write it: without `data.`, unless the rest would mean another field."""
    bare = path.removeprefix("data.")
    return path if bare.partition(".")[0] in _RESERVED or bare.startswith("$") else bare


def join_steps(steps: Sequence[str]) -> str:
    """The path of a key in nested objects; a key with dots is in brackets: `data["utm.source"]`."""
    path = ""
    for step in steps:
        path += f"[{json.dumps(step, ensure_ascii=False)}]" if "." in step else f".{step}" if path else step
    return path


def element_path(path: str, field_path: str) -> str:
    """The path inside an array's element ($elemMatch), unchanged. Raises InvalidFilter as `record_path` does."""
    segments = path.split(".")
    if dotted := _DOTTED.fullmatch(path):
        raise InvalidFilter.at(
            field_path,
            "names a key with dots, which conditions cannot read and no index serves; write "
            f'{{"$expr": {{"$eq": [{{"$getField": {dotted["name"]}}}, ...]}}}}',
        )
    if len(path) > _MAX_PATH_LENGTH or len(segments) > _MAX_PATH_SEGMENTS:
        raise InvalidFilter.at(
            field_path, f"is a path longer than {_MAX_PATH_LENGTH} characters or {_MAX_PATH_SEGMENTS} segments"
        )
    if segments[0].startswith("$") or not all(map(_SEGMENT.fullmatch, segments)):
        raise InvalidFilter.at(
            field_path,
            "is not a field path; separate names by single dots, like address.city; write data.$name for a key with $",
        )
    return path
