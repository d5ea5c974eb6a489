"""The typed nodes that a filter is parsed to.

Node
├── And, Or, Nor      over nodes
├── Not               one node negated ($not)
├── Condition         one operator on one field
├── ElementMatch      an element of an array that is an object matching a node ($elemMatch)
└── ElementIs         an element of an array that meets conditions itself ($elemMatch on scalars)
"""

from dataclasses import dataclass
from typing import Any

from audience_service.domain.filters.operators import Operator


@dataclass(frozen=True, slots=True)
class And:
    """All of them hold; with none, everything matches."""

    children: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of them holds."""

    children: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Nor:
    """None of them holds."""

    children: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The child does not hold; matches records without the field, as MongoDB's $not does."""

    child: "Node"


@dataclass(frozen=True, slots=True)
class Condition:
    """`operator` holds for the field at `path`, a path in the record or, inside ElementMatch, in the element.

    Inside ElementIs the path is empty: the condition is on the element itself. `operand` is as the operator's row has
    read it.
    """

    path: str
    operator: Operator
    operand: Any


@dataclass(frozen=True, slots=True)
class ElementMatch:
    """Some element of the array at `path` is an object for which `query` holds."""

    path: str
    query: "Node"


@dataclass(frozen=True, slots=True)
class ElementIs:
    """Some one element of the array at `path` meets all the conditions."""

    path: str
    conditions: tuple["Node", ...]


Node = And | Or | Nor | Not | Condition | ElementMatch | ElementIs


def names_field(node: Node, path: str) -> bool:
    """Whether the top level of a filter names the field: a condition on it there, or inside an $and there."""
    match node:
        case And(children):
            return any(names_field(child, path) for child in children)
        case Not(child):
            return names_field(child, path)
        case Condition() | ElementMatch() | ElementIs():
            return node.path == path
    return False
