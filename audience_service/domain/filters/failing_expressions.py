"""The records on which the lenient expressions ($tryExpr) of a filter fail, for a warning with their number."""

from collections.abc import Iterator
from dataclasses import dataclass

from audience_service.domain.filters.ast import (
    And,
    Expression,
    InAudience,
    Node,
    Nor,
    Not,
    Or,
    Related,
    joins,
    walk,
)
from audience_service.domain.filters.audience_inlining import with_active_guard
from audience_service.domain.filters.compiler import to_match
from audience_service.domain.filters.expression_guards import can_evaluate
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule

_MAX_COUNTED = 10
"""The most expressions of a filter whose failures are counted."""


@dataclass(frozen=True, slots=True)
class FailingRecords:
    """The records of a datatype that meet the plain conditions next to an expression, but on which it fails."""

    field_path: str
    datatype: str
    match: Document

    def warning(self, count: int | None) -> FilterWarning | None:
        """The warning that there are `count` such records; None if there are none. A `count` of None is not known."""
        if count is None:
            text = "may fail on records, which do not match then; counting them took too long"
        else:
            records = "1 record, which does" if count == 1 else f"{count:,} records, which do"
            text = f"fails on {records} not match"
        return None if count == 0 else FilterWarning(self.field_path, LintRule.EXPRESSION_FAILS, text)


def failing_records(node: Node, datatype: str) -> list[FailingRecords]:
    """The failing records of each lenient expression of a parsed filter, for the first ten expressions."""
    found = _find(with_active_guard(node, node), datatype, ())
    return [failing for failing, _ in zip(found, range(_MAX_COUNTED), strict=False)]


def _find(node: Node, datatype: str, guards: tuple[Node, ...]) -> Iterator[FailingRecords]:
    match node:
        case And(nodes):
            plain = [child for child in nodes if _is_plain(child)]
            for child in nodes:
                yield from _find(child, datatype, (*guards, *(guard for guard in plain if guard is not child)))
        case Or(nodes) | Nor(nodes):
            for child in nodes:
                yield from _find(child, datatype, guards)
        case Not(child):
            yield from _find(child, datatype, guards)
        case Related(datatype=related, query=query):
            guarded = with_active_guard(query, query)
            yield from _find(guarded, related, ())
            for inner in node.queries[1:]:
                yield from _find(inner, related, (guarded,) if _is_plain(guarded) else ())
        case Expression(document, fields, field_path, is_lenient=True):
            failing = Nor((Expression({"$and": [can_evaluate(document)]}, fields),))
            yield FailingRecords(field_path, datatype, to_match(And((*guards, failing))))


def _is_plain(node: Node) -> bool:
    """Whether a condition reads the record alone, and never fails."""
    return not joins(node) and not any(isinstance(inner, Expression | InAudience) for inner in walk(node))
