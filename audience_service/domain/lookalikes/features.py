"""The features of a model: the default fields, and those that a request names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audience_service.domain.core.errors import InvalidArgument, InvalidFilter
from audience_service.domain.filters.fields import plain_path
from audience_service.domain.insights.dimensions import DIMENSIONS, Bands
from audience_service.domain.lookalikes.protected_fields import is_protected, is_protected_name
from audience_service.domain.schema.sample_masking import is_personal

MAX_FIELDS = 20

_RECENCY_BINS = DIMENSIONS["created"].bands
_AGE_BINS = DIMENSIONS["ageBand"].bands


@dataclass(frozen=True, slots=True)
class Feature:
    """One field. A record's values are those at the first of `paths` that is not empty. Dates are in `bins`.

    `is_date` is true if the values may be dates, so that many records have a distinct value.
    """

    path: str
    paths: tuple[str, ...]
    bins: Bands = _RECENCY_BINS
    is_date: bool = True

    def covers(self, path: str) -> bool:
        """Whether `path` is one of the feature's paths, a parent of one, or a path inside one."""
        return any(f"{one}.".startswith(f"{path}.") or f"{path}.".startswith(f"{one}.") for one in self.paths)


def _text_feature(name: str, *also: str) -> Feature:
    return Feature(f"data.{name}", (f"data.{name}", *also), is_date=False)


_DEFAULT_FEATURES = (
    _text_feature("country", "data.address.country"),
    _text_feature("region", "data.address.region"),
    _text_feature("city", "data.address.city"),
    _text_feature("company", "data.company.name"),
    _text_feature("jobTitle"),
    _text_feature("leadStage"),
    _text_feature("status"),
    _text_feature("source"),
    _text_feature("tags"),
    _text_feature("groups"),
    _text_feature("score", "data.leadScore"),
    Feature("data.lastEmailOpenedAt", ("data.lastEmailOpenedAt",)),
    Feature("data.lastEmailClickedAt", ("data.lastEmailClickedAt",)),
    Feature("data.createdAt", ("data.createdAt", "createdate")),
)
"""The features of a request without `fields`. A field with more than one path has the same paths in insights."""

_KNOWN_FEATURES = {
    field.path: field
    for field in (
        *_DEFAULT_FEATURES,
        _text_feature("sex", "data.gender"),
        Feature("data.birthday", ("data.birthday",), _AGE_BINS),
    )
}


def parse_features(requested: Sequence[str], exclusions: Sequence[str]) -> tuple[Feature, ...]:
    """The features of a request: the named or default ones, without those that have an excluded path.

    Raises InvalidArgument at `fields`, `fields[i]` or `exclude_fields[i]`; at `exclude_fields` if no feature is left.
    """
    if len(requested) > MAX_FIELDS:
        raise InvalidArgument.at("fields", f"names {len(requested)} fields; name at most {MAX_FIELDS}")
    paths = [_path(text, f"fields[{index}]") for index, text in enumerate(requested)]
    for index, path in enumerate(paths):
        if _is_personal(path):
            raise InvalidArgument.at(
                f"fields[{index}]", "is personal data, which lookalikes must not use; name another field"
            )
    excluded_paths = [_path(text, f"exclude_fields[{index}]") for index, text in enumerate(exclusions)]
    candidates = map(feature_at, dict.fromkeys(paths)) if paths else _DEFAULT_FEATURES
    fields = tuple(field for field in candidates if not any(field.covers(path) for path in excluded_paths))
    if not fields:
        raise InvalidArgument.at("exclude_fields", "leaves out every field; keep at least one")
    return fields


def feature_at(path: str) -> Feature:
    """The feature at a path in the record."""
    return _KNOWN_FEATURES.get(path) or Feature(path, (path,))


def unused_protected_paths(paths: Iterable[str], used: Sequence[Feature]) -> tuple[str, ...]:
    """The protected paths that no feature of `used` reads, sorted."""
    used_paths = {path for field in used for path in field.paths}
    return tuple(sorted({path for path in paths if is_protected(path) and path not in used_paths}))


def _is_personal(path: str) -> bool:
    """Whether a path is personal data. Protected fields such as a birthday are allowed, but no names inside one."""
    return is_personal(".".join("_" if is_protected_name(step) else step for step in path.split(".")))


def _path(text: str, field_path: str) -> str:
    if any(step.isdecimal() for step in text.split(".")):
        raise InvalidArgument.at(field_path, "has an index into a list; name the list instead")
    try:
        return plain_path(text, field_path)
    except InvalidFilter as error:
        raise InvalidArgument("invalid request", violations=error.violations) from None
