"""Statistics of the fields in a sample of records: paths, types, fill rates and frequent values.

Values of fields that are not known to be harmless are shown only if they repeat: a value that many records share
identifies no person. Names, contact details, keys, dates and long texts are never shown.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from typing import Any

from bson import Binary, Code, DatetimeMS, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp

from audience_service.domain.filters.dates import is_comparable, read_instant
from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.fields import SYSTEM_FIELDS, join_steps
from audience_service.domain.filters.near_dates import is_other_date
from audience_service.domain.schema.sample_masking import MASKS, VISIBLE_FIELDS

MAX_DEPTH = 8
"""The most names in a path. Deeper paths are omitted and counted."""
_MAX_TOP_VALUES, _MAX_VALUE_LENGTH = 10, 100
_MIN_REPEATS, _MIN_REPEATS_UNKNOWN = 2, 5
"""The fewest records with a value before it is shown: in fields known to be harmless, and in all others."""

_PERSONAL = frozenset(
    (
        *MASKS, "pk", "sk", "name", "fullName", "middleName", "street", "street1", "street2", "zip", "postalCode",
        "postcode", "mobile", "ip", "ipAddress",
    )
)  # fmt: skip
"""Names of fields whose values are never shown, at any depth."""

# Code comes before text, of which it is a subclass.
_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "bool"), (Code, "javascript"), (str, "string"), (Int64, "long"), (float, "double"), (datetime, "date"),
    (DatetimeMS, "date"),
    (Mapping, "object"), (list, "array"), (ObjectId, "objectId"), (Decimal128, "decimal"), (Regex, "regex"),
    (Timestamp, "timestamp"), (Binary, "binData"), (bytes, "binData"),
    (DBRef, "object"), (MinKey, "minKey"), (MaxKey, "maxKey"),
)  # fmt: skip

_NUMBER = re.compile(r"\s*[-+]?\d+(?:[.,]\d+)*\s*%?", re.ASCII)
"""Text that spells a number, also with separators."""
_YEARLESS_DAY = re.compile(r"--\d\d-\d\d", re.ASCII)

Path = tuple[str, ...]


@dataclass(slots=True)
class _PathStats:
    """The values at one path. Every count is a number of records."""

    types: Counter[str] = field(default_factory=Counter)
    filled_count: int = 0
    date_texts: int = 0
    unmatched_dates: int = 0
    timed_dates: int = 0
    number_texts: int = 0
    other_texts: int = 0
    yearless_days: int = 0
    other_dates: int = 0
    date_shapes: Counter[str] = field(default_factory=Counter)
    empty_values: int = 0
    values: Counter[tuple[str, Any]] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class FieldStats:
    """The profiles of fields by their paths in the record, and the number of paths omitted as too deep."""

    profiles: Mapping[str, FieldProfile]
    too_deep_count: int


def collect(records: Sequence[Mapping[str, Any]]) -> FieldStats:
    """The fields of the records that a filter can name, those inside objects and lists of objects included."""
    stats_by_path: dict[Path, _PathStats] = {}
    too_deep: set[Path] = set()
    for record in records:
        found: dict[Path, list[Any]] = {}
        for path, value in _fields(record):
            if len(path) > MAX_DEPTH:
                too_deep.add(path)
            else:
                found.setdefault(path, []).append(value)
        for path, values in found.items():
            _add_values(stats_by_path.setdefault(path, _PathStats()), values)
    profiles = {join_steps(path): _build_profile(path, stats, len(records)) for path, stats in stats_by_path.items()}
    return FieldStats(profiles, len(too_deep))


def type_name(value: Any) -> str:
    """The BSON type of a value that the driver returned, as $type names it."""
    if value is None:
        return "null"
    if type(value) is int:
        return "int" if -(2**31) <= value < 2**31 else "long"
    return next((name for kind, name in _TYPES if isinstance(value, kind)), "unknown")


def _fields(record: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    for name, value in record.items():
        if name == "data" and isinstance(value, Mapping):
            yield from _inside((name,), value)
        elif name == "owner":
            yield from _at((name,), value)
        elif name in SYSTEM_FIELDS:
            yield (name,), value


def _inside(path: Path, value: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    for name, item in value.items():
        if name:
            yield from _at((*path, name), item)


def _at(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    yield path, value
    if len(path) > MAX_DEPTH:
        return
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, Mapping):
            yield from _inside(path, item)


def _add_values(stats: _PathStats, values: Sequence[Any]) -> None:
    """Add one record's values at a path. A path through a list has one value for each element."""
    single = [item for value in values for item in (value if isinstance(value, list) else [value])]
    listed = ["array"] if any(isinstance(value, list) for value in values) else []
    stats.types.update({*listed, *map(type_name, single)})
    stats.filled_count += any(item is not None for item in single)
    stats.empty_values += all(item is None or (type(item) is str and not item.strip()) for item in single)
    texts = [item for item in single if type(item) is str]  # not Code, which is a subclass
    instants = {text: instant for text in texts if (instant := read_instant(text))}
    stats.date_texts += bool(instants)
    stats.unmatched_dates += any(not is_comparable(text) for text in instants)
    stats.timed_dates += any(not instant.is_midnight for instant in instants.values()) or any(
        isinstance(item, datetime) and item.time() != time.min for item in single
    )
    stats.number_texts += any(_NUMBER.fullmatch(text) for text in texts)
    stats.yearless_days += any(_YEARLESS_DAY.fullmatch(text) for text in texts)
    shapes = {_shape(text) for text in texts if text not in instants and is_other_date(text)}
    stats.other_dates += bool(shapes)
    stats.date_shapes.update(shapes)
    stats.other_texts += any(text not in instants for text in texts)
    if not instants:
        stats.values.update({(type_name(item), item) for item in single if _is_showable(item)})


def _shape(text: str) -> str:
    """The form of a text: 0 for each digit, a for each letter."""
    return "".join("0" if char.isdecimal() else "a" if char.isalpha() else char for char in text)


def _is_showable(value: Any) -> bool:
    """Whether a user can choose the value from a list: objects, dates and long text do not qualify."""
    return isinstance(value, bool | int | float) or (type(value) is str and 0 < len(value) <= _MAX_VALUE_LENGTH)


def _build_profile(path: Path, stats: _PathStats, records: int) -> FieldProfile:
    return FieldProfile(
        path=join_steps(path),
        types={name: count / records for name, count in stats.types.most_common()},
        fill_rate=stats.filled_count / records,
        top_values=tuple((value, count / records) for value, count in _top_values(path, stats)),
        date_texts=stats.date_texts / records,
        unmatched_dates=stats.unmatched_dates / records,
        timed_dates=stats.timed_dates / records,
        number_texts=stats.number_texts / records,
        other_texts=stats.other_texts / records,
        empty_values=stats.empty_values / records,
        yearless_days=stats.yearless_days / records,
        other_dates=stats.other_dates / records,
        date_shape=next((shape for shape, _ in stats.date_shapes.most_common(1)), ""),
    )


def _top_values(path: Path, stats: _PathStats) -> list[tuple[Any, int]]:
    """The most frequent values; none if the field is personal or its values hardly repeat."""
    if not _PERSONAL.isdisjoint(path) or len(stats.values) * 2 > stats.filled_count:
        return []
    harmless = path[-1] in VISIBLE_FIELDS or path[0] != "data"
    min_repeats = _MIN_REPEATS if harmless else _MIN_REPEATS_UNKNOWN
    return [(value, count) for (_, value), count in stats.values.most_common(_MAX_TOP_VALUES) if count >= min_repeats]
