"""The typed nodes that a filter is parsed to.

Node
├── And, Or, Nor      over nodes
├── Not               one node negated ($not)
├── Condition         one operator on one field
├── ElementMatch      an element of an array that is an object matching a node ($elemMatch)
├── ElementIs         an element of an array that meets conditions itself ($elemMatch on scalars)
├── Expression        an expression over the record's fields ($expr)
├── InAudience        membership of an audience ($inAudience), until it has been resolved
└── Join              what only a look at another collection tells
    ├── OnList        the record is on the list of an audience
    ├── Related       so many related records match a node ($related)
    └── Suppressed    the record's address may not be reached: never written in a filter, only anded to it

The `place` of a node is where in the request the filter says so. Nodes are equal by what they mean, wherever they
stand.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.operators import Operator


@dataclass(frozen=True, slots=True)
class And:
    """All of them hold; with none, everything matches."""

    children: tuple["Node", ...]
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of them holds."""

    children: tuple["Node", ...]
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Nor:
    """None of them holds."""

    children: tuple["Node", ...]
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    """The child does not hold; matches records without the field, as MongoDB's $not does."""

    child: "Node"
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Condition:
    """`operator` holds for the field at `path`, a path in the record or, inside ElementMatch, in the element.

    Inside ElementIs the path is empty: the condition is on the element itself. `operand` is as the operator's row has
    read it.
    """

    path: str
    operator: Operator
    operand: Any
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class ElementMatch:
    """Some element of the array at `path` is an object for which `query` holds."""

    path: str
    query: "Node"
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class ElementIs:
    """Some one element of the array at `path` meets all the conditions."""

    path: str
    conditions: tuple["Node", ...]
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Expression:
    """An aggregation expression is true. `fields` are the paths in the record that it reads."""

    document: Document
    fields: tuple[str, ...]
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class InAudience:
    """The record is a member of an audience."""

    audience_id: str
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class OnList:
    """The record is on the list, whatever has become of it since."""

    member_list: MemberList


@dataclass(frozen=True, slots=True)
class Related:
    """From `least` to `most` records of another datatype match `query` and have in `foreign` what is in `local`."""

    datatype: str
    local: str
    foreign: str
    query: "Node"
    min_count: int
    max_count: int | None
    field_path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A subscriber record in use gives the record's address on a channel the status."""

    channel: str
    """`email` or `sms`, whose addresses are phone numbers."""
    status: str


Join = OnList | Related | Suppressed
Node = And | Or | Nor | Not | Condition | ElementMatch | ElementIs | Expression | InAudience | Join


def children(node: Node) -> tuple[Node, ...]:
    """The nodes of the same record inside a node: those of a logical one."""
    match node:
        case And(nodes) | Or(nodes) | Nor(nodes):
            return nodes
        case Not(child):
            return (child,)
    return ()


def walk(node: Node) -> Iterator[Node]:
    """The node and all nodes of the same record inside it, from left to right."""
    yield node
    for child in children(node):
        yield from walk(child)


def conjuncts(node: Node) -> Iterator[Node]:
    """The conditions of a node all of which must hold: those of an And, and of Ands inside it."""
    if isinstance(node, And):
        for child in node.children:
            yield from conjuncts(child)
    else:
        yield node


def joins(node: Node) -> tuple[Join, ...]:
    """What only a look at other collections tells, in order."""
    return tuple(found for found in walk(node) if isinstance(found, OnList | Related | Suppressed))


def names_field(node: Node, path: str) -> bool:
    """Whether the top level of a filter names the field: a condition on it there, or inside an $and there."""
    for condition in conjuncts(node):
        match condition:
            case Not(child):
                if names_field(child, path):
                    return True
            case Condition() | ElementMatch() | ElementIs():
                if condition.path == path:
                    return True
    return False
