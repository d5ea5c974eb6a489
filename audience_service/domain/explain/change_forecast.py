"""The times at which a condition may change for a record that itself does not change.

For example, a contact last opened an email on 1 April 2026 at 10:00, and the filter is

    {"lastEmailOpenedAt": {"$gte": {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}}}

The relative date reaches 1 April, 10:00 on 1 May at 10:00, and exceeds it one millisecond later. So the forecast from
24 April on is (1 May 10:00:00.000, 1 May 10:00:00.001). The database evaluates the condition at both times: it holds at
the first, and no longer at the second.

1. A condition changes its value only when a relative date in it reaches or leaves a date of the record. Moving operands
   compute their own times.
2. Between two forecast times the condition keeps its value, so evaluating it at the forecast times is enough.
3. A forecast may contain times at which the value stays the same. It misses no change, unless `unknown` is set.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.record import Record
from audience_service.domain.filters.ast import Condition, ElementIs, ElementMatch, Node, walk
from audience_service.domain.filters.date_timeline import RelativeDateTimeline
from audience_service.domain.filters.dates import neighbours
from audience_service.domain.filters.moving_operands import MovingOperand, Period
from audience_service.domain.filters.rebase_dates import has_other_time_dependence, moving_operands, relative_dates
from audience_service.domain.filters.record_timezones import ZonedDate, representative
from audience_service.domain.filters.relative_dates import ResolvedDate
from audience_service.domain.filters.zoned_operands import ZonedOperand
from audience_service.domain.schema.projection import get_path

FORECAST_RANGE = timedelta(days=3_653)
"""How far ahead changes are forecast: ten years."""


@dataclass(frozen=True, slots=True)
class ChangeTimes:
    """The times, in order, at which a node's value for a record may change; `unknown`: it may at other times, too."""

    times: tuple[datetime, ...]
    unknown: bool


class ChangeForecaster:
    """Forecasts changes from `start` on, for any number of nodes and records.

    It caches the timeline of each relative date: a nested one takes up to some seconds, and a filter may have hundreds.
    """

    def __init__(self, start: datetime, deadline: Deadline, forecast_range: timedelta = FORECAST_RANGE) -> None:
        self._start = start
        self._end = start + forecast_range
        self._deadline = deadline
        self._timelines: dict[str, RelativeDateTimeline] = {}
        self._period = Period(self._start, self._end, self._timeline)

    def forecast(self, node: Node, record: Record) -> ChangeTimes:
        """The times at which a resolved node may change for a record, which must have the fields that the node reads.

        Raises OutOfTime.
        """
        times: set[datetime] = set()
        for condition in walk(node):
            if isinstance(condition, Condition | ElementMatch | ElementIs):
                expressions = [found for date in relative_dates(condition) for found in _expressions(date, record)]
                operands = [found for _, operand in moving_operands(condition) for found in _operands(operand, record)]
                if not expressions and not operands:
                    continue
                leaves = list(_iter_leaves(_value_near(record, condition.path)))
                values = {value for leaf in leaves for value in _dates_near(leaf)}
                times.update(
                    time for each in expressions for value in values for time in self._timeline(each).crossings(value)
                )
                for operand in operands:
                    times.update(operand.change_times(leaves, self._period))
        return ChangeTimes(tuple(sorted(times)), has_other_time_dependence(node))

    def _timeline(self, expression: Mapping[str, Any]) -> RelativeDateTimeline:
        key = repr(expression)
        if key not in self._timelines:
            self._deadline.check()
            self._timelines[key] = RelativeDateTimeline(expression, self._start, self._end)
        return self._timelines[key]


def _expressions(date: ResolvedDate, record: Record) -> list[Mapping[str, Any]]:
    """The expressions of a relative date for a record: one, or one for each timezone that the record names."""
    if not isinstance(date, ZonedDate):
        return [date.expression]
    names = date.timezone.names_in(get_path(record, date.timezone.path.split(".")))
    return [date.in_timezone(name) for name in dict.fromkeys(map(representative, names))]


def _operands(operand: MovingOperand, record: Record) -> Sequence[MovingOperand]:
    """A moving operand for a record: itself, or one for each timezone that the record names."""
    if not isinstance(operand, ZonedOperand):
        return [operand]
    return operand.of_values(get_path(record, operand.timezone.path.split(".")))


def _value_near(record: Record, path: str) -> Any:
    """The value at a path, or the value of its top-level field if the path contains a list index."""
    steps = path.split(".")
    through_list = any(step.isdecimal() for step in steps)
    return get_path(record, steps[: 2 if steps[0] == "data" else 1] if through_list else steps)


def _iter_leaves(value: Any) -> Iterator[datetime | str]:
    """All dates and texts in a value."""
    match value:
        case datetime() | str():
            yield value
        case dict() | list():
            for item in value.values() if isinstance(value, dict) else value:
                yield from _iter_leaves(item)


def _dates_near(leaf: datetime | str) -> tuple[datetime, ...]:
    """The date that a stored value spells. Text that is not a valid date has two neighbours."""
    return (leaf,) if isinstance(leaf, datetime) else neighbours(leaf)
