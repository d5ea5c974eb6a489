"""Literals: conditions in a form in which each is positive or negative: $ne is a negative $eq, $nin a negative $in.

Values are distinguished as in the database: true is not 1, and 1 is 1.0.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audience_service.domain.filters.ast import Condition, Node
from audience_service.domain.filters.lint.conjunctions import unwrap_negation
from audience_service.domain.filters.operators import TEXT_OPERATORS, Pattern
from audience_service.domain.filters.record_timezones import ZonedDate

_NEGATED_OPERATORS = {"$ne": "$eq", "$nin": "$in"}
_ONE_OF = ("$eq", "$in")
_NULL = ("null", None)
_FIELD_REQUIRING_OPERATORS = frozenset(
    ("$eq", "$in", "$all", "$gt", "$gte", "$lt", "$lte", "$exists", "$type", "$size", "$regex", "$mod", "$onDay",
     "$anniversary", "$nearCity", "$geoWithin", "$bucket",
     *TEXT_OPERATORS, "$bitsAllSet", "$bitsAllClear", "$bitsAnySet", "$bitsAnyClear")
)  # fmt: skip
"""The operators that a missing field never meets. Other operators are assumed to match it, so they cause no warning."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A positive or negative operator on a field."""

    condition: Condition
    name: str
    operand: Any
    is_positive: bool

    @property
    def path(self) -> str:
        """The path of the field."""
        return self.condition.path

    @property
    def values(self) -> frozenset[Hashable] | None:
        """The values of an $eq or $in; None for other operators, or if a value cannot be compared."""
        if self.name not in _ONE_OF:
            return None
        keys = [_key(value) for value in (self.operand if self.name == "$in" else [self.operand])]
        return None if None in keys else frozenset(keys)

    @property
    def identity(self) -> Hashable | None:
        """A key that is equal for literals with the same condition, positive or not; None if it cannot be compared."""
        if (values := self.values) is not None:
            return (self.path, *_ONE_OF, values)
        key = _key(self.operand)
        return None if key is None else (self.path, self.name, key)

    @property
    def requires_field(self) -> bool:
        """Whether only an existing field meets the literal. A missing field meets null."""
        if not self.is_positive or self.name not in _FIELD_REQUIRING_OPERATORS:
            return False
        operands = self.operand if isinstance(self.operand, list) and self.name in ("$in", "$all") else [self.operand]
        return all(value is not None for value in operands)


def literal(node: Node) -> Literal | None:
    """The literal of a conjunction's node, None if the node is not a condition."""
    inner_node, is_positive = unwrap_negation(node)
    if not isinstance(inner_node, Condition):
        return None
    name, operand = inner_node.operator.name, inner_node.operand
    if name in _NEGATED_OPERATORS:
        return Literal(inner_node, _NEGATED_OPERATORS[name], operand, not is_positive)
    if name == "$exists":
        return Literal(inner_node, name, True, is_positive is operand)
    return Literal(inner_node, name, operand, is_positive)


def _key(value: Any) -> Hashable | None:
    match value:
        case None:
            return _NULL
        case bool():
            return ("bool", value)
        case int() | float():
            return ("number", value)
        case ZonedDate():
            return ("zoned date", repr(value.expression))
        case str():
            return ("text", str(value))
        case datetime():
            return ("date", value)
        case Pattern():
            return ("pattern", value)
    return None
