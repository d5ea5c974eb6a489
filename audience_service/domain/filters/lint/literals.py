"""Conditions put so that each affirms something or denies it: $ne denies $eq, $nin denies $in.

Values are told apart as the database does: true is no 1, and 1 is 1.0.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audience_service.domain.filters.ast import Condition, Node
from audience_service.domain.filters.lint.conjunctions import unwrap_negation
from audience_service.domain.filters.operators import Pattern

_NEGATED_OPERATORS = {"$ne": "$eq", "$nin": "$in"}
_ONE_OF = ("$eq", "$in")
_NULL = ("null", None)
_FIELD_REQUIRING_OPERATORS = frozenset(
    ("$eq", "$in", "$all", "$gt", "$gte", "$lt", "$lte", "$exists", "$type", "$size", "$regex", "$mod",
     "$bitsAllSet", "$bitsAllClear", "$bitsAnySet", "$bitsAnyClear")
)  # fmt: skip
"""What no missing field meets. An operator that is not here is taken to be met by one, which warns of less."""


@dataclass(frozen=True, slots=True)
class Literal:
    """An operator on a field, affirmed or denied."""

    condition: Condition
    name: str
    operand: Any
    is_positive: bool

    @property
    def path(self) -> str:
        """The field's."""
        return self.condition.path

    @property
    def values(self) -> frozenset[Hashable] | None:
        """The values of which it says that one is met; None where it says no such thing, or they cannot be told."""
        if self.name not in _ONE_OF:
            return None
        keys = [_key(value) for value in (self.operand if self.name == "$in" else [self.operand])]
        return None if None in keys else frozenset(keys)

    @property
    def identity(self) -> Hashable | None:
        """What is the same for literals that affirm or deny the same, None where that cannot be told."""
        if (values := self.values) is not None:
            return (self.path, *_ONE_OF, values)
        key = _key(self.operand)
        return None if key is None else (self.path, self.name, key)

    @property
    def requires_field(self) -> bool:
        """Whether only a field that is there meets it; null is met by a missing one."""
        if not self.is_positive or self.name not in _FIELD_REQUIRING_OPERATORS:
            return False
        operands = self.operand if isinstance(self.operand, list) and self.name in ("$in", "$all") else [self.operand]
        return all(value is not None for value in operands)


def literal(node: Node) -> Literal | None:
    """The literal that a node of a conjunction is, if it is one."""
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
        case str():
            return ("text", str(value))
        case datetime():
            return ("date", value)
        case Pattern():
            return ("pattern", value)
    return None
