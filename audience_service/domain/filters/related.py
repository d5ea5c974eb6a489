"""Conditions on related records: records with a number of related records of another datatype, or with none.

{"$related": {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"},
"where": {"total": {"$gte": 100}}, "count": {"$gte": 3}}}
"""

from collections.abc import Mapping
from typing import Any

from audience_service.domain.core.error_path import at_key
from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters.ast import Window
from audience_service.domain.filters.fields import plain_path
from audience_service.domain.filters.relative_dates import FIXED_UNITS, is_integer

_TESTS = ("having", "last", "first", "then")
_ARGUMENTS = ("datatype", "on", "where", "count", "at", *_TESTS)
_SLICE_ARGUMENTS = ("by", "where", "n", "count")
_THEN_ARGUMENTS = ("datatype", "on", "where", "at", "within", "count")
_WINDOW_ARGUMENTS = ("amount", "unit")
MAX_SLICE = 100
_MAX_WINDOW_DAYS = 36_500
_COUNTS = ("$eq", "$gt", "$gte", "$lt", "$lte")
_FORM = 'takes an object like {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"}}'


def read_relation(value: Any, field_path: str) -> tuple[str, str, str]:
    """The datatype, and the paths in the record and in the related records whose values must be equal.

    Raises InvalidFilter. The compiler checks whether the datatype may be joined.
    """
    if not isinstance(value, Mapping):
        raise InvalidFilter.at(field_path, _FORM)
    for name in value:
        if name not in _ARGUMENTS:
            raise InvalidFilter.at(at_key(field_path, name), f"is not one of {', '.join(_ARGUMENTS)}")
    tests = [name for name in value if name in _TESTS]
    if len(tests) > 1:
        text = f"is one of {', '.join(_TESTS)}, of which a relation has one; write a second $related"
        raise InvalidFilter.at(at_key(field_path, tests[1]), text)
    if "at" in value and "then" not in value:
        raise InvalidFilter.at(at_key(field_path, "at"), "orders the records of a sequence; add then, or omit it")
    return _datatype(value, field_path), *_join_paths(value, field_path)


def read_then(value: Any, first: Mapping[str, Any], field_path: str) -> tuple[str, str, str, str, Window | None]:
    """The datatype, the two paths, the path of the date, and the window of a sequence's second step.

    `first` is the relation around it, which has the defaults. Raises InvalidFilter.
    """
    if not isinstance(value, Mapping):
        raise InvalidFilter.at(field_path, 'takes an object like {"where": {"type": "purchase"}, "count": 0}')
    for name in value:
        if name not in _THEN_ARGUMENTS:
            raise InvalidFilter.at(at_key(field_path, name), f"is not one of {', '.join(_THEN_ARGUMENTS)}")
    step = {"datatype": first["datatype"], "on": first["on"], "at": first["at"], **value}
    window = _window(value["within"], at_key(field_path, "within")) if "within" in value else None
    return _datatype(step, field_path), *_join_paths(step, field_path), _path(step, "at", field_path), window


def read_date_path(value: Mapping[str, Any], field_path: str) -> str:
    """The path of the date that orders the records of a sequence. Raises InvalidFilter."""
    if "at" not in value:
        text = 'is missing next to then: name the date that orders the records, like "createdate"'
        raise InvalidFilter.at(at_key(field_path, "at"), text)
    return _path(value, "at", field_path)


def read_slice(value: Any, field_path: str) -> tuple[str, int]:
    """The path of the date by which `last` or `first` takes records, and their number. Raises InvalidFilter."""
    if not isinstance(value, Mapping):
        raise InvalidFilter.at(field_path, 'takes an object like {"by": "createdate", "where": {"status": "paid"}}')
    for name in value:
        if name not in _SLICE_ARGUMENTS:
            raise InvalidFilter.at(at_key(field_path, name), f"is not one of {', '.join(_SLICE_ARGUMENTS)}")
    size = value.get("n", 1)
    if not is_integer(size) or not 1 <= size <= MAX_SLICE:
        raise InvalidFilter.at(at_key(field_path, "n"), f"takes an integer from 1 to {MAX_SLICE}")
    return _path(value, "by", field_path), int(size)


def read_count(value: Any, field_path: str, limit: int) -> tuple[int, int | None]:
    """The minimum and maximum that a condition on a count allows; a maximum of None is unlimited.

    Raises InvalidFilter.
    """
    is_number = not isinstance(value, Mapping)
    conditions = {"$eq": value} if is_number else value
    if not conditions or any(name not in _COUNTS for name in conditions):
        raise InvalidFilter.at(field_path, f'takes an integer or an object of {", ".join(_COUNTS)}, like {{"$gte": 3}}')
    minimums, maximums = [0], []
    for name, number in conditions.items():
        if not is_integer(number) or not 0 <= number <= limit:
            here = field_path if is_number else at_key(field_path, name)
            raise InvalidFilter.at(here, f"takes an integer from 0 to {limit:,}")
        if name in ("$eq", "$gt", "$gte"):
            minimums.append(int(number) + (name == "$gt"))
        if name in ("$eq", "$lt", "$lte"):
            maximums.append(int(number) - (name == "$lt"))
    return max(minimums), min(maximums, default=None)


def _datatype(value: Mapping[str, Any], field_path: str) -> str:
    datatype = value.get("datatype")
    if not isinstance(datatype, str):
        raise InvalidFilter.at(at_key(field_path, "datatype"), 'takes a datatype, like "order"')
    return datatype


def _join_paths(value: Mapping[str, Any], field_path: str) -> tuple[str, str]:
    on, on_path = value.get("on"), at_key(field_path, "on")
    if not isinstance(on, Mapping) or set(on) != {"local", "foreign"}:
        raise InvalidFilter.at(on_path, 'takes {"local": a path in the record, "foreign": one in the related records}')
    return _path(on, "local", on_path), _path(on, "foreign", on_path)


def _window(value: Any, field_path: str) -> Window:
    if not isinstance(value, Mapping) or set(value) != set(_WINDOW_ARGUMENTS):
        raise InvalidFilter.at(field_path, 'takes {"amount": 7, "unit": "day"}')
    return read_window(value["amount"], value["unit"], field_path)


def read_window(amount: Any, unit: Any, field_path: str) -> Window:
    """A duration up to 36,500 days. Raises InvalidFilter, with paths below `field_path`."""
    if not isinstance(unit, str) or unit not in FIXED_UNITS:
        raise InvalidFilter.at(at_key(field_path, "unit"), f"is not one of {', '.join(FIXED_UNITS)}")
    if not is_integer(amount) or not 1 <= amount * FIXED_UNITS[unit] <= _MAX_WINDOW_DAYS * FIXED_UNITS["day"]:
        text = f"takes a positive integer; the longest window is {_MAX_WINDOW_DAYS:,} days"
        raise InvalidFilter.at(at_key(field_path, "amount"), text)
    return Window(int(amount), unit, int(amount) * FIXED_UNITS[unit])


def _path(on: Mapping[str, Any], name: str, field_path: str) -> str:
    path, here = on.get(name), at_key(field_path, name)
    if not isinstance(path, str):
        raise InvalidFilter.at(here, 'takes a path, like "pk" or "data.contactId"')
    return plain_path(path, here)
