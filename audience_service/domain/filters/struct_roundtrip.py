"""Whether a filter survives a protobuf Struct, which keeps neither key order nor large integers."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from audience_service.domain.filters.operators import BUCKET, EXPRESSION_OPERATORS, LOGICAL, RECORD_OPERATORS
from audience_service.domain.filters.relative_dates import is_relative

_EXACT_IN_DOUBLE = 2**53
_TESTS = ("then", "last", "first")
"""The arguments of $related that have a filter in `where` of their own."""
_UNORDERED_OBJECTS = frozenset((*EXPRESSION_OPERATORS, BUCKET.name))
_UNORDERED_OPERANDS = ("$onDay", "$anniversary", "$nearCity", "$geoWithin")
"""Operators whose operand is an object of arguments, in any order."""

# Protobuf readers stop at 100 nested messages. An object in a Struct takes three (Struct, map entry, Value), a list two
# (ListValue, Value). The filter itself is three levels deep in a ListSegmentsResponse.
_OBJECT, _LIST, _MAX_DEPTH = 3, 2, 97


def fits_struct(where: Mapping[str, Any]) -> bool:
    """Whether a reader of the Struct gets exactly this filter, and may send it back."""
    return _query_fits(where, _OBJECT)


def _query_fits(query: Any, depth: int) -> bool:
    if not isinstance(query, Mapping) or depth > _MAX_DEPTH:
        return False
    for key, value in query.items():
        if key in LOGICAL:
            if not isinstance(value, list) or not all(_query_fits(item, depth + _LIST + _OBJECT) for item in value):
                return False
        elif key == "$related":
            if not isinstance(value, Mapping) or not _relation_fits(value, depth + _OBJECT):
                return False
        elif key in _UNORDERED_OBJECTS:
            if not _value_fits(value, depth, in_expression=True):
                return False
        elif not _field_fits(value, depth):
            return False
    return True


def _relation_fits(value: Mapping[str, Any], depth: int) -> bool:
    """The operand of $related, or of a test in it: the order of its names does not matter, and `where` is a filter."""
    tests = {name: argument for name, argument in value.items() if name in _TESTS and isinstance(argument, Mapping)}
    others = {name: argument for name, argument in value.items() if name != "where" and name not in tests}
    return (
        _query_fits(value.get("where", {}), depth + _OBJECT)
        and all(_relation_fits(test, depth + _OBJECT) for test in tests.values())
        and _value_fits(others, depth, in_expression=True)
    )


def _field_fits(value: Any, depth: int) -> bool:
    """The object of a field: operators, whose order does not matter, or a value."""
    if not isinstance(value, Mapping) or not any(key.startswith("$") for key in value):
        return _value_fits(value, depth)
    depth += _OBJECT
    return depth <= _MAX_DEPTH and all(
        _FITS_BY_OPERATOR.get(name, _value_fits)(operand, depth) for name, operand in value.items()
    )


def _arguments_fit(operand: Any, depth: int) -> bool:
    return _value_fits(operand, depth, in_expression=True)


def _element_fits(operand: Any, depth: int) -> bool:
    on_scalars = isinstance(operand, Mapping) and any(
        k.startswith("$") and k not in (*LOGICAL, *RECORD_OPERATORS) for k in operand
    )
    return _field_fits(operand, depth) if on_scalars else _query_fits(operand, depth + _OBJECT)


def _value_fits(value: Any, depth: int, in_expression: bool = False) -> bool:
    if value is None or isinstance(value, bool | str):
        return True
    if isinstance(value, int | float):
        return math.isfinite(value) and abs(value) < _EXACT_IN_DOUBLE
    if isinstance(value, Mapping):
        depth += _OBJECT
        # The order of an expression's arguments does not matter.
        is_order_significant = len(value) > 1 and not in_expression
        is_unordered = (in_expression or is_relative(value)) and "$literal" not in value
        return (
            depth <= _MAX_DEPTH
            and not is_order_significant
            and all(_value_fits(v, depth, is_unordered) for v in value.values())
        )
    depth += _LIST
    fits = isinstance(value, list) and all(_value_fits(item, depth, in_expression) for item in value)
    return fits and depth <= _MAX_DEPTH


_FITS_BY_OPERATOR: dict[str, Callable[[Any, int], bool]] = {
    "$not": _field_fits,
    "$elemMatch": _element_fits,
    **dict.fromkeys(_UNORDERED_OPERANDS, _arguments_fit),
}
"""How the operand of an operator is checked, if not as a value."""
