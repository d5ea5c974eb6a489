"""Windows that were frozen: "the last 30 days" written as a date, which is 31 days ago tomorrow.

A fixed date in the recent past that bounds a field from one side alone looks like one. From below it does on any field:
"opened since". From above it does on a field that is named for the last of something, `lastEmailOpenedAt`: "not opened
since". On others, "made before the new prices", a day that stays is as likely meant; and a field that is bounded from
both sides is held to a period, which stays.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from audience_service.domain.filters.ast import Condition, Node
from audience_service.domain.filters.dates import read_instant
from audience_service.domain.filters.describe.values import describe_date, format_count
from audience_service.domain.filters.lint.conjunctions import Conjunction, conjunctions, unwrap_negation
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule
from audience_service.domain.filters.relative_dates import NOW, ResolvedDate

MAX_AGE = timedelta(days=400)
"""How far back a rolling window may be thought to reach: a year, and some time since the filter was written."""

_BELOW, _ABOVE = "below", "above"
_SIDES = {"$gt": _BELOW, "$gte": _BELOW, "$lt": _ABOVE, "$lte": _ABOVE}
_OTHER_SIDE = {_BELOW: _ABOVE, _ABOVE: _BELOW}
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


def find_stale_dates(node: Node, now: datetime) -> Iterator[FilterWarning]:
    """The fixed dates that look like rolling windows."""
    for conjunction in conjunctions(node, ""):
        bounds = list(_bounds(conjunction))
        sides = {(condition.path, side) for condition, side in bounds}
        for condition, side in bounds:
            age = _age(condition.operand, now)
            if age is None or (condition.path, _OTHER_SIDE[side]) in sides:
                continue
            if side == _BELOW or _is_last(conjunction.path(condition.path)):
                yield _stale_date(condition, side, age)


def _bounds(conjunction: Conjunction) -> Iterator[tuple[Condition, str]]:
    """The conditions that bound a field, and from where; to deny one bounds it from the other side."""
    for node in conjunction.nodes:
        inner_node, is_positive = unwrap_negation(node)
        if isinstance(inner_node, Condition) and (side := _SIDES.get(inner_node.operator.name)):
            yield inner_node, side if is_positive else _OTHER_SIDE[side]


def _age(operand: Any, now: datetime) -> timedelta | None:
    """How long ago a fixed date is, None where it is none or not of the recent past."""
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
    intent = f"the last {size}" if side == _BELOW else f"what is longer ago than {size}"
    return FilterWarning(
        condition.field_path,
        LintRule.FROZEN_WINDOW,
        f"is {describe_date(condition.operand)}, {size} ago, and stays there while time goes on; "
        f"for {intent} at each use write {rolling}",
    )
