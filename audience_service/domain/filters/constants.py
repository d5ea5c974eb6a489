"""Arguments of expressions that are written out: a unit, a timezone, a format that no record's value can mend.

The database would refuse them record by record; here the filter is refused, at the place.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from audience_service.domain.errors import InvalidFilter
from audience_service.domain.filters.filter import at_index
from audience_service.domain.filters.relative import UNITS, WEEKDAYS, one_of, read_timezone, weekday

_CONVERTED = ("double", "string", "objectId", "bool", "date", "int", "long", "decimal")
_FORMAT = re.compile(r"(?:[^%]|%[bBdGHjLmMSuUVYzZ%])*", re.DOTALL)


def check_named(name: str, value: Any, place: str) -> None:
    """Check an argument given by name, if it is a constant. Raises InvalidFilter."""
    if name in _NAMED and _is_constant(value):
        _NAMED[name](value, place)


def check_listed(operator: str, arguments: Sequence[Any], place: str) -> None:
    """Check the arguments given in a list that are constants. Raises InvalidFilter."""
    for position in _COUNTS.get(operator, ()):
        number = arguments[position] if position < len(arguments) else None
        if isinstance(number, int | float) and number < (operator == "$slice"):
            raise InvalidFilter.at(at_index(place, position), "takes a number of 0 or more, for $slice 1 or more")


def _is_constant(value: Any) -> bool:
    return not isinstance(value, Mapping | list) and not (isinstance(value, str) and value.startswith("$"))


def _unit(value: Any, place: str) -> None:
    one_of(value, UNITS, place)


def _type(value: Any, place: str) -> None:
    if not isinstance(value, int):  # types go by number too
        one_of(value, _CONVERTED, place)


def _day(value: Any, place: str) -> None:
    one_of(weekday(value), WEEKDAYS, place)


def _bin(value: Any, place: str) -> None:
    if not isinstance(value, int | float) or value < 1 or value != int(value):
        raise InvalidFilter.at(place, "takes a whole number of 1 or more")


def _format(value: Any, place: str) -> None:
    if not isinstance(value, str) or not _FORMAT.fullmatch(value):
        raise InvalidFilter.at(place, "is no format of a date, like %Y-%m-%d")


_NAMED: dict[str, Callable[[Any, str], object]] = {
    "unit": _unit,
    "timezone": read_timezone,
    "startOfWeek": _day,
    "binSize": _bin,
    "to": _type,
    "format": _format,
}

_COUNTS: dict[str, tuple[int, ...]] = {"$substrCP": (1, 2), "$indexOfCP": (2, 3), "$slice": (2,)}
"""Positions of arguments that may not be negative."""
