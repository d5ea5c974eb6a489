"""Lint rules on operands that are dates, or nearly dates, in fields that hold dates.

A day alone means midnight in UTC. {"openedAt": "2026-11-29"} matches that instant only, and {"$lte": "2026-11-29"}
leaves out the day itself.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from audience_service.domain.filters.ast import Condition, Expression
from audience_service.domain.filters.dates import read_instant
from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.fields import display_path
from audience_service.domain.filters.lint.conjunctions import unwrap_negation
from audience_service.domain.filters.lint.field_index import FieldIndex
from audience_service.domain.filters.lint.fields import percent
from audience_service.domain.filters.lint.linted_filter import LintedFilter
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule
from audience_service.domain.filters.near_date_check import ORDERS, near_date
from audience_service.domain.filters.near_dates import is_unmistakable, suggest
from audience_service.domain.filters.record_timezones import ZonedDate, read_record_timezone
from audience_service.domain.filters.relative_dates import ResolvedDate

_EQUALITIES = ("$eq", "$ne", "$in", "$nin", "$all")
_COMPARISONS = ("$eq", "$ne", "$cmp", *ORDERS)
_DAY_OPERATORS = (*_EQUALITIES, "$lte", "$gt")
_DAYS = ("day", "week", "month", "quarter", "year")
_DATE_RESULTS = ("$dateAdd", "$dateSubtract", "$dateTrunc", "$toDate", "$dateFromString")
_DAY_LENGTH = len("2026-03-25")


def find_days(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The days alone in fields whose dates have a time, and midnights of a timezone in fields that hold days alone."""
    for conjunction, node, index in linted.own_conditions():
        if not isinstance(node, Condition) or node.operator.name not in (*_EQUALITIES, *ORDERS):
            continue
        profile = index.profile(conjunction.path(node.path))
        days = [value for value in _operands(node) if _is_day(value)]
        if profile and profile.timed_dates == 0 and _has_dates(profile) and (timezone := _midnight_timezone(node)):
            text = _days_text(node, display_path(conjunction.path(node.path)), timezone)
            yield FilterWarning(node.field_path, LintRule.DAY_IS_MIDNIGHT, text)
        if profile and profile.timed_dates > 0 and days and node.operator.name in _DAY_OPERATORS:
            text = f"means {days[0]} 00:00 UTC alone, not the day; {_range(node.operator.name, days[0])}"
            yield FilterWarning(node.field_path, LintRule.DAY_IS_MIDNIGHT, text)


def find_near_dates(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The texts that are no dates, compared with a field that holds dates or may hold them."""
    yield from _compared_as_text(linted)
    for conjunction, node, index in linted.own_conditions():
        if isinstance(node, Expression):
            yield from _in_expression(node, node.document, index)
        if not isinstance(node, Condition) or not _has_dates(index.profile(conjunction.path(node.path))):
            continue
        is_order = node.operator.name in ORDERS
        if not is_order and node.operator.name not in _EQUALITIES:
            continue
        for value in _operands(node):
            suggestion = suggest(value) if isinstance(value, str) and not isinstance(value, ResolvedDate) else ""
            if suggestion or (is_order and isinstance(value, str) and not read_instant(value)):
                advice = suggestion or 'a date, like "2026-03-25"'
                field = display_path(conjunction.path(node.path))
                text = f"compares {field}, which holds dates, with text that is not a date; write {advice}"
                yield FilterWarning(node.field_path, LintRule.NOT_A_DATE, text)
                break


def _compared_as_text(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The bounds that are almost a date, of fields that hold other text or are unknown: they are compared as text."""
    for conjunction in linted.conjunctions:
        index = linted.indexes.get(conjunction.datatype)
        for found in conjunction.nodes:
            node = unwrap_negation(found)[0]
            if not isinstance(node, Condition) or not (suggestion := near_date(node)):
                continue
            profile = index.profile(conjunction.path(node.path)) if index else None
            holds_text = profile is not None and profile.types.get("string", 0) > 0
            if not _has_dates(profile) and (is_unmistakable(node.operand) if holds_text else index is None):
                field = display_path(conjunction.path(node.path))
                text = f"compares {field} with text, character by character; if it means a date, write {suggestion}"
                yield FilterWarning(node.field_path, LintRule.NOT_A_DATE, text)


def _in_expression(node: Expression, value: Any, index: FieldIndex) -> Iterator[FilterWarning]:
    """The comparisons in an expression of a field that holds dates with text: a date is greater than any text."""
    if isinstance(value, Mapping):
        for name, argument in value.items():
            if name in _COMPARISONS and isinstance(argument, list) and len(argument) == 2:
                paths = [item[1:] for item in argument if isinstance(item, str) and item.startswith("$")]
                texts = [item for item in argument if isinstance(item, str) and not item.startswith("$")]
                texts = [text for text in texts if read_instant(text) or suggest(text)]
                if paths and texts and (profile := index.profile(paths[0])) and profile.types.get("date", 0) > 0:
                    field = display_path(paths[0])
                    advice = suggest(texts[0]) or json.dumps({"$toDate": texts[0]})
                    text = (
                        f"compares {field}, which holds dates, with text; an expression does not convert it; "
                        f"write {advice}"
                    )
                    yield FilterWarning(node.field_path, LintRule.NOT_A_DATE, text)
                yield from _text_dates(node, argument, index)
            yield from _in_expression(node, argument, index)
    elif isinstance(value, list):
        for item in value:
            yield from _in_expression(node, item, index)


def _text_dates(node: Expression, sides: Sequence[Any], index: FieldIndex) -> Iterator[FilterWarning]:
    """The comparison of a field that holds dates as text with a date: a date is greater than every text."""
    for side, other in (sides, sides[::-1]):
        profile = index.profile(side[1:]) if isinstance(side, str) and side.startswith("$") else None
        if profile and profile.date_texts > 0 and _gives_date(other):
            field = display_path(side[1:])
            text = (
                f"compares a date with {field}, which is text in {percent(profile.date_texts)} of the sampled records; "
                f'write {{"$toDate": "${field}"}}'
            )
            yield FilterWarning(node.field_path, LintRule.NOT_A_DATE, text)


def _gives_date(value: Any) -> bool:
    """Whether an expression gives a date, whatever the record."""
    if isinstance(value, Mapping):
        [(name, argument)] = value.items()
        shifts_now = name in ("$subtract", "$add") and isinstance(argument, list) and isinstance(argument[0], datetime)
        return name in _DATE_RESULTS or shifts_now
    return isinstance(value, datetime)


def _operands(node: Condition) -> Sequence[Any]:
    return node.operand if node.operator.name in ("$in", "$nin", "$all") else [node.operand]


def _is_day(value: Any) -> bool:
    is_text = isinstance(value, str) and not isinstance(value, ResolvedDate) and len(value) == _DAY_LENGTH
    return is_text and read_instant(value) is not None


def _midnight_timezone(node: Condition) -> Any:
    """The timezone of an operand that is the start of a day there, and not of a day in UTC; empty for others."""
    for value in _operands(node):
        is_zoned = isinstance(value, ZonedDate)
        if (
            isinstance(value, ResolvedDate)
            and (instant := read_instant(value))
            and (is_zoned or not instant.is_midnight)
        ):
            expression: Any = value.expression
            while "$dateTrunc" not in expression and isinstance(inner := _start_date(expression), Mapping):
                expression = inner
            truncated = expression.get("$dateTrunc", {})
            if truncated.get("unit") in _DAYS and "timezone" in truncated:
                return truncated["timezone"]
    return ""


def _start_date(expression: Mapping[str, Any]) -> Any:
    return next(iter(expression.values())).get("startDate")


def _days_text(node: Condition, field: str, timezone: Any) -> str:
    day, zone = '"format": "%Y-%m-%d"', json.dumps(timezone)
    is_zoned = read_record_timezone(timezone, "") is not None
    where = "the timezone of the record" if is_zoned else timezone
    problem = f"compares {field}, which holds days at 00:00 UTC, with 00:00 in {where}"
    if node.operator.name not in ORDERS and not is_zoned:
        now = '{"$dateAdd": {"startDate": "$$NOW", ..., "timezone": ' + zone + "}}"
        return f'{problem}; for a day in {timezone} write {{"$onDay": {now}}}'
    stored, now = f'{{"$dateToString": {{"date": {{"$toDate": "${field}"}}, {day}}}}}', '"date": {"$dateAdd": ...}'
    return (
        f"{problem}; to compare the days write $expr "
        f'with {stored} and {{"$dateToString": {{{now}, {day}, "timezone": {zone}}}}}'
    )


def _has_dates(profile: FieldProfile | None) -> bool:
    return profile is not None and (profile.types.get("date", 0) > 0 or profile.date_texts > 0)


def _range(operator: str, day: str) -> str:
    try:
        after = (date.fromisoformat(day) + timedelta(days=1)).isoformat()
    except OverflowError:
        return "write a range"
    if operator == "$lte":
        return f'to include the day write {{"$lt": "{after}"}}'
    if operator == "$gt":
        return f'to leave out the day write {{"$gte": "{after}"}}'
    on_day = f'{{"$onDay": "{day}"}}'
    return f"for the day write {on_day}" if operator in ("$eq", "$in", "$all") else f'write {{"$not": {on_day}}}'
