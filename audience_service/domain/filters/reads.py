"""Which fields of a record a filter reads."""

from collections.abc import Iterator, Sequence

from audience_service.domain.filters.nodes import (
    Condition,
    ElementIs,
    ElementMatch,
    Expression,
    Node,
    Related,
    children,
)
from audience_service.domain.filters.resolve import IN_USE


def fields_read(node: Node) -> list[str]:
    """The paths in the record that the conditions are on, in order, each once.

    Those of the audiences in a resolved filter are among them. The guard on records in use, which no caller has
    written, is passed over, and so are the fields of related records.
    """
    return list(dict.fromkeys(_paths(node)))


def _paths(node: Node, prefix: str = "") -> Iterator[str]:
    if node is IN_USE:
        return
    match node:
        case Condition(path):
            yield _joined(prefix, path)
        case ElementIs(path):
            yield _joined(prefix, path)
        case ElementMatch(path, query):
            inner = list(_paths(query, _joined(prefix, path)))
            yield from inner or [_joined(prefix, path)]
        case Expression(_, fields):
            yield from fields
        case Related(local=local):
            yield local
        case _:
            yield from _of_each(children(node), prefix)


def _of_each(nodes: Sequence[Node], prefix: str) -> Iterator[str]:
    for node in nodes:
        yield from _paths(node, prefix)


def _joined(prefix: str, path: str) -> str:
    return ".".join(part for part in (prefix, path) if part)
