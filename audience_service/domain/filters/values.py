"""Checks and converts operands: the values with which conditions compare."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bson import Binary, Decimal128, Int64, ObjectId

from audience_service.domain.core.error_path import at_index, at_key
from audience_service.domain.core.errors import FilterTooLarge, InvalidFilter
from audience_service.domain.filters.filter import FilterLimits
from audience_service.domain.filters.record_timezones import resolve
from audience_service.domain.filters.relative_dates import NOW, is_relative

if TYPE_CHECKING:
    from audience_service.domain.filters.near_city import FindCities, NearbyCities

Scalar = None | bool | int | float | str | datetime | Int64 | Decimal128 | ObjectId | Binary | bytes
_SCALARS = (type(None), bool, int, float, str, datetime, Decimal128, ObjectId, Binary, bytes)
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_EXACT_IN_DOUBLE = 2**53
_NOW_ADVICE = 'for the current time write {"$dateAdd": {"startDate": "$$NOW", "unit": "day", "amount": 0}}'


_TYPE_WRAPPERS = frozenset(
    ("$date", "$oid", "$numberInt", "$numberLong", "$numberDouble", "$numberDecimal", "$binary", "$uuid")
)


def _misplaced(name: str) -> str:
    if name in _TYPE_WRAPPERS:
        return "is a type of Extended JSON, which a JSON object cannot contain; write the filter in where_json"
    return "is an operator inside a value; operators apply to fields"


@dataclass(slots=True)
class ValueReader:
    """Reads the operands of one filter, within its limits.

    `exact` is the filter's: without it, values that a protobuf Struct may have changed are refused. Relative dates are
    evaluated at `timestamp` and become ISO text, which matches every spelling of dates in storage. `find_cities` is
    None if the process has no places.
    """

    limits: FilterLimits
    exact: bool
    timestamp: datetime
    find_cities: "FindCities | None" = None
    is_time_dependent: bool = False
    """Whether `now` was read."""
    is_expanded: bool = False
    """Whether `cities` was called: what it returns is far larger than what the caller wrote."""
    _pattern_characters: int = 0
    _points: int = 0

    @property
    def now(self) -> datetime:
        """The time at which relative dates are evaluated."""
        self.is_time_dependent = True
        return self.timestamp

    def text(self, value: Any, field_path: str) -> str:
        """The value, if it is text. Raises InvalidFilter."""
        if not isinstance(value, str):
            raise InvalidFilter.at(field_path, "takes text")
        return str(self.scalar(value, field_path))

    def pattern(self, text: str, field_path: str) -> str:
        """The text of a pattern, counted towards the filter's limit. Raises InvalidFilter, FilterTooLarge."""
        limits = self.limits
        if len(text) > limits.pattern_length:
            limit = limits.pattern_length
            raise FilterTooLarge.at(
                field_path, f"exceeds the limit of {limit:,} characters in a pattern", limit=str(limit)
            )
        self._pattern_characters += len(text)
        if self._pattern_characters > limits.pattern_characters:
            limit = limits.pattern_characters
            raise FilterTooLarge.at(
                field_path, f"exceeds the limit of {limit:,} characters in a filter's patterns", limit=str(limit)
            )
        return self.text(text, field_path)

    def count_points(self, count: int, field_path: str) -> None:
        """Count the points of a shape towards the filter's limit. Raises FilterTooLarge."""
        self._points += count
        if self._points > self.limits.points:
            limit = self.limits.points
            raise FilterTooLarge.at(
                field_path, f"exceeds the limit of {limit:,} points in a filter's shapes", limit=str(limit)
            )

    def cities(self, city_id: str, kilometers: float) -> "NearbyCities | None":
        """The cities around a city, None if it is not known."""
        self.is_expanded = True
        return self.find_cities(city_id, kilometers) if self.find_cities else None

    def scalar(self, value: Any, field_path: str) -> Scalar:
        """The value, if it is neither an object nor a list. Raises InvalidFilter."""
        if isinstance(value, Mapping) and is_relative(value):
            return resolve(value, field_path, self.now)
        if not isinstance(value, _SCALARS):
            raise InvalidFilter.at(field_path, "takes a single value: text, a number, true, false, null or a date")
        if isinstance(value, int) and not isinstance(value, bool) and not _INT64_MIN <= value <= _INT64_MAX:
            raise InvalidFilter.at(field_path, "is an integer that does not fit 64 bits")
        if not self.exact and isinstance(value, int | float) and not abs(value) < _EXACT_IN_DOUBLE:
            raise InvalidFilter.at(
                field_path,
                "is a number of 2^53 or more, which a JSON object may have rounded; write the filter in where_json",
            )
        if isinstance(value, str):
            self._text(value, field_path)
            if value == NOW:
                raise InvalidFilter.at(field_path, f"is text here; {_NOW_ADVICE}")
        return value

    def value(self, value: Any, field_path: str, depth: int = 0) -> Any:
        """The value, which may be an object or a list. Raises InvalidFilter, FilterTooLarge."""
        if depth > self.limits.depth:
            raise FilterTooLarge.at(
                field_path, f"is nested more than {self.limits.depth} levels deep", limit=str(self.limits.depth)
            )
        if isinstance(value, Mapping) and not (depth == 0 and is_relative(value)):
            return self._document(value, field_path, depth)
        if isinstance(value, list):
            self._length(value, field_path)
            return [self.value(item, at_index(field_path, i), depth + 1) for i, item in enumerate(value)]
        return self.scalar(value, field_path)

    def values(self, value: Any, field_path: str) -> list[Any]:
        """The value, if it is a list. Its items may be any values. Raises InvalidFilter, FilterTooLarge."""
        if not isinstance(value, list):
            raise InvalidFilter.at(field_path, 'takes a list of values, like ["lead", "mql"]')
        self._length(value, field_path)
        return [
            self.scalar(item, at_index(field_path, i))
            if is_relative(item)
            else self.value(item, at_index(field_path, i), 1)
            for i, item in enumerate(value)
        ]

    def _document(self, value: Mapping[str, Any], field_path: str, depth: int) -> dict[str, Any]:
        for key in value:
            if key.startswith("$"):
                raise InvalidFilter.at(at_key(field_path, key), _misplaced(key))
            if "\0" in key:
                raise InvalidFilter.at(
                    at_key(field_path, key), "is a key with a NUL character, which records cannot have; remove it"
                )
        if len(value) > 1 and not self.exact:
            raise InvalidFilter.at(
                field_path,
                "compares with an object of two or more keys; their order matters, and a JSON object does not keep it;"
                " write the filter in where_json, or name the inner fields, like address.city",
            )
        for key in value:
            self._text(key, at_key(field_path, key))
        return {key: self.value(item, at_key(field_path, key), depth + 1) for key, item in value.items()}

    def _length(self, value: list[Any], field_path: str) -> None:
        if len(value) > self.limits.list_length:
            raise FilterTooLarge.at(
                field_path,
                f"has {len(value):,} values; the limit is {self.limits.list_length:,}; create a static segment instead",
                limit=str(self.limits.list_length),
            )

    def _text(self, text: str, field_path: str) -> None:
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise InvalidFilter.at(field_path, "contains half of a surrogate pair, which is not valid Unicode")
