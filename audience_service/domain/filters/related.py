"""Conditions on related records: records with a number of related records of another datatype, or with none.

{"$related": {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"},
"where": {"total": {"$gte": 100}}, "count": {"$gte": 3}}}
"""

from collections.abc import Mapping
from typing import Any

from audience_service.domain.core.error_path import at_key
from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters.fields import plain_path
from audience_service.domain.filters.relative_dates import is_integer

_TESTS = ("having", "last", "first")
_ARGUMENTS = ("datatype", "on", "where", "count", *_TESTS)
_SLICE_ARGUMENTS = ("by", "where", "n", "count")
MAX_SLICE = 100
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
    datatype, on = value.get("datatype"), value.get("on")
    if not isinstance(datatype, str):
        raise InvalidFilter.at(at_key(field_path, "datatype"), 'takes a datatype, like "order"')
    on_path = at_key(field_path, "on")
    if not isinstance(on, Mapping) or set(on) != {"local", "foreign"}:
        raise InvalidFilter.at(on_path, 'takes {"local": a path in the record, "foreign": one in the related records}')
    return datatype, _path(on, "local", on_path), _path(on, "foreign", on_path)


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


def _path(on: Mapping[str, Any], name: str, field_path: str) -> str:
    path, here = on.get(name), at_key(field_path, name)
    if not isinstance(path, str):
        raise InvalidFilter.at(here, 'takes a path, like "pk" or "data.contactId"')
    return plain_path(path, here)
