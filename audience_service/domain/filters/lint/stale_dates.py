"""The lint rule on frozen windows: "the last 30 days" written as a fixed date, which is 31 days ago tomorrow.

A fixed date in the recent past is reported if it bounds a field from one side only, in two cases:

1. From below, on any field: {"openedAt": {"$gte": "2026-03-25"}} probably means "opened in the last 30 days".
2. From above, on a field whose name starts with `last`: {"lastEmailOpenedAt": {"$lt": "2026-03-25"}} probably means
   "not opened recently". On other fields a fixed day is as likely: "created before the new prices".

A field with bounds on both sides describes a fixed period.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from audience_service.domain.filters.ast import Condition
from audience_service.domain.filters.dates import read_instant
from audience_service.domain.filters.describe.values import describe_date, format_count
from audience_service.domain.filters.lint.conjunctions import Conjunction, unwrap_negation
from audience_service.domain.filters.lint.linted_filter import LintedFilter
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule
from audience_service.domain.filters.relative_dates import NOW, ResolvedDate

MAX_AGE = timedelta(days=400)
"""The oldest date that may be a rolling window: a year, plus some time since the filter was written."""

_BELOW, _ABOVE = "below", "above"
_SIDES = {"$gt": _BELOW, "$gte": _BELOW, "$lt": _ABOVE, "$lte": _ABOVE}
_OTHER_SIDE = {_BELOW: _ABOVE, _ABOVE: _BELOW}
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


def find_stale_dates(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The fixed dates that look like rolling windows."""
    for conjunction in linted.conjunctions:
        bounds = list(_bounds(conjunction))
        sides = {(condition.path, side) for condition, side in bounds}
        for condition, side in bounds:
            age = _age(condition.operand, linted.now)
            if age is None or (condition.path, _OTHER_SIDE[side]) in sides:
                continue
            if side == _BELOW or _is_last(conjunction.path(condition.path)):
                yield _stale_date(condition, side, age)


def _bounds(conjunction: Conjunction) -> Iterator[tuple[Condition, str]]:
    """The conditions that bound a field, each with its side. A negated condition bounds from the other side."""
    for node in conjunction.nodes:
        inner_node, is_positive = unwrap_negation(node)
        if isinstance(inner_node, Condition) and (side := _SIDES.get(inner_node.operator.name)):
            yield inner_node, side if is_positive else _OTHER_SIDE[side]


def _age(operand: Any, now: datetime) -> timedelta | None:
    """The age of a fixed date; None if the operand is not one, or not in the recent past."""
    if isinstance(operand, ResolvedDate):
        return None
    if isinstance(operand, datetime):
        timestamp = operand if operand.tzinfo else operand.replace(tzinfo=UTC)
    elif instant := read_instant(operand):
        timestamp = instant.timestamp
    else:
        return None
    return now - timestamp if timedelta() < now - timestamp <= MAX_AGE else None


def _is_last(path: str) -> bool:
    return path.rpartition(".")[2].lower().startswith("last")


def _stale_date(condition: Condition, side: str, age: timedelta) -> FilterWarning:
    unit, amount = ("day", age // _DAY) if age >= _DAY else ("hour", max(age // _HOUR, 1))
    rolling = json.dumps({"$dateSubtract": {"startDate": NOW, "unit": unit, "amount": amount}})
    size = format_count(amount, unit)
    intent = f"the last {size}" if side == _BELOW else f"dates more than {size} ago"
    return FilterWarning(
        condition.field_path,
        LintRule.FROZEN_WINDOW,
        f"is {describe_date(condition.operand)}, {size} ago, and does not move as time passes; "
        f"for {intent} write {rolling}",
    )
