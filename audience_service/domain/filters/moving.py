"""How a date relative to now moves as time passes.

It mostly goes on as now does, or stands still and jumps. But it also falls back: at midnight of the 29th of March, a
month before is midnight of the 28th of February once more; where the clocks are put back, so is the time of day; and a
time that they leave out is read as a later one. Between the moments at which it may fall back it never does, so that
there a search by halves finds when it passes a value.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache
from itertools import pairwise
from typing import Any

from audience_service.domain.errors import InvalidFilter
from audience_service.domain.filters.relative import MONTHLY, OF_DAYS, fold, read_timezone, shifted

_MILLISECOND = timedelta(milliseconds=1)
_SHORTEST_MONTH = 28
_DAYS_THAT_MEET = 4
"""Days that end on the same day of a shorter month: the 28th to the 31st."""
_BEGINNING, _END = datetime(1, 1, 10, tzinfo=UTC), datetime(9999, 12, 20, tzinfo=UTC)
"""Where timezones and a few days more lead out of the calendar."""


class MovingDate:
    """A date relative to now, as written, from one moment up to another, both in whole milliseconds."""

    def __init__(self, written: Mapping[str, Any], since: datetime, until: datetime) -> None:
        self._written = written
        self._since = since
        starts = [since, *_falls(written, since, until)]
        self._pieces = [
            (start, end, _at(written, start), _at(written, end - _MILLISECOND))
            for start, end in pairwise([*starts, until])
        ]
        self.passing = cache(self._passing)

    @property
    def span(self) -> tuple[datetime, datetime]:
        """The earliest and the latest that it comes to be."""
        return min(first for *_, first, _ in self._pieces), max(last for *_, last in self._pieces)

    def _passing(self, value: datetime) -> tuple[datetime, ...]:
        """The moments behind `since` at which the date comes to be before, at, or after a value, in order."""
        return tuple(dict.fromkeys(moment for moment in self._sides(value) if moment > self._since))

    def _sides(self, value: datetime) -> Iterator[datetime]:
        before: datetime | None = None
        for start, end, first, last in self._pieces:
            if before is not None and _side(before, value) != _side(first, value):
                yield start
            if first < value <= last:
                yield _first(start, end, lambda moment: _at(self._written, moment) >= value)
            if first <= value < last:
                yield _first(start, end, lambda moment: _at(self._written, moment) > value)
            before = last


def _side(moment: datetime, value: datetime) -> int:
    return (moment > value) - (moment < value)


def _at(written: Any, moment: datetime) -> datetime:
    if isinstance(written, datetime):
        return written
    if not isinstance(written, Mapping):
        return moment
    try:
        return fold(written, "", moment)
    except InvalidFilter:  # it is one now, and so leads past the year 9999 then
        return _END


def _falls(written: Any, since: datetime, until: datetime) -> list[datetime]:
    """The moments between the two, in order, at which the date may fall back."""
    if not isinstance(written, Mapping):
        return []
    [(name, arguments)] = written.items()
    inner = arguments["date" if name == "$dateTrunc" else "startDate"]
    falls = _falls(inner, since, until)
    if arguments["unit"] not in (*OF_DAYS, *MONTHLY):
        return falls
    zone = read_timezone(arguments.get("timezone", "UTC"), "timezone")
    found = list(falls)
    for start, end in pairwise([since, *falls, until]):
        low, high = _within_calendar(_at(inner, start)), _within_calendar(_at(inner, end - _MILLISECOND))
        critical = list(_changes(zone, low, high))
        if name != "$dateTrunc":
            amount = int(arguments["amount"]) * (1 if name == "$dateAdd" else -1)
            critical += _left_out(zone, low, high, arguments["unit"], amount)
            critical += _late_days(zone, low, high) if arguments["unit"] in MONTHLY else ()
        found += [_reached(inner, start, end, value) for value in critical]
    return sorted({moment for moment in found if since < moment < until})


def _reached(written: Any, start: datetime, end: datetime, value: datetime) -> datetime:
    """The first moment between the two, where the date does not fall back, at which it is a value or behind it."""
    if not isinstance(written, Mapping):
        return value  # now itself
    return _first(start, end, lambda moment: _at(written, moment) >= value)


def _changes(zone: tzinfo, low: datetime, high: datetime) -> Iterator[datetime]:
    """The moments behind `low`, up to `high`, at which a timezone's clocks change."""
    if zone is UTC:
        return
    while low < high:
        end = min(low + timedelta(days=1), high)
        if _offset(zone, low) != _offset(zone, end):
            yield _change(zone, low, end)
        low = end


def _change(zone: tzinfo, low: datetime, high: datetime) -> datetime:
    before = _offset(zone, low)
    return _first(low, high + _MILLISECOND, lambda moment: _offset(zone, moment) != before)


def _offset(zone: tzinfo, moment: datetime) -> timedelta | None:
    return moment.astimezone(zone).utcoffset()


def _left_out(zone: tzinfo, low: datetime, high: datetime, unit: str, amount: int) -> Iterator[datetime]:
    """When what is shifted from between the two moments may come to the end of a time that the clocks leave out."""
    try:
        first, last = shifted(low, unit, amount, zone), shifted(high, unit, amount, zone)
    except (OverflowError, ValueError):
        return
    day = timedelta(days=1)
    for change in _changes(zone, _within_calendar(first) - day, _within_calendar(last) + day):
        back = shifted(change, unit, -amount, zone)
        for later in range(_DAYS_THAT_MEET):
            yield shifted(back, "day", later, zone)


def _within_calendar(moment: datetime) -> datetime:
    return min(max(moment, _BEGINNING), _END)


def _late_days(zone: tzinfo, low: datetime, high: datetime) -> Iterator[datetime]:
    """When the days begin, behind `low` and up to `high`, that a shorter month lacks."""
    day: date = low.astimezone(zone).date()
    while day <= high.astimezone(zone).date():
        midnight = datetime.combine(day, time(), zone).astimezone(UTC)
        if day.day > _SHORTEST_MONTH and low < midnight <= high:
            yield midnight
        day += timedelta(days=1)


def _first(start: datetime, end: datetime, holds: Callable[[datetime], bool]) -> datetime:
    """The first moment from `start` on, before `end`, from which on a condition holds up to the end."""
    low, high = 0, (end - start) // _MILLISECOND - 1
    while low < high:
        middle = (low + high) // 2
        if holds(start + middle * _MILLISECOND):
            high = middle
        else:
            low = middle + 1
    return start + low * _MILLISECOND
