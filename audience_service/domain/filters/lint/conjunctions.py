"""Conjunctions: the conditions of a filter that must hold together.

For example, {"a": 1, "$or": [{"b": 2, "c": 3}, {"d": 4}]} has three: (a, $or), (b, c) and (d).
Negations are moved inwards: "none of b, c" becomes "not b" and "not c".
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
    """The subject of conditions."""

    RECORD = auto()
    ELEMENT = auto()
    """An element of an array that is an object."""
    VALUE = auto()
    """An element of an array, compared as a value."""


@dataclasses.dataclass(frozen=True, slots=True)
class Conjunction:
    """Nodes that must hold together. None is an And, a Nor or a negated Or; a Not contains a leaf or an And.

    - `root`: the filter that contains the nodes, which for related records is their own.
    - `is_root`: the nodes are the top level of `root`.
    - `is_positive`: the nodes are not inside a negation.
    - `prefix`: the path of the array whose element the nodes are about, empty for the record itself.
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
        """The path in the record."""
        return f"{self.prefix}.{path}" if self.prefix and path else self.prefix or path


def conjunctions(node: Node, datatype: str) -> Iterator[Conjunction]:
    """All conjunctions of a filter, from the outside in."""
    return _conjunctions(node, Conjunction((), node, datatype))


def unwrap_negation(node: Node) -> tuple[Node, bool]:
    """A node without its negation, and whether it had none."""
    return (node.child, False) if isinstance(node, Not) else (node, True)


def all_nodes(node: Node) -> Iterator[Node]:
    """All nodes of a filter, those on elements and on related records included."""
    yield node
    match node:
        case ElementMatch(_, query):
            yield from all_nodes(query)
        case Related():
            yield from node.steps[1:]
            for query in node.queries:
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
            continue  # the most frequent case, without children
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
            case Related(steps=steps):
                for step in steps:
                    for query in step.own_queries:
                        child = dataclasses.replace(
                            nested, root=query, datatype=step.datatype, is_root=True, is_related=True
                        )
                        yield from _conjunctions(query, child)


def flatten(node: Node, *, negated: bool = False) -> Iterator[Node]:
    """The nodes that must hold together so that a node holds, or so that it does not if `negated`."""
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
