"""The fields of a record that a filter reads."""

from collections.abc import Iterator, Sequence

from audience_service.domain.filters.ast import (
    Condition,
    ElementIs,
    ElementMatch,
    Expression,
    Node,
    RecordDate,
    Related,
    children,
)
from audience_service.domain.filters.audience_inlining import NOT_ARCHIVED
from audience_service.domain.filters.near_city import NearCity
from audience_service.domain.filters.rebase_dates import record_timezones


def used_fields(node: Node) -> list[str]:
    """The paths in the record that the conditions read, in order, each once.

    The paths of inlined audiences are included. The active guard and the fields of related records are not.
    """
    return list(dict.fromkeys(_paths(node)))


def further_paths(node: Condition | ElementMatch | ElementIs) -> Iterator[str]:
    """The paths in the record that a condition reads in addition to its own field."""
    for timezone in record_timezones(node):
        yield timezone.path
    if isinstance(node, Condition) and isinstance(node.operand, NearCity) and node.operand.country:
        yield node.operand.country


def _paths(node: Node, prefix: str = "") -> Iterator[str]:
    if node is NOT_ARCHIVED:
        return
    match node:
        case Condition(path) | ElementIs(path):
            yield _join_path(prefix, path)
            yield from further_paths(node)
        case ElementMatch(path, query):
            inner = list(_paths(query, _join_path(prefix, path)))
            yield from inner or [_join_path(prefix, path)]
        case Expression(_, fields):
            yield from fields
        case Related(steps=steps):
            yield from (step.local for step in steps)
            yield from (date.record_path for date in node.record_dates)
        case RecordDate(path):
            yield path
        case _:
            yield from _paths_of_each(children(node), prefix)


def _paths_of_each(nodes: Sequence[Node], prefix: str) -> Iterator[str]:
    for node in nodes:
        yield from _paths(node, prefix)


def _join_path(prefix: str, path: str) -> str:
    return ".".join(part for part in (prefix, path) if part)
