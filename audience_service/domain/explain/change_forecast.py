"""When time alone may change whether a condition holds for a record that stays as it is.

A condition on a relative date changes only when that date passes one that the record has. So few moments come into
question, and at each the database can be asked: whatever holds between two of them holds all the time between.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.record import Record
from audience_service.domain.filters.ast import Condition, ElementIs, ElementMatch, Node, walk
from audience_service.domain.filters.date_timeline import RelativeDateTimeline
from audience_service.domain.filters.dates import neighbours
from audience_service.domain.filters.rebase_dates import has_other_time_dependence, relative_dates
from audience_service.domain.schema.projection import get_path

FORECAST_RANGE = timedelta(days=3_653)
"""How far ahead is looked: ten years."""


@dataclass(frozen=True, slots=True)
class ChangeTimes:
    """The moments at which what a node says of a record may change, in order; `unknown` if it may at others, too."""

    times: tuple[datetime, ...]
    unknown: bool


class ChangeForecaster:
    """The years from a moment on. Keeps how the relative dates in them move, of however many nodes and records.

    To find how one moves takes up to some seconds where it is made of many others, and a filter may hold hundreds.
    """

    def __init__(self, start: datetime, deadline: Deadline, forecast_range: timedelta = FORECAST_RANGE) -> None:
        self._start = start
        self._end = start + forecast_range
        self._deadline = deadline
        self._timelines: dict[str, RelativeDateTimeline] = {}

    def forecast(self, node: Node, record: Record) -> ChangeTimes:
        """What is to be expected of a resolved node on a record, which has all that the node's conditions are on.

        Raises OutOfTime.
        """
        times: set[datetime] = set()
        for condition in walk(node):
            if isinstance(condition, Condition | ElementMatch | ElementIs):
                written = list(relative_dates(condition))
                values = set(_iter_dates(_value_near(record, condition.path))) if written else ()
                times.update(
                    instant for date in written for value in values for instant in self._crossing_times(date, value)
                )
        return ChangeTimes(tuple(sorted(times)), has_other_time_dependence(node))

    def _crossing_times(self, written: Any, value: datetime) -> tuple[datetime, ...]:
        key = repr(written)
        if key not in self._timelines:
            self._deadline.check()
            self._timelines[key] = RelativeDateTimeline(written, self._start, self._end)
        return self._timelines[key].crossings(value)


def _value_near(record: Record, path: str) -> Any:
    """What stands at a path; where it leads through a place in a list, what stands in the field that it begins with."""
    steps = path.split(".")
    through_list = any(step.isdecimal() for step in steps)
    return get_path(record, steps[: 2 if steps[0] == "data" else 1] if through_list else steps)


def _iter_dates(value: Any) -> Iterator[datetime]:
    """All dates in a value, stored as such or as text, which may lie between two."""
    match value:
        case datetime():
            yield value
        case str():
            yield from neighbours(value)
        case dict() | list():
            for item in value.values() if isinstance(value, dict) else value:
                yield from _iter_dates(item)
