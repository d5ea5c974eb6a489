"""The operator $onDay: the stored value is on a calendar day, in whatever form it is stored.

Without a timezone the day is the one that is stored. With one, time stamps count in it; a day alone stays that day:

    stored                        $onDay "2026-11-29"     with "timezone": "America/New_York"
    "2026-11-29"                  yes                     yes
    2026-11-30T03:00Z (BSON)      no                      yes, 22:00 there
    "2026-11-29T23:30:00-08:00"   yes                     no, 02:30 on the 30th there

1. One stored value decides. In a list two elements may meet the two bounds of a range, so a range applies to single
   values and to elements ($elemMatch), never to a list as a whole.
2. Text is matched by a pattern. Its bounds only help an index.
3. The day of a relative date is its day in the `timezone`, or else in the timezone of the relative date.
"""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Any, Self

from audience_service.domain.core.clock import MILLISECOND
from audience_service.domain.core.error_path import at_key
from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters.date_timeline import RelativeDateTimeline
from audience_service.domain.filters.dates import iso_text, read_instant
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.moving_operands import MovingOperand, Period, Timeline
from audience_service.domain.filters.record_timezones import ZonedDate
from audience_service.domain.filters.relative_dates import OFFSETS, ResolvedDate, is_relative, read_timezone
from audience_service.domain.filters.values import ValueReader

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DAY_LENGTH = len("2026-11-29")
_ONE_DAY = timedelta(days=1)
_MARGIN = 2 * _ONE_DAY
"""More than the distance between an instant and the midnights of its day in any timezone."""
_START, _STOP = datetime(1, 1, 5, tzinfo=UTC), datetime(9999, 12, 26, tzinfo=UTC)

_SECONDS = r"(?::[0-9]{2}(?:\.[0-9]+)?)?"
_TIME = f"T[0-9]{{2}}:[0-9]{{2}}{_SECONDS}(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})?"
_END = r"(?!\n)$"
"""The end of the text. In a pattern, $ also matches before a line break at the end."""


@dataclass(frozen=True, slots=True)
class OnDay(MovingOperand):
    """A calendar day, and the text or relative date that it is from. `timezone` is empty if days are as stored."""

    day: date
    source: str
    timezone: str

    @classmethod
    def read(cls, operand: Any, field_path: str, reader: ValueReader) -> Self:
        """The operand of $onDay. Raises InvalidFilter."""
        source, source_path, timezone = operand, field_path, ""
        if isinstance(operand, Mapping) and not is_relative(operand):
            if not {"date"} <= set(operand) <= {"date", "timezone"}:
                raise InvalidFilter.at(field_path, 'takes {"date": ..., "timezone": ...} or the date alone')
            source, source_path = operand["date"], at_key(field_path, "date")
            timezone = operand.get("timezone", "")
            if "timezone" in operand:
                read_timezone(timezone, at_key(field_path, "timezone"))
        if not is_relative(source) and not _is_day(source):
            raise InvalidFilter.at(
                source_path,
                'takes a day, like "2026-11-29", or a date relative to now, like {"$dateAdd": {"startDate": "$$NOW",'
                ' "unit": "day", "amount": 1}}',
            )
        value = reader.scalar(source, source_path)
        if isinstance(value, ZonedDate):
            raise InvalidFilter.at(
                source_path,
                'takes no timezone of a record inside the date; write {"date": ..., "timezone": "$timezone"}',
            )
        return cls._of(value, timezone, source_path)

    @classmethod
    def _of(cls, source: Any, timezone: str, field_path: str) -> Self:
        if isinstance(source, ResolvedDate):
            zone = read_timezone(timezone or _timezone_of(source.expression), field_path)
            instant = read_instant(source)
            try:
                day = instant.timestamp.astimezone(zone).date() if instant else date.min
            except OverflowError:
                raise InvalidFilter.at(field_path, "is outside the years 1 to 9999") from None
        else:
            day = date.fromisoformat(source)
        if not date.min + 2 * _MARGIN < day < date.max - 2 * _MARGIN:
            raise InvalidFilter.at(field_path, "is outside the years 1 to 9999")
        return cls(day, source, timezone)

    @property
    def is_moving(self) -> bool:
        """Whether the day is relative to now."""
        return isinstance(self.source, ResolvedDate)

    @property
    def meaning(self) -> Hashable:
        """What the match depends on."""
        return (self.day, *self.bounds)

    def days_near(self, since: datetime, until: datetime) -> tuple[datetime, datetime]:
        """A time before all midnights that matter between two instants, and one after them."""
        if not isinstance(self.source, ResolvedDate):
            return self.bounds
        low, high = RelativeDateTimeline(self.source.expression, since, until + MILLISECOND).span
        return max(low, _START) - _MARGIN, min(high, _STOP) + _MARGIN

    def near_conditions(self, path: str) -> list[Document]:
        """The ranges, which an index serves, of all dates and texts on the day or the days next to it, anywhere."""
        first, last = self.day - 2 * _MARGIN, self.day + 2 * _MARGIN
        low, high = (datetime.combine(day, time(), UTC) for day in (first, last))
        return [
            {path: {"$gte": low, "$lte": high}},
            {path: {"$gte": first.isoformat(), "$lte": f"{last.isoformat()}~"}},
        ]

    def at(self, field_path: str, timestamp: datetime) -> Self:
        """The day as of a timestamp. Raises InvalidFilter."""
        if not isinstance(self.source, ResolvedDate):
            return self
        source = ResolvedDate.of(self.source.expression, field_path, timestamp)
        return replace(self, source=source, day=self._of(source, self.timezone, field_path).day)

    def boundaries(self, since: datetime, until: datetime) -> list[datetime]:
        """The instants after `since`, up to `until`, in order, at which another day begins."""
        if not isinstance(self.source, ResolvedDate) or until <= since:
            return []
        timeline = RelativeDateTimeline(self.source.expression, since, until + MILLISECOND)
        found = {instant for instant in self._crossings(timeline) if since < instant <= until}
        return sorted(instant for instant in found if self._day_at(instant) != self._day_at(instant - MILLISECOND))

    def change_times(self, values: Iterable[Any], period: Period) -> Iterator[datetime]:
        """The instants in a period at which a day begins or ends on which one of the values may be."""
        if not isinstance(self.source, ResolvedDate):
            return
        timeline = period.find_timeline(self.source.expression)
        for day in {day for value in values for day in _possible_days(value)}:
            for midnight in (_midnight(day, self._zone), _midnight(day + _ONE_DAY, self._zone)):
                yield from timeline.crossings(midnight)

    def crossing_conditions(self, path: str, since: datetime, until: datetime) -> list[Document]:
        """The ranges of dates and of text that contain every day between those of the two instants."""
        if not isinstance(self.source, ResolvedDate) or not self.boundaries(since, until):
            return []
        low, high = RelativeDateTimeline(self.source.expression, since, until + MILLISECOND).span
        first, last = max(low, _START) - _MARGIN, min(high, _STOP) + _MARGIN
        return [
            {path: {"$gte": first, "$lte": last}},
            {path: {"$gte": iso_text(first)[:_DAY_LENGTH], "$lte": f"{iso_text(last)[:_DAY_LENGTH]}~"}},
        ]

    @property
    def _zone(self) -> tzinfo:
        """The timezone in which the day of the relative date counts."""
        inner = _timezone_of(self.source.expression) if isinstance(self.source, ResolvedDate) else "UTC"
        return read_timezone(self.timezone or inner, "timezone")

    def _day_at(self, timestamp: datetime) -> date | None:
        try:
            return self.at("", timestamp).day
        except InvalidFilter:
            return None

    def _crossings(self, timeline: Timeline) -> Iterator[datetime]:
        """The instants at which the date reaches or leaves a midnight."""
        low, high = (max(min(value, _STOP), _START).astimezone(self._zone).date() for value in timeline.span)
        for number in range((high - low).days + 2):
            yield from timeline.crossings(_midnight(low + number * _ONE_DAY, self._zone))

    @property
    def bounds(self) -> tuple[datetime, datetime]:
        """The first instant of the day, and the first after it, for stored time stamps."""
        zone = read_timezone(self.timezone or "UTC", "timezone")
        return _midnight(self.day, zone), _midnight(self.day + _ONE_DAY, zone)


def day_conditions(operand: OnDay) -> list[Document]:
    """The alternative conditions on one value: of a BSON date, and of text."""
    low, high = operand.bounds
    return [{"$gte": low, "$lt": high}, _text_condition(operand)]


def day_match(path: str, operand: OnDay, in_element: bool) -> Document:
    """The match of a field whose value, or one of whose values, is on the day."""
    low, high = operand.bounds
    alternatives = _between(path, {"$gte": low, "$lt": high}, in_element=in_element)
    return {"$or": [*alternatives, {path: _text_condition(operand)}]}


def _between(path: str, bounds: Document, *, in_element: bool) -> Iterator[Document]:
    """The alternatives in which one value at the path is within both bounds.

    Each alternative has another place of the innermost list on the path: none, or after some step. The payload `data`
    of a record is no list; a field `data` of an element may be one.
    """
    steps = path.split(".")
    first = 1 if steps[0] == "data" and not in_element else 0
    yield _unlisted(steps, first, bounds)
    for length in range(first + 1, len(steps) + 1):
        container, rest = ".".join(steps[:length]), steps[length:]
        if not rest:
            yield {container: {"$elemMatch": bounds}}
        elif not rest[0].isdecimal():  # a number after a list is its index
            yield {container: {"$elemMatch": _unlisted(rest, 0, bounds)}}


def _unlisted(steps: list[str], first: int, bounds: Document) -> Document:
    """The condition that the value at a path is within the bounds, and no step from `first` on leads to a list."""
    conditions: Document = {}
    for length in range(first + 1, len(steps) + 1):
        if length == len(steps) or not steps[length].isdecimal():
            conditions[".".join(steps[:length])] = {"$not": {"$type": "array"}}
    path = ".".join(steps)
    return {**conditions, path: {**bounds, **conditions[path]}}


def _text_condition(operand: OnDay) -> Document:
    if not operand.timezone:
        day = operand.day.isoformat()
        return {"$gte": day, "$lte": f"{day}~", "$regex": f"^{day}(?:{_TIME})?{_END}"}
    low, high = operand.bounds
    pattern = _zoned_pattern(operand.day, low, high)
    first, last = operand.day - _MARGIN, operand.day + _MARGIN
    return {"$gte": first.isoformat(), "$lte": f"{last.isoformat()}~", "$regex": pattern}


@lru_cache(maxsize=256)
def _zoned_pattern(day: date, low: datetime, high: datetime) -> str:
    """The pattern of the texts of a day alone, and of the time stamps with any offset from `low` up to `high`."""
    by_day: dict[date, list[str]] = defaultdict(list)
    by_day[day].append("")
    for offset in OFFSETS:
        shift = timedelta(minutes=offset)
        start, end = (low + shift).replace(tzinfo=None), (high + shift).replace(tzinfo=None)
        local_day = start.date()
        while datetime.combine(local_day, time()) < end:
            midnight = datetime.combine(local_day, time())
            since, until = max(start, midnight), min(end, midnight + _ONE_DAY)
            by_day[local_day].append(f"T{_times(since, until, midnight)}{_SECONDS}{_offset_pattern(offset)}")
            local_day += _ONE_DAY
    days = "|".join(f"{found.isoformat()}(?:{'|'.join(cases)})" for found, cases in sorted(by_day.items()))
    return f"^(?:{days}){_END}"


def _times(since: datetime, until: datetime, midnight: datetime) -> str:
    """The pattern of the times of day, to the minute, from `since` up to `until`."""
    first, last = (int((value - midnight).total_seconds()) // 60 for value in (since, until))
    if (first, last) == (0, 24 * 60):
        return "[0-9]{2}:[0-9]{2}"
    hours = defaultdict[tuple[int, int], list[int]](list)
    for hour in range(first // 60, (last + 59) // 60):
        hours[(max(first - hour * 60, 0), min(last - hour * 60, 60))].append(hour)
    cases = [f"(?:{'|'.join(f'{hour:02}' for hour in found)}):{_minutes(*minutes)}" for minutes, found in hours.items()]
    return f"(?:{'|'.join(cases)})"


def _minutes(first: int, last: int) -> str:
    if (first, last) == (0, 60):
        return "[0-9]{2}"
    return f"(?:{'|'.join(f'{minute:02}' for minute in range(first, last))})"


def _offset_pattern(offset: int) -> str:
    if offset == 0:
        return "(?:Z|[+-]00:?00)?"
    hours, minutes = divmod(abs(offset), 60)
    return rf"[{'+' if offset > 0 else '-'}]{hours:02}:?{minutes:02}"


def _is_day(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(_DAY.fullmatch(value)) and bool(date.fromisoformat(value))
    except ValueError:
        return False


def _timezone_of(expression: Any) -> str:
    """The timezone of a relative date: that of its outermost expression that has one."""
    while isinstance(expression, Mapping):
        [arguments] = expression.values()
        if "timezone" in arguments:
            return str(arguments["timezone"])
        expression = arguments.get("date", arguments.get("startDate"))
    return "UTC"


def _midnight(day: date, zone: tzinfo) -> datetime:
    """The first instant of a day in a timezone, also if clocks skip its midnight."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _possible_days(value: Any) -> Iterator[date]:
    """The days on which a stored date or text may be in any timezone."""
    if isinstance(value, datetime):
        found = value.date()
    elif isinstance(value, str) and _is_day(value[:_DAY_LENGTH]):
        found = date.fromisoformat(value[:_DAY_LENGTH])
    else:
        return
    if date.min + _MARGIN < found < date.max - _MARGIN:
        yield from (found - _ONE_DAY, found, found + _ONE_DAY)
