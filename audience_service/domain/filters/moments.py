"""Nodes as of another moment: which of their parts depend on now, and what they say then."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from audience_service.domain.filters.nodes import (
    And,
    Condition,
    ElementIs,
    ElementMatch,
    Expression,
    Node,
    Nor,
    Not,
    Or,
    Related,
    children,
)
from audience_service.domain.filters.relative import FoldedDate, Now


def as_of(node: Node, moment: datetime) -> Node:
    """The node as it would be compiled at a moment. Raises InvalidFilter where a date leaves the calendar."""
    match node:
        case And(nodes) | Or(nodes) | Nor(nodes):
            return replace(node, children=tuple(as_of(child, moment) for child in nodes))
        case Not(child):
            return replace(node, child=as_of(child, moment))
        case Condition(_, _, operand, place):
            return replace(node, operand=_value_at(operand, place, moment))
        case ElementMatch(_, query) | Related(query=query):
            return replace(node, query=as_of(query, moment))
        case ElementIs(_, conditions):
            return replace(node, conditions=tuple(as_of(condition, moment) for condition in conditions))
        case Expression(document):
            return replace(node, document=_value_at(document, node.place, moment))
    return node


def relative_dates(node: Node) -> Iterator[Mapping[str, Any]]:
    """The dates relative to now that a node on the record's own fields compares with, as they are written."""
    match node:
        case Condition(_, _, operand):
            for value in operand if isinstance(operand, list) else [operand]:
                if isinstance(value, FoldedDate):
                    yield value.written
        case ElementMatch(_, query):
            yield from relative_dates(query)
        case ElementIs(_, conditions):
            for condition in conditions:
                yield from relative_dates(condition)
        case _:
            for child in children(node):
                yield from relative_dates(child)


def depends_on_more(node: Node) -> bool:
    """Whether what a node says depends on now by more than dates beside the record's own fields.

    That is $$NOW in an expression, and whatever is relative to now in a condition on related records.
    """
    match node:
        case Expression(document):
            return _holds_now(document)
        case Related(query=query):
            return any(True for _ in relative_dates(query)) or depends_on_more(query)
    return any(map(depends_on_more, children(node)))


def _value_at(value: Any, place: str, moment: datetime) -> Any:
    match value:
        case FoldedDate(written=written):
            return FoldedDate.of(written, place, moment)
        case Now():
            return Now.of(moment)
        case dict():
            return {key: _value_at(item, place, moment) for key, item in value.items()}
        case list():
            return [_value_at(item, place, moment) for item in value]
    return value


def _holds_now(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_holds_now, value.values() if isinstance(value, dict) else value))
    return isinstance(value, Now)
