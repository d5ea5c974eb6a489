"""Checks of the constant arguments of expressions: units, timezones, formats and the like.

The database reports a wrong constant only when it evaluates a record. These checks refuse the filter, with the path.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from audience_service.domain.core.error_path import at_index
from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters.relative_dates import UNITS, WEEKDAYS, one_of, read_timezone, weekday

_CONVERT_TYPES = ("double", "string", "objectId", "bool", "date", "int", "long", "decimal")
_FORMAT = re.compile(r"(?:[^%]|%[bBdGHjLmMSuUVYzZ%])*", re.DOTALL)


def check_named_argument(name: str, value: Any, field_path: str) -> None:
    """Check an argument given by name, if it is a constant. Raises InvalidFilter."""
    if name in _CHECK_BY_NAME and _is_constant(value):
        _CHECK_BY_NAME[name](value, field_path)


def check_list_arguments(operator: str, arguments: Sequence[Any], field_path: str) -> None:
    """Check the arguments given in a list that are constants. Raises InvalidFilter."""
    for position in _NON_NEGATIVE_POSITIONS.get(operator, ()):
        number = arguments[position] if position < len(arguments) else None
        if isinstance(number, int | float) and number < (operator == "$slice"):
            raise InvalidFilter.at(at_index(field_path, position), "is too small; use 0 or more, for $slice 1 or more")


def _is_constant(value: Any) -> bool:
    return not isinstance(value, Mapping | list) and not (isinstance(value, str) and value.startswith("$"))


def _unit(value: Any, field_path: str) -> None:
    one_of(value, UNITS, field_path)


def _type(value: Any, field_path: str) -> None:
    if not isinstance(value, int):  # a number is a type's BSON number
        one_of(value, _CONVERT_TYPES, field_path)


def _day(value: Any, field_path: str) -> None:
    one_of(weekday(value), WEEKDAYS, field_path)


def _bin(value: Any, field_path: str) -> None:
    if not isinstance(value, int | float) or value < 1 or value != int(value):
        raise InvalidFilter.at(field_path, "takes an integer of 1 or more")


def _format(value: Any, field_path: str) -> None:
    if not isinstance(value, str) or not _FORMAT.fullmatch(value):
        raise InvalidFilter.at(field_path, "is not a date format, like %Y-%m-%d")


_CHECK_BY_NAME: dict[str, Callable[[Any, str], object]] = {
    "unit": _unit,
    "timezone": read_timezone,
    "startOfWeek": _day,
    "binSize": _bin,
    "to": _type,
    "format": _format,
}

_NON_NEGATIVE_POSITIONS: dict[str, tuple[int, ...]] = {"$substrCP": (1, 2), "$indexOfCP": (2, 3), "$slice": (2,)}
"""The positions of arguments that must not be negative."""
