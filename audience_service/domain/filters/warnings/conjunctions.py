"""What must hold together, for whatever is said about conditions beside one another.

A negation is exact here as it is in the database: to deny "one of them" is to deny each.
"""

import dataclasses
from collections.abc import Iterator
from enum import Enum, auto

from audience_service.domain.filters.nodes import (
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
    top: Node
    datatype: str
    subject: Subject = Subject.RECORD
    prefix: str = ""
    is_top: bool = True
    affirmed: bool = True
    related: bool = False

    def path(self, path: str) -> str:
        """The path from the record on."""
        return f"{self.prefix}.{path}" if self.prefix and path else self.prefix or path


def conjunctions(node: Node, datatype: str) -> Iterator[Conjunction]:
    """All that must hold together anywhere in a filter, from the outside in."""
    return _conjunctions(node, Conjunction((), node, datatype))


def leaf(node: Node) -> tuple[Node, bool]:
    """What a node of a conjunction says, and whether it affirms that."""
    return (node.child, False) if isinstance(node, Not) else (node, True)


def everything(node: Node) -> Iterator[Node]:
    """All nodes of a filter, those on elements and on related records included."""
    yield node
    match node:
        case ElementMatch(_, query) | Related(query=query):
            yield from everything(query)
        case ElementIs(_, conditions):
            for condition in conditions:
                yield from everything(condition)
        case _:
            for child in children(node):
                yield from everything(child)


def _conjunctions(node: Node, within: Conjunction) -> Iterator[Conjunction]:
    found = dataclasses.replace(within, nodes=tuple(flat(node)))
    yield found
    for inner in found.nodes:
        said, affirms = leaf(inner)
        if isinstance(said, Condition):
            continue  # the commonest by far, with nothing inside
        deeper = dataclasses.replace(found, is_top=False, affirmed=found.affirmed is affirms)
        match said:
            case Or(nodes):
                for alternative in nodes:
                    yield from _conjunctions(alternative, deeper)
            case And():
                yield from _conjunctions(said, deeper)
            case ElementMatch(path, query):
                about = dataclasses.replace(deeper, subject=Subject.ELEMENT, prefix=found.path(path))
                yield from _conjunctions(query, about)
            case ElementIs(path, conditions):
                about = dataclasses.replace(deeper, subject=Subject.VALUE, prefix=found.path(path))
                yield from _conjunctions(And(conditions), about)
            case Related(datatype=datatype, query=query):
                about = dataclasses.replace(deeper, top=query, datatype=datatype, is_top=True, related=True)
                yield from _conjunctions(query, about)


def flat(node: Node, *, denied: bool = False) -> Iterator[Node]:
    """The nodes that must hold together for a node to hold, or for it not to."""
    match node, denied:
        case (And(nodes), False) | (Or(nodes), True):
            for child in nodes:
                yield from flat(child, denied=denied)
        case Nor(nodes), False:
            for child in nodes:
                yield from flat(child, denied=True)
        case Nor((child,)), True:
            yield from flat(child)
        case Nor(nodes, place), True:
            yield Or(nodes, place)
        case Not(child), _:
            yield from flat(child, denied=not denied)
        case _:
            yield Not(node) if denied else node
