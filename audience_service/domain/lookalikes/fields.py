"""The fields that likeness is told by: those by default, and those that a request names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audience_service.domain.errors import InvalidArgument, InvalidFilter
from audience_service.domain.filters.fields import record_path
from audience_service.domain.insights.dimensions import DIMENSIONS, Bands
from audience_service.domain.lookalikes.protected import is_protected, is_protected_name
from audience_service.domain.profile import is_personal

MAX_FIELDS = 20

_RECENCY = DIMENSIONS["created"].bands
_AGES = DIMENSIONS["ageBand"].bands


@dataclass(frozen=True, slots=True)
class LikenessField:
    """One field. A record's values are those at the first of `paths` that is not empty; dates are in `bands`.

    Where it is `dated` many records may have a date of their own.
    """

    path: str
    paths: tuple[str, ...]
    bands: Bands = _RECENCY
    dated: bool = True

    def is_at(self, path: str) -> bool:
        """Whether a path leads to where its values stand, into them, or to what holds them."""
        return any(f"{one}.".startswith(f"{path}.") or f"{path}.".startswith(f"{one}.") for one in self.paths)


def _text(name: str, *also: str) -> LikenessField:
    return LikenessField(f"data.{name}", (f"data.{name}", *also), dated=False)


_DEFAULT = (
    _text("country", "data.address.country"),
    _text("region", "data.address.region"),
    _text("city", "data.address.city"),
    _text("company", "data.company.name"),
    _text("jobTitle"),
    _text("leadStage"),
    _text("status"),
    _text("source"),
    _text("tags"),
    _text("groups"),
    _text("score", "data.leadScore"),
    LikenessField("data.lastEmailOpenedAt", ("data.lastEmailOpenedAt",)),
    LikenessField("data.lastEmailClickedAt", ("data.lastEmailClickedAt",)),
    LikenessField("data.createdAt", ("data.createdAt", "createdate")),
)
"""What likeness is told by where a request names nothing, those in several places as for insights."""

_KNOWN = {
    field.path: field
    for field in (
        *_DEFAULT,
        _text("sex", "data.gender"),
        LikenessField("data.birthday", ("data.birthday",), _AGES),
    )
}


def read_fields(wanted: Sequence[str], left_out: Sequence[str]) -> tuple[LikenessField, ...]:
    """The fields of a request: those that it names, or the default ones, less those left out, by any of their places.

    Raises InvalidArgument at `fields[i]` or `exclude_fields[i]`, and at `fields` where none is left.
    """
    if len(wanted) > MAX_FIELDS:
        raise InvalidArgument.at("fields", f"names {len(wanted)} fields, more than {MAX_FIELDS}")
    paths = [_path(text, f"fields[{index}]") for index, text in enumerate(wanted)]
    for index, path in enumerate(paths):
        if _is_personal(path):
            raise InvalidArgument.at(f"fields[{index}]", "is personal data, by which nobody is likened to others")
    excluded = [_path(text, f"exclude_fields[{index}]") for index, text in enumerate(left_out)]
    chosen = map(field_at, dict.fromkeys(paths)) if paths else _DEFAULT
    fields = tuple(field for field in chosen if not any(field.is_at(path) for path in excluded))
    if not fields:
        raise InvalidArgument.at("exclude_fields", "leaves out every field; leave one at least")
    return fields


def field_at(path: str) -> LikenessField:
    """The field at a path in the record."""
    return _KNOWN.get(path) or LikenessField(path, (path,))


def protected_among(paths: Iterable[str], used: Sequence[LikenessField]) -> tuple[str, ...]:
    """Those of some paths that are protected and not used, in order."""
    taken = {path for field in used for path in field.paths}
    return tuple(sorted({path for path in paths if is_protected(path) and path not in taken}))


def _is_personal(path: str) -> bool:
    """Protected fields may be named on purpose, a birthday among them; what names people inside one may not."""
    return is_personal(".".join("_" if is_protected_name(step) else step for step in path.split(".")))


def _path(text: str, place: str) -> str:
    if any(step.isdecimal() for step in text.split(".")):
        raise InvalidArgument.at(place, "names a place in a list; name the list")
    try:
        return record_path(text, place)
    except InvalidFilter as error:
        raise InvalidArgument("invalid request", violations=error.violations) from None
