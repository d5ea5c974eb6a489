"""The records that a filter cannot evaluate as written, for warnings with their number.

They are those on which a lenient expression ($tryExpr) fails, and those without a timezone that a date needs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from audience_service.domain.filters.ast import (
    And,
    Condition,
    ElementIs,
    ElementMatch,
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
from audience_service.domain.filters.fields import display_path
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule
from audience_service.domain.filters.near_city import NearCity, missing_country
from audience_service.domain.filters.rebase_dates import record_timezones
from audience_service.domain.filters.record_timezones import RecordTimezone, unknown_timezone

_MAX_COUNTED = 10
"""The most expressions and timezones of a filter whose records are counted."""


@dataclass(frozen=True, slots=True)
class FailingRecords:
    """The records of a datatype that meet the plain conditions next to an expression, but on which it fails."""

    field_path: str
    datatype: str
    match: Document

    def warning(self, count: int | None) -> FilterWarning | None:
        """The warning that there are `count` such records; None if there are none. A `count` of None is not known."""
        if count is None:
            text = "may fail on records, which do not meet it then; counting them took too long"
        else:
            records = "1 record, which does" if count == 1 else f"{count:,} records, which do"
            text = f"fails on {records} not meet it"
        return None if count == 0 else FilterWarning(self.field_path, LintRule.EXPRESSION_FAILS, text)


@dataclass(frozen=True, slots=True)
class RecordsWithoutTimezone:
    """The records of a datatype that meet the conditions next to a date in their timezone, but have no timezone."""

    field_path: str
    datatype: str
    match: Document
    timezone: RecordTimezone

    def warning(self, count: int | None) -> FilterWarning | None:
        """The warning that there are `count` such records; None if there are none. A `count` of None is not known."""
        path, default = display_path(self.timezone.path), self.timezone.default
        if count is None:
            text = f"takes {default} for records whose {path} is not a timezone; counting them took too long"
        else:
            records = "1 record" if count == 1 else f"{count:,} records"
            text = f"takes {default} for {records} whose {path} is missing or not a timezone"
        return None if count == 0 else FilterWarning(self.field_path, LintRule.UNKNOWN_TIMEZONE, text)


@dataclass(frozen=True, slots=True)
class RecordsWithoutCountry:
    """The records of a datatype that meet the conditions next to a $nearCity and name a city, but no country."""

    field_path: str
    datatype: str
    match: Document
    country: str

    def warning(self, count: int | None) -> FilterWarning | None:
        """The warning that there are `count` such records; None if there are none. A `count` of None is not known."""
        path = display_path(self.country)
        if count is None:
            text = f"is not met by records without {path}; counting them took too long"
        else:
            records = (
                "1 record that names one of the cities, but has"
                if count == 1
                else (f"{count:,} records that name one of the cities, but have")
            )
            text = f"is not met by {records} no {path}; a negation of it matches them"
        return None if count == 0 else FilterWarning(self.field_path, LintRule.UNKNOWN_COUNTRY, text)


Guards = Callable[[], tuple[Node, ...]]
"""The conditions next to a node, found only for a node that needs them: most filters have none."""

UnevaluatedRecords = FailingRecords | RecordsWithoutTimezone | RecordsWithoutCountry


def failing_records(node: Node, datatype: str) -> list[UnevaluatedRecords]:
    """The records of each lenient expression, and of each timezone field, of a parsed filter: the first ten."""
    found: dict[object, UnevaluatedRecords] = {}
    for each in _find(with_active_guard(node, node), datatype, tuple):
        key = (each.datatype, each.timezone) if isinstance(each, RecordsWithoutTimezone) else each.field_path
        found.setdefault(key, each)
        if len(found) == _MAX_COUNTED:
            break
    return list(found.values())


def _find(node: Node, datatype: str, guards: Guards) -> Iterator[UnevaluatedRecords]:
    match node:
        case And(nodes):
            for child in nodes:
                yield from _find(child, datatype, partial(_guards_of, child, nodes, guards))
        case Or(nodes) | Nor(nodes):
            for child in nodes:
                yield from _find(child, datatype, guards)
        case Not(child):
            yield from _find(child, datatype, guards)
        case Related(datatype=related, query=query):
            guarded = with_active_guard(query, query)
            yield from _find(guarded, related, tuple)
            for inner in node.own_queries[1:]:
                yield from _find(inner, related, partial(_plain_nodes, (guarded,)))
            for second in node.steps[1:]:
                yield from _find(second, second.datatype, tuple)
        case Expression(document, fields, field_path, is_lenient=True):
            failing = Nor((Expression({"$and": [can_evaluate(document)]}, fields),))
            yield FailingRecords(field_path, datatype, to_match(And((*guards(), failing))))
        case Condition(path, _, NearCity() as operand, field_path) if operand.country:
            match = {"$and": [to_match(And(guards())), missing_country(path, operand)]}
            yield RecordsWithoutCountry(field_path, datatype, match, operand.country)
        case Condition() | ElementMatch() | ElementIs():
            for timezone in record_timezones(node)[:1]:
                match = {"$and": [to_match(And(guards())), unknown_timezone(timezone)]}
                yield RecordsWithoutTimezone(node.field_path, datatype, match, timezone)


def _guards_of(child: Node, nodes: tuple[Node, ...], outer: Guards) -> tuple[Node, ...]:
    """The conditions next to a node of a conjunction, after those next to the conjunction."""
    return *outer(), *_plain_nodes(tuple(node for node in nodes if node is not child))


def _plain_nodes(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    return tuple(filter(_is_plain, nodes))


def _is_plain(node: Node) -> bool:
    """Whether a condition reads the record alone, in no timezone of its own, and never fails."""
    is_simple = not joins(node) and not any(isinstance(inner, Expression | InAudience) for inner in walk(node))
    return is_simple and not any(map(record_timezones, walk(node)))
