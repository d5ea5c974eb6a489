"""Dates of a record as bounds on its related records, such as orders within 7 days of signing up.

{"createdate": {"$gte": "$$record.createdate",
                "$lte": {"$dateAdd": {"startDate": "$$record.createdate", "unit": "day", "amount": 7}}}}
"""

from collections.abc import Mapping
from typing import Any

from audience_service.domain.core.error_path import at_key
from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters.ast import RecordDate, Window
from audience_service.domain.filters.fields import plain_path
from audience_service.domain.filters.related import read_window

_RECORD = "$$record"
_SHIFTS = {"$dateAdd": 1, "$dateSubtract": -1}
_BOUNDS = ("$eq", "$gt", "$gte", "$lt", "$lte")


def is_record_date(operand: object) -> bool:
    """Whether an operand refers to a field of the record, rightly or wrongly."""
    if isinstance(operand, list):
        return any(map(is_record_date, operand))
    if isinstance(operand, Mapping):
        arguments = (arguments for name, arguments in operand.items() if name in _SHIFTS or name == "$dateTrunc")
        return any(
            is_record_date(value) for inner in arguments if isinstance(inner, Mapping) for value in inner.values()
        )
    return isinstance(operand, str) and operand.partition(".")[0] == _RECORD


def read_record_date(path: str, name: str, operand: Any, field_path: str) -> RecordDate:
    """The comparison of a related record's dates at `path` with a date of the record. Raises InvalidFilter."""
    if name not in _BOUNDS:
        raise InvalidFilter.at(field_path, f"takes no field of the record; use one of {', '.join(_BOUNDS)}")
    if any(step.isdecimal() or step[:1] == "$" for step in path.split(".")):
        text = "compares neither an index of a list nor a key with $ with a field of the record; name the field alone"
        raise InvalidFilter.at(field_path, text)
    if not isinstance(operand, Mapping):
        return RecordDate(path, name, _path(operand, field_path), None, field_path)
    [(shift, arguments)] = operand.items() if len(operand) == 1 else [("", {})]
    here = at_key(field_path, shift) if shift else field_path
    if shift not in _SHIFTS or not isinstance(arguments, Mapping) or set(arguments) != {"startDate", "unit", "amount"}:
        raise InvalidFilter.at(
            here,
            'takes, for a field of the record, {"$dateAdd": {"startDate": "$$record.createdate", "unit": "day",'
            ' "amount": 7}} or the same with $dateSubtract',
        )
    window = read_window(arguments["amount"], arguments["unit"], here)
    sign = _SHIFTS[shift]
    start = _path(arguments["startDate"], at_key(here, "startDate"))
    return RecordDate(
        path, name, start, Window(sign * window.amount, window.unit, sign * window.milliseconds), field_path
    )


def _path(value: Any, field_path: str) -> str:
    record, _, path = value.partition(".") if isinstance(value, str) else ("", "", "")
    if record != _RECORD or not path or any(step.isdecimal() for step in path.split(".")):
        text = 'takes a field of the record, like "$$record.createdate", without an index of a list'
        raise InvalidFilter.at(field_path, text)
    return plain_path(path, field_path)
