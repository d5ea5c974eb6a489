"""Aggregates of related records: sums, averages, minimums, maximums and numbers of distinct values, with bounds.

{"$related": {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"},
"having": {"sum": {"total": {"$gt": 500}}, "distinct": {"sku": {"$gte": 3}}}}}
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from bson import Decimal128

from audience_service.domain.core.error_path import at_key
from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters.ast import Aggregate, Condition, Having
from audience_service.domain.filters.dates import read_instant
from audience_service.domain.filters.fields import plain_path
from audience_service.domain.filters.operators import OPERATORS
from audience_service.domain.filters.record_timezones import ZonedDate
from audience_service.domain.filters.relative_dates import is_relative
from audience_service.domain.filters.values import ValueReader

OR_NONE = "orNone"
_BOUNDS = ("$eq", "$gt", "$gte", "$lt", "$lte")
_FORM = 'takes an object like {"sum": {"total": {"$gt": 500}}}'


@dataclass(frozen=True, slots=True)
class Function:
    """One row of the table. `noun` describes the result; `takes_dates`: its values may be dates."""

    noun: str
    takes_dates: bool = False


FUNCTIONS: Mapping[str, Function] = {
    "sum": Function("the sum of {}"),
    "avg": Function("the average of {}"),
    "min": Function("the minimum of {}", takes_dates=True),
    "max": Function("the maximum of {}", takes_dates=True),
    "distinct": Function("the number of distinct values of {}"),
}
"""The rows by name. mongo/query/related_groups.py computes them."""


def read_having(value: Any, field_path: str, reader: ValueReader) -> Having:
    """The aggregates of `having`. Raises InvalidFilter."""
    if not isinstance(value, Mapping):
        raise InvalidFilter.at(field_path, _FORM)
    or_none = value.get(OR_NONE, False)
    if not isinstance(or_none, bool):
        raise InvalidFilter.at(at_key(field_path, OR_NONE), "takes true or false")
    aggregates: list[Aggregate] = []
    for name, bounds_by_path in value.items():
        here = at_key(field_path, name)
        if name == OR_NONE:
            continue
        if name not in FUNCTIONS:
            raise InvalidFilter.at(here, f"is not one of {', '.join((*FUNCTIONS, OR_NONE))}")
        if not isinstance(bounds_by_path, Mapping) or not bounds_by_path:
            raise InvalidFilter.at(here, 'takes an object of paths with bounds, like {"total": {"$gt": 500}}')
        aggregates += [
            _read_aggregate(name, path, bounds, at_key(here, path), reader) for path, bounds in bounds_by_path.items()
        ]
    if not aggregates:
        raise InvalidFilter.at(field_path, _FORM)
    return Having(tuple(aggregates), or_none)


def is_date(value: Any) -> bool:
    """Whether a bound is a date: a BSON date, ISO text or a relative date."""
    return isinstance(value, datetime) or read_instant(value) is not None


def _read_aggregate(name: str, path: str, value: Any, field_path: str, reader: ValueReader) -> Aggregate:
    is_object = isinstance(value, Mapping) and not is_relative(value)
    operands = value if is_object else {"$eq": value}
    if not operands or any(operator not in _BOUNDS for operator in operands):
        raise InvalidFilter.at(field_path, f'takes a value or an object of {", ".join(_BOUNDS)}, like {{"$gt": 500}}')
    bounds = []
    for operator, operand in operands.items():
        here = at_key(field_path, operator) if is_object else field_path
        bounds.append(Condition("", OPERATORS[operator], _read_bound(name, operand, here, reader), here))
    kinds = [is_date(bound.operand) for bound in bounds]
    if len(set(kinds)) > 1:
        raise InvalidFilter.at(bounds[kinds.index(not kinds[0])].field_path, "mixes numbers and dates; use one of them")
    return Aggregate(name, plain_path(path, field_path), tuple(bounds), kinds[0], field_path)


def _read_bound(name: str, operand: Any, field_path: str, reader: ValueReader) -> Any:
    value = reader.scalar(operand, field_path)
    if isinstance(value, ZonedDate):
        raise InvalidFilter.at(
            field_path,
            'takes no timezone of a record: the values are of many records; write one like "America/New_York"',
        )
    number = value.to_decimal() if isinstance(value, Decimal128) else value
    if isinstance(number, int | float | Decimal) and not isinstance(number, bool) and not math.isnan(number):
        return value
    if FUNCTIONS[name].takes_dates and is_date(value):
        return value
    raise InvalidFilter.at(field_path, f"takes a number{' or a date' if FUNCTIONS[name].takes_dates else ''}")
