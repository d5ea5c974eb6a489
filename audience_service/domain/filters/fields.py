"""Field paths as callers write them, and as they are in the record."""

from audience_service.domain.core.errors import InvalidFilter

SYSTEM_FIELDS = frozenset(
    ("pk", "sk", "name", "datatype", "version", "state", "createdate", "modifydate", "author", "owner")
)
"""The record envelope's fields that a filter may read. `owner` may be an object, with fields `owner.<key>`."""

LIFECYCLE_STATES = ("draft", "new", "active", "published", "archived", "deleted")
"""The values of `state` that the platform documents."""

_RESERVED = SYSTEM_FIELDS | {"data"}
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


def display_path(path: str) -> str:
    """A path in the record as callers write it: without `data.`, unless the rest would mean another field."""
    bare = path.removeprefix("data.")
    return path if bare.partition(".")[0] in _RESERVED else bare


def element_path(path: str, field_path: str) -> str:
    """The path inside an array's element ($elemMatch), unchanged. Raises InvalidFilter as `record_path` does."""
    segments = path.split(".")
    if len(path) > _MAX_PATH_LENGTH or len(segments) > _MAX_PATH_SEGMENTS:
        raise InvalidFilter.at(
            field_path, f"is a path longer than {_MAX_PATH_LENGTH} characters or {_MAX_PATH_SEGMENTS} segments"
        )
    if any(not segment or segment.startswith("$") or "\0" in segment for segment in segments):
        raise InvalidFilter.at(
            field_path,
            "is not a field path; separate names by single dots and start none with $, like address.city",
        )
    return path
