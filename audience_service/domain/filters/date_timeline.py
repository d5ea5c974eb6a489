"""The timeline of a relative date: how its value changes as time passes, and when it crosses a given value.

For example, "1 month ago" repeats 28 February four times, since the month is too short for the 29th to the 31st:

    now           28 March           29 March           30 March           31 March           1 April
    1 month ago   28 Feb 00:00..24   28 Feb 00:00..24   28 Feb 00:00..24   28 Feb 00:00..24   1 March
                                   ^ falls back       ^ falls back       ^ falls back

It crosses 28 February, 06:00 on each of the four days at 06:00, and at each midnight at which it falls back.

1. A date falls back only at a discontinuity: at the days that a shorter month lacks, or when clocks are put back.
   Another kind are the ends of the times of day that clocks skip.
2. Between two discontinuities the date never falls back, so a binary search finds when it reaches a value.
3. `_discontinuities` may return instants at which the date does not fall back; it misses none.
4. For nested expressions the discontinuities of the inner date are discontinuities of the outer one as well.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache
from itertools import pairwise
from typing import Any

from audience_service.domain.core.clock import MILLISECOND
from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters.relative_dates import DAY_BASED, MONTH_BASED, evaluate, read_timezone, shift

_SHORTEST_MONTH = 28
_CLAMPED_DAYS = 4
"""The days that map to the same day of a shorter month: the 28th to the 31st."""
_START, _END = datetime(1, 1, 10, tzinfo=UTC), datetime(9999, 12, 20, tzinfo=UTC)
"""The range in which a timezone offset and a few days do not leave the calendar."""


class RelativeDateTimeline:
    """A relative date, as an expression, from one instant up to another, both in whole milliseconds."""

    def __init__(self, expression: Mapping[str, Any], since: datetime, until: datetime) -> None:
        self._expression = expression
        self._since = since
        starts = [since, *_discontinuities(expression, since, until)]
        self._pieces = [
            (start, end, _evaluate_at(expression, start), _evaluate_at(expression, end - MILLISECOND))
            for start, end in pairwise([*starts, until])
        ]
        self.crossings = cache(self._crossings)

    @property
    def span(self) -> tuple[datetime, datetime]:
        """The earliest and the latest value of the date."""
        return min(first for *_, first, _ in self._pieces), max(last for *_, last in self._pieces)

    def _crossings(self, value: datetime) -> tuple[datetime, ...]:
        """The instants after `since`, in order, from which on the date is before, equal to or after a value."""
        return tuple(dict.fromkeys(timestamp for timestamp in self._crossing_times(value) if timestamp > self._since))

    def _crossing_times(self, value: datetime) -> Iterator[datetime]:
        before: datetime | None = None
        for start, end, first, last in self._pieces:
            if before is not None and _compare(before, value) != _compare(first, value):
                yield start
            if first < value <= last:
                yield _bisect(start, end, lambda timestamp: _evaluate_at(self._expression, timestamp) >= value)
            if first <= value < last:
                yield _bisect(start, end, lambda timestamp: _evaluate_at(self._expression, timestamp) > value)
            before = last


def _compare(timestamp: datetime, value: datetime) -> int:
    return (timestamp > value) - (timestamp < value)


def _evaluate_at(expression: Any, timestamp: datetime) -> datetime:
    if isinstance(expression, datetime):
        return expression
    if not isinstance(expression, Mapping):
        return timestamp
    try:
        return evaluate(expression, "", timestamp)
    except InvalidFilter:  # the expression is valid now, so at this timestamp it exceeds the year 9999
        return _END


def _discontinuities(expression: Any, since: datetime, until: datetime) -> list[datetime]:
    """The instants between the two, in order, at which the date may fall back."""
    if not isinstance(expression, Mapping):
        return []
    [(name, arguments)] = expression.items()
    inner = arguments["date" if name == "$dateTrunc" else "startDate"]
    discontinuities = _discontinuities(inner, since, until)
    if arguments["unit"] not in (*DAY_BASED, *MONTH_BASED):
        return discontinuities
    zone = read_timezone(arguments.get("timezone", "UTC"), "timezone")
    found = list(discontinuities)
    for start, end in pairwise([since, *discontinuities, until]):
        low, high = (
            _within_calendar(_evaluate_at(inner, start)),
            _within_calendar(_evaluate_at(inner, end - MILLISECOND)),
        )
        critical = list(_clock_changes(zone, low, high))
        if name != "$dateTrunc":
            amount = int(arguments["amount"]) * (1 if name == "$dateAdd" else -1)
            critical += _skipped_times(zone, low, high, arguments["unit"], amount)
            critical += _month_end_days(zone, low, high) if arguments["unit"] in MONTH_BASED else ()
        found += [_first_reaching(inner, start, end, value) for value in critical]
    return sorted({timestamp for timestamp in found if since < timestamp < until})


def _first_reaching(expression: Any, start: datetime, end: datetime, value: datetime) -> datetime:
    """The first instant at which the date is at or after a value. Between the two the date must not fall back."""
    if not isinstance(expression, Mapping):
        return value  # the date is now itself
    return _bisect(start, end, lambda timestamp: _evaluate_at(expression, timestamp) >= value)


def _clock_changes(zone: tzinfo, low: datetime, high: datetime) -> Iterator[datetime]:
    """The instants after `low`, up to `high`, at which a timezone's clocks change."""
    if zone is UTC:
        return
    while low < high:
        end = min(low + timedelta(days=1), high)
        if _offset(zone, low) != _offset(zone, end):
            yield _find_clock_change(zone, low, end)
        low = end


def _find_clock_change(zone: tzinfo, low: datetime, high: datetime) -> datetime:
    before = _offset(zone, low)
    return _bisect(low, high + MILLISECOND, lambda timestamp: _offset(zone, timestamp) != before)


def _offset(zone: tzinfo, timestamp: datetime) -> timedelta | None:
    return timestamp.astimezone(zone).utcoffset()


def _skipped_times(zone: tzinfo, low: datetime, high: datetime, unit: str, amount: int) -> Iterator[datetime]:
    """The instants whose shifted time may be the end of a time of day that a clock change skips."""
    try:
        first, last = shift(low, unit, amount, zone), shift(high, unit, amount, zone)
    except (OverflowError, ValueError):
        return
    day = timedelta(days=1)
    for change in _clock_changes(zone, _within_calendar(first) - day, _within_calendar(last) + day):
        shifted_back = shift(change, unit, -amount, zone)
        for days in range(_CLAMPED_DAYS):
            yield shift(shifted_back, "day", days, zone)


def _within_calendar(timestamp: datetime) -> datetime:
    return min(max(timestamp, _START), _END)


def _month_end_days(zone: tzinfo, low: datetime, high: datetime) -> Iterator[datetime]:
    """The starts, after `low` and up to `high`, of the days that a shorter month lacks."""
    day: date = low.astimezone(zone).date()
    while day <= high.astimezone(zone).date():
        midnight = datetime.combine(day, time(), zone).astimezone(UTC)
        if day.day > _SHORTEST_MONTH and low < midnight <= high:
            yield midnight
        day += timedelta(days=1)


def _bisect(start: datetime, end: datetime, predicate: Callable[[datetime], bool]) -> datetime:
    """The first instant from `start` on at which a condition holds. It must then hold up to `end`."""
    low, high = 0, (end - start) // MILLISECOND - 1
    while low < high:
        middle = (low + high) // 2
        if predicate(start + middle * MILLISECOND):
            high = middle
        else:
            low = middle + 1
    return start + low * MILLISECOND
