"""What must hold together, for whatever is said about conditions beside one another.

A negation is exact here as it is in the database: to deny "one of them" is to deny each.
"""

import dataclasses
from collections.abc import Iterator
from enum import Enum, auto

from audience_service.domain.filters.ast import (
    And,
    Condition,
    ElementIs,
    ElementMatch,
    Node,
    Nor,
    Not,
    Or,
    Related,
    children,
)


class Subject(Enum):
    """Whom conditions are about."""

    RECORD = auto()
    ELEMENT = auto()
    """An element of an array that is an object."""
    VALUE = auto()
    """An element of an array itself."""


@dataclasses.dataclass(frozen=True, slots=True)
class Conjunction:
    """Nodes that must hold together: none is an And, a Nor or a negated Or; Not is around leaves and Ands alone.

    `top` is the filter that they are in, a related one's own; they are its top level if `is_top`. They are `affirmed`
    unless something is found by their not holding. `prefix` leads to the element that they are about.
    """

    nodes: tuple[Node, ...]
    root: Node
    datatype: str
    subject: Subject = Subject.RECORD
    prefix: str = ""
    is_root: bool = True
    is_positive: bool = True
    is_related: bool = False

    def path(self, path: str) -> str:
        """The path from the record on."""
        return f"{self.prefix}.{path}" if self.prefix and path else self.prefix or path


def conjunctions(node: Node, datatype: str) -> Iterator[Conjunction]:
    """All that must hold together anywhere in a filter, from the outside in."""
    return _conjunctions(node, Conjunction((), node, datatype))


def unwrap_negation(node: Node) -> tuple[Node, bool]:
    """What a node of a conjunction says, and whether it affirms that."""
    return (node.child, False) if isinstance(node, Not) else (node, True)


def all_nodes(node: Node) -> Iterator[Node]:
    """All nodes of a filter, those on elements and on related records included."""
    yield node
    match node:
        case ElementMatch(_, query) | Related(query=query):
            yield from all_nodes(query)
        case ElementIs(_, conditions):
            for condition in conditions:
                yield from all_nodes(condition)
        case _:
            for child in children(node):
                yield from all_nodes(child)


def _conjunctions(node: Node, parent: Conjunction) -> Iterator[Conjunction]:
    found = dataclasses.replace(parent, nodes=tuple(flatten(node)))
    yield found
    for inner in found.nodes:
        leaf_node, is_positive = unwrap_negation(inner)
        if isinstance(leaf_node, Condition):
            continue  # the commonest by far, with nothing inside
        nested = dataclasses.replace(found, is_root=False, is_positive=found.is_positive is is_positive)
        match leaf_node:
            case Or(nodes):
                for alternative in nodes:
                    yield from _conjunctions(alternative, nested)
            case And():
                yield from _conjunctions(leaf_node, nested)
            case ElementMatch(path, query):
                child = dataclasses.replace(nested, subject=Subject.ELEMENT, prefix=found.path(path))
                yield from _conjunctions(query, child)
            case ElementIs(path, conditions):
                child = dataclasses.replace(nested, subject=Subject.VALUE, prefix=found.path(path))
                yield from _conjunctions(And(conditions), child)
            case Related(datatype=datatype, query=query):
                child = dataclasses.replace(nested, root=query, datatype=datatype, is_root=True, is_related=True)
                yield from _conjunctions(query, child)


def flatten(node: Node, *, negated: bool = False) -> Iterator[Node]:
    """The nodes that must hold together for a node to hold, or for it not to."""
    match node, negated:
        case (And(nodes), False) | (Or(nodes), True):
            for child in nodes:
                yield from flatten(child, negated=negated)
        case Nor(nodes), False:
            for child in nodes:
                yield from flatten(child, negated=True)
        case Nor((child,)), True:
            yield from flatten(child)
        case Nor(nodes, field_path), True:
            yield Or(nodes, field_path)
        case Not(child), _:
            yield from flatten(child, negated=not negated)
        case _:
            yield Not(node) if negated else node
