"""Conditions put so that each affirms something or denies it: $ne denies $eq, $nin denies $in.

Values are told apart as the database does: true is no 1, and 1 is 1.0.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audience_service.domain.filters.nodes import Condition, Node
from audience_service.domain.filters.operators import Pattern
from audience_service.domain.filters.warnings.conjunctions import leaf

_DENIES = {"$ne": "$eq", "$nin": "$in"}
_ONE_OF = ("$eq", "$in")
_NULL = ("null", None)


@dataclass(frozen=True, slots=True)
class Literal:
    """An operator on a field, affirmed or denied."""

    condition: Condition
    name: str
    operand: Any
    affirms: bool

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
    def needs_presence(self) -> bool:
        """Whether only a field that is there meets it; null is met by a missing one."""
        if not self.affirms:
            return False
        compared = self.operand if isinstance(self.operand, list) and self.name in ("$in", "$all") else [self.operand]
        return all(value is not None for value in compared)


def literal(node: Node) -> Literal | None:
    """The literal that a node of a conjunction is, if it is one."""
    said, affirms = leaf(node)
    if not isinstance(said, Condition):
        return None
    name, operand = said.operator.name, said.operand
    if name in _DENIES:
        return Literal(said, _DENIES[name], operand, not affirms)
    if name == "$exists":
        return Literal(said, name, True, affirms is operand)
    return Literal(said, name, operand, affirms)


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
