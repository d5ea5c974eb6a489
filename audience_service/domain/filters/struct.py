"""Whether a filter survives the way through a protobuf Struct, which keeps neither key order nor large integers."""

import math
from collections.abc import Mapping
from typing import Any

from audience_service.domain.filters.operators import LOGICAL

_EXACT_IN_DOUBLE = 2**53

MAX_LEVELS = 38
"""Objects and lists inside one another that readers take: each costs a Struct two or three of protobuf's 100 levels."""


def fits_struct(where: Mapping[str, Any]) -> bool:
    """Whether a reader of the Struct gets the very same filter, and may send it back."""
    return _query_fits(where, 1)


def _query_fits(query: Any, level: int) -> bool:
    if not isinstance(query, Mapping) or level > MAX_LEVELS:
        return False
    for key, value in query.items():
        if key in LOGICAL:
            if not isinstance(value, list) or not all(_query_fits(item, level + 2) for item in value):
                return False
        elif not _field_fits(value, level + 1):
            return False
    return True


def _field_fits(value: Any, level: int) -> bool:
    """What stands on a field: operators, whose order does not count, or a value."""
    if not isinstance(value, Mapping) or not any(key.startswith("$") for key in value):
        return _value_fits(value, level)
    if level > MAX_LEVELS:
        return False
    return all(
        _field_fits(operand, level + 1)
        if name == "$not"
        else _element_fits(operand, level + 1)
        if name == "$elemMatch"
        else _value_fits(operand, level + 1)
        for name, operand in value.items()
    )


def _element_fits(operand: Any, level: int) -> bool:
    on_scalars = isinstance(operand, Mapping) and any(k.startswith("$") and k not in LOGICAL for k in operand)
    return _field_fits(operand, level) if on_scalars else _query_fits(operand, level)


def _value_fits(value: Any, level: int) -> bool:
    if value is None or isinstance(value, bool | str):
        return True
    if isinstance(value, int | float):
        return math.isfinite(value) and abs(value) < _EXACT_IN_DOUBLE
    if level > MAX_LEVELS:
        return False
    if isinstance(value, Mapping):
        return len(value) <= 1 and all(_value_fits(item, level + 1) for item in value.values())
    return isinstance(value, list) and all(_value_fits(item, level + 1) for item in value)
