"""Field paths: what a caller writes, and where it is in the record."""

from audience_service.domain.core.errors import InvalidFilter

SYSTEM_FIELDS = frozenset(
    ("pk", "sk", "name", "datatype", "version", "state", "createdate", "modifydate", "author", "owner")
)
"""The record envelope's fields that a filter may read; `owner` may be an object, and is reached by `owner.<key>`."""

_RESERVED = SYSTEM_FIELDS | {"data"}
_MAX_PATH_LENGTH, _MAX_PATH_SEGMENTS = 250, 20


def record_path(path: str, field_path: str) -> str:
    """Where `path` is in the record: system fields stay, `data.x` stays, a bare `x` means `data.x`.

    Raises InvalidFilter, naming `place`, for a path that no field can have.
    """
    head, _, rest = element_path(path, field_path).partition(".")
    if head == "data":
        if not rest:
            raise InvalidFilter.at(field_path, "names the whole payload; name a field in it, like data.email")
        return path
    if head in SYSTEM_FIELDS and (head == "owner" or not rest):
        return path
    return f"data.{path}"


def display_path(path: str) -> str:
    """How a caller would write a path in the record: without `data.`, unless what is left would mean another field."""
    bare = path.removeprefix("data.")
    return path if bare.partition(".")[0] in _RESERVED else bare


def element_path(path: str, field_path: str) -> str:
    """`path` as it stands inside an array's element ($elemMatch), where nothing is added. Raises like record_path."""
    segments = path.split(".")
    if len(path) > _MAX_PATH_LENGTH or len(segments) > _MAX_PATH_SEGMENTS:
        raise InvalidFilter.at(
            field_path, f"is a path longer than {_MAX_PATH_LENGTH} characters or {_MAX_PATH_SEGMENTS} segments"
        )
    if any(not segment or segment.startswith("$") or "\0" in segment for segment in segments):
        raise InvalidFilter.at(
            field_path,
            "is no field path: its segments are parted by single dots and start without $, like address.city",
        )
    return path
