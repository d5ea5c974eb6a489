"""Nodes as of another time: which of their parts depend on now, and their values at a timestamp."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from audience_service.domain.filters.ast import (
    Aggregate,
    And,
    Condition,
    ElementIs,
    ElementMatch,
    Expression,
    Having,
    Node,
    Nor,
    Not,
    Or,
    Related,
    children,
)
from audience_service.domain.filters.moving_operands import MovingOperand
from audience_service.domain.filters.relative_dates import Now, ResolvedDate


def evaluate_as_of(node: Node, timestamp: datetime) -> Node:
    """The node with its relative dates evaluated at a timestamp. Raises InvalidFilter if a date leaves the calendar."""
    match node:
        case And(nodes) | Or(nodes) | Nor(nodes):
            return replace(node, children=tuple(evaluate_as_of(child, timestamp) for child in nodes))
        case Not(child):
            return replace(node, child=evaluate_as_of(child, timestamp))
        case Condition(_, _, operand, field_path):
            return replace(node, operand=_value_at(operand, field_path, timestamp))
        case ElementMatch(_, query):
            return replace(node, query=evaluate_as_of(query, timestamp))
        case Related():
            rebased = node.with_queries(lambda query: evaluate_as_of(query, timestamp))
            if isinstance(node.test, Having):
                aggregates = tuple(_rebased(each, timestamp) for each in node.test.aggregates)
                return replace(rebased, test=replace(node.test, aggregates=aggregates))
            return rebased
        case ElementIs(_, conditions):
            return replace(node, conditions=tuple(evaluate_as_of(condition, timestamp) for condition in conditions))
        case Expression(document):
            return replace(node, document=_value_at(document, node.field_path, timestamp))
    return node


def relative_dates(node: Node) -> Iterator[Mapping[str, Any]]:
    """The relative dates, as expressions, with which a node compares the record's own fields."""
    match node:
        case Condition(_, _, operand):
            for value in operand if isinstance(operand, list) else [operand]:
                if isinstance(value, ResolvedDate):
                    yield value.expression
        case ElementMatch(_, query):
            yield from relative_dates(query)
        case ElementIs(_, conditions):
            for condition in conditions:
                yield from relative_dates(condition)
        case _:
            for child in children(node):
                yield from relative_dates(child)


def moving_operands(node: Node, prefix: str = "") -> Iterator[tuple[str, MovingOperand]]:
    """The operands that move in other ways than relative dates, each with the path of the record's field."""
    match node:
        case Condition(path, _, MovingOperand() as operand) if operand.is_moving:
            yield f"{prefix}{path}".rstrip("."), operand
        case ElementMatch(path, query):
            yield from moving_operands(query, f"{prefix}{path}.")
        case ElementIs(path, conditions):
            for condition in conditions:
                yield from moving_operands(condition, f"{prefix}{path}.")
        case _:
            for child in children(node):
                yield from moving_operands(child, prefix)


def has_other_time_dependence(node: Node) -> bool:
    """Whether a node depends on now by more than its `relative_dates` and `moving_operands`.

    Examples are $$NOW in an expression, and relative dates in conditions on related records.
    """
    match node:
        case Expression(document):
            return _contains_now(document)
        case Related(queries=queries, test=test):
            aggregates = test.aggregates if isinstance(test, Having) else ()
            bounds = [bound for aggregate in aggregates for bound in aggregate.bounds]
            is_moving = any(
                True for each in (*queries, *bounds) for _ in (*relative_dates(each), *moving_operands(each))
            )
            return is_moving or any(map(has_other_time_dependence, queries))
    return any(map(has_other_time_dependence, children(node)))


def _rebased(aggregate: Aggregate, timestamp: datetime) -> Aggregate:
    bounds = [replace(each, operand=_value_at(each.operand, each.field_path, timestamp)) for each in aggregate.bounds]
    return replace(aggregate, bounds=tuple(bounds))


def _value_at(value: Any, field_path: str, timestamp: datetime) -> Any:
    match value:
        case ResolvedDate(expression=expression):
            return ResolvedDate.of(expression, field_path, timestamp)
        case MovingOperand():
            return value.at(field_path, timestamp)
        case Now():
            return Now.of(timestamp)
        case dict():
            return {key: _value_at(item, field_path, timestamp) for key, item in value.items()}
        case list():
            return [_value_at(item, field_path, timestamp) for item in value]
    return value


def _contains_now(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_contains_now, value.values() if isinstance(value, dict) else value))
    return isinstance(value, Now)
