"""Nodes as of another time: which of their parts depend on now, and their values at a timestamp."""

from collections.abc import Callable, Iterator
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
    Then,
    children,
)
from audience_service.domain.filters.moving_operands import MovingOperand
from audience_service.domain.filters.record_timezones import RecordTimezone, ZonedDate
from audience_service.domain.filters.relative_dates import Now, ResolvedDate
from audience_service.domain.filters.zoned_operands import ZonedOperand

Change = Callable[[Any, str], Any]
"""Changes an operand, given its field path."""


def evaluate_as_of(node: Node, timestamp: datetime) -> Node:
    """The node with its relative dates evaluated at a timestamp. Raises InvalidFilter if a date leaves the calendar."""
    return change_operands(node, lambda value, field_path: _value_at(value, field_path, timestamp), timestamp)


def replace_zoned_dates(node: Node, find: Callable[[ZonedDate], Any]) -> Node:
    """The node with its dates in the timezones of records replaced by the values that `find` finds."""
    return change_operands(node, lambda value, _: _replace_dates(value, find))


def change_operands(node: Node, change: Change, timestamp: datetime | None = None) -> Node:
    """The node with each operand and each document of an expression changed.

    With a timestamp, sequences whose window must be over are judged at that time.
    """

    def inner(node: Node) -> Node:
        match node:
            case And(nodes) | Or(nodes) | Nor(nodes):
                return replace(node, children=tuple(map(inner, nodes)))
            case Not(child):
                return replace(node, child=inner(child))
            case Condition(_, _, operand, field_path):
                return replace(node, operand=change(operand, field_path))
            case ElementMatch(_, query):
                return replace(node, query=inner(query))
            case Related():
                rebased = node.with_queries(inner)
                if isinstance(node.test, Having):
                    aggregates = tuple(_with_bounds(each, change) for each in node.test.aggregates)
                    return replace(rebased, test=replace(node.test, aggregates=aggregates))
                if timestamp and isinstance(rebased.test, Then) and rebased.test.now:
                    return replace(rebased, test=replace(rebased.test, now=timestamp))
                return rebased
            case ElementIs(_, conditions):
                return replace(node, conditions=tuple(map(inner, conditions)))
            case Expression(document):
                return replace(node, document=change(document, node.field_path))
        return node

    return inner(node)


def relative_dates(node: Node) -> Iterator[ResolvedDate]:
    """The relative dates with which a node compares the record's own fields."""
    match node:
        case Condition(_, _, operand):
            for value in operand if isinstance(operand, list) else [operand]:
                if isinstance(value, ResolvedDate):
                    yield value
        case ElementMatch(_, query):
            yield from relative_dates(query)
        case ElementIs(_, conditions):
            for condition in conditions:
                yield from relative_dates(condition)
        case _:
            for child in children(node):
                yield from relative_dates(child)


def zoned_dates(node: Node) -> list[ZonedDate]:
    """The relative dates of a node in the timezones of records."""
    if isinstance(node, Condition) and not isinstance(node.operand, ZonedDate | list):
        return []  # the most frequent case
    return [date for date in relative_dates(node) if isinstance(date, ZonedDate)]


def record_timezones(node: Node) -> list[RecordTimezone]:
    """The timezones of records in which the dates of a node are."""
    if isinstance(node, Condition) and isinstance(node.operand, ZonedOperand):
        return [node.operand.timezone]
    return [date.timezone for date in zoned_dates(node)]


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

    Examples are $$NOW in an expression, and relative dates and windows in conditions on related records.
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
            has_window = isinstance(test, Then) and test.now is not None
            return is_moving or has_window or any(map(has_other_time_dependence, queries))
    return any(map(has_other_time_dependence, children(node)))


def _with_bounds(aggregate: Aggregate, change: Change) -> Aggregate:
    bounds = [replace(each, operand=change(each.operand, each.field_path)) for each in aggregate.bounds]
    return replace(aggregate, bounds=tuple(bounds))


def _replace_dates(value: Any, find: Callable[[ZonedDate], Any]) -> Any:
    if isinstance(value, list):
        return [_replace_dates(item, find) for item in value]
    return find(value) if isinstance(value, ZonedDate) else value


def _value_at(value: Any, field_path: str, timestamp: datetime) -> Any:
    match value:
        case ResolvedDate(expression=expression):
            return type(value).of(expression, field_path, timestamp)
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
