"""Conditions on related records: who has, or never had, so many records of another datatype.

{"$related": {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"},
"where": {"total": {"$gte": 100}}, "count": {"$gte": 3}}}
"""

from collections.abc import Mapping
from typing import Any

from audience_service.domain.core.error_path import at_key
from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters.fields import record_path

_ARGUMENTS = ("datatype", "on", "where", "count")
_COUNTS = ("$eq", "$gt", "$gte", "$lt", "$lte")
_FORM = 'takes an object like {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"}}'


def read_relation(value: Any, field_path: str) -> tuple[str, str, str]:
    """The datatype, and the paths in the record and in the related ones whose values are the same.

    Raises InvalidFilter. Whether the datatype may be joined is the compiler's to say.
    """
    if not isinstance(value, Mapping):
        raise InvalidFilter.at(field_path, _FORM)
    for name in value:
        if name not in _ARGUMENTS:
            raise InvalidFilter.at(at_key(field_path, name), f"is none of {', '.join(_ARGUMENTS)}")
    datatype, on = value.get("datatype"), value.get("on")
    if not isinstance(datatype, str):
        raise InvalidFilter.at(at_key(field_path, "datatype"), 'takes a datatype, like "order"')
    on_path = at_key(field_path, "on")
    if not isinstance(on, Mapping) or set(on) != {"local", "foreign"}:
        raise InvalidFilter.at(on_path, 'takes {"local": a path in the record, "foreign": one in the related records}')
    return datatype, _path(on, "local", on_path), _path(on, "foreign", on_path)


def read_count(value: Any, field_path: str, limit: int) -> tuple[int, int | None]:
    """The least and the most that a condition on a count allows, None for any number. Raises InvalidFilter."""
    is_number = not isinstance(value, Mapping)
    conditions = {"$eq": value} if is_number else value
    if not conditions or any(name not in _COUNTS for name in conditions):
        raise InvalidFilter.at(
            field_path, f'takes a whole number or an object of {", ".join(_COUNTS)}, like {{"$gte": 3}}'
        )
    minimums, maximums = [0], []
    for name, number in conditions.items():
        is_integer = (
            number.is_integer() if isinstance(number, float) else type(number) is not bool and isinstance(number, int)
        )
        if not is_integer or not 0 <= number <= limit:
            here = field_path if is_number else at_key(field_path, name)
            raise InvalidFilter.at(here, f"takes a whole number from 0 to {limit:,}")
        if name in ("$eq", "$gt", "$gte"):
            minimums.append(int(number) + (name == "$gt"))
        if name in ("$eq", "$lt", "$lte"):
            maximums.append(int(number) - (name == "$lt"))
    return max(minimums), min(maximums, default=None)


def _path(on: Mapping[str, Any], name: str, field_path: str) -> str:
    path, here = on[name], at_key(field_path, name)
    if not isinstance(path, str):
        raise InvalidFilter.at(here, 'takes a path, like "pk" or "data.contactId"')
    return record_path(path, here)
