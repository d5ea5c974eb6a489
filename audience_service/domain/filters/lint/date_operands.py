"""Lint rules on operands that are dates, or nearly dates, in fields that hold dates.

A day alone means midnight in UTC. {"openedAt": "2026-11-29"} matches that instant only, and {"$lte": "2026-11-29"}
leaves out the day itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from audience_service.domain.filters.ast import Condition, Expression
from audience_service.domain.filters.dates import read_instant
from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.fields import display_path
from audience_service.domain.filters.lint.field_index import FieldIndex
from audience_service.domain.filters.lint.linted_filter import LintedFilter
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule
from audience_service.domain.filters.near_dates import suggest
from audience_service.domain.filters.relative_dates import ResolvedDate

_EQUALITIES = ("$eq", "$ne", "$in", "$nin", "$all")
_ORDERS = ("$gt", "$gte", "$lt", "$lte")
_COMPARISONS = ("$eq", "$ne", "$cmp", *_ORDERS)
_DAY_LENGTH = len("2026-03-25")


def find_days(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The days alone that mean midnight, in fields whose dates have other times of day."""
    for conjunction, node, index in linted.own_conditions():
        if not isinstance(node, Condition) or node.operator.name not in (*_EQUALITIES, "$lte", "$gt"):
            continue
        profile = index.profile(conjunction.path(node.path))
        days = [value for value in _operands(node) if _is_day(value)]
        if profile and profile.timed_dates > 0 and days:
            text = f"means {days[0]} 00:00 UTC alone, not the day; {_range(node.operator.name, days[0])}"
            yield FilterWarning(node.field_path, LintRule.DAY_IS_MIDNIGHT, text)


def find_near_dates(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The texts that are no dates, compared with a field that holds dates."""
    for conjunction, node, index in linted.own_conditions():
        if isinstance(node, Expression):
            yield from _in_expression(node, node.document, index)
        if not isinstance(node, Condition) or not _has_dates(index.profile(conjunction.path(node.path))):
            continue
        is_order = node.operator.name in _ORDERS
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
                    text = (
                        f"compares {field}, which holds dates, with text; an expression does not convert it; "
                        'write {"$toDate": "2026-03-25"}'
                    )
                    yield FilterWarning(node.field_path, LintRule.NOT_A_DATE, text)
            yield from _in_expression(node, argument, index)
    elif isinstance(value, list):
        for item in value:
            yield from _in_expression(node, item, index)


def _operands(node: Condition) -> Sequence[Any]:
    return node.operand if node.operator.name in ("$in", "$nin", "$all") else [node.operand]


def _is_day(value: Any) -> bool:
    is_text = isinstance(value, str) and not isinstance(value, ResolvedDate) and len(value) == _DAY_LENGTH
    return is_text and read_instant(value) is not None


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
    day_range = f'{{"$gte": "{day}", "$lt": "{after}"}}'
    return f"for the day write {day_range}" if operator in ("$eq", "$in", "$all") else f"write {{$not: {day_range}}}"
