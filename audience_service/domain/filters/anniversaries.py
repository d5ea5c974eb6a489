"""The operator $anniversary: the month and day of a stored date are within some days of today, whatever the year.

    {"birthday": {"$anniversary": {"from": 0, "to": 7, "timezone": "America/New_York"}}}

On 28 November in New York the days are 11-28 to 12-05. Text is matched by a pattern, dates by an expression:

    "^(?:[0-9]{4}|-)-(?:11-28|...|12-05)(?:T...)?$"        1990-11-28, 1990-11-28T10:00:00Z, --11-28
    {"$in": [{"$dateToString": {"format": "%m-%d", ...}}, ["11-28", ..., "12-05"]]}

1. The list of days has at most 31 days, and 29 February if its day of celebration is among them in a common year.
2. The expression cannot fail: it reads dates of the years 2 to 9998 alone. The year comes first, so no index serves it.
3. The days change at each midnight of `timezone`, and at no other time.
"""

import re
from calendar import isleap
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Self

from audience_service.domain.core.error_path import at_key
from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.moving_operands import MovingOperand, Period
from audience_service.domain.filters.relative_dates import is_integer, one_of, read_timezone
from audience_service.domain.filters.values import ValueReader

MAX_DAYS = 31
_MAX_DISTANCE = 366
_ONE_DAY = timedelta(days=1)
_LEAP_DAY = "02-29"
_CELEBRATIONS = ("02-28", "03-01")
_NAMES = ("from", "to", "unit", "timezone", "leapDay", "fieldTimezone")
_FIRST, _LAST = datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)

_TIME = r"T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
_END = r"(?!\n)$"
"""The end of the text. In a pattern, $ also matches before a line break at the end."""
_DATE_WITH_TIME = rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}{_TIME}{_END}"
_STORED_TEXT = re.compile(r"(?:\d{4}|-)-(\d\d-\d\d)(?:T.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Anniversary(MovingOperand):
    """The days from `first` to `last` days after `today`. `field_timezone` is empty if text has the day as stored."""

    first: int
    last: int
    timezone: str
    leap_day: str
    field_timezone: str
    today: date

    @classmethod
    def read(cls, operand: Any, field_path: str, reader: ValueReader) -> Self:
        """The operand of $anniversary. Raises InvalidFilter."""
        if not isinstance(operand, Mapping) or not {"from", "to"} <= set(operand):
            raise InvalidFilter.at(field_path, 'takes {"from": 0, "to": 7}: days from today; both ends count')
        for name in operand:
            if name not in _NAMES:
                raise InvalidFilter.at(at_key(field_path, name), f"is not one of {', '.join(_NAMES)}")
        first, last = (_days(operand[name], at_key(field_path, name)) for name in ("from", "to"))
        if not first <= last < first + MAX_DAYS:
            raise InvalidFilter.at(at_key(field_path, "to"), f"must be from {first} to {first + MAX_DAYS - 1}")
        one_of(operand.get("unit", "day"), ("day",), at_key(field_path, "unit"))
        zones = {name: operand.get(name, "") for name in ("timezone", "fieldTimezone")}
        for name, zone in zones.items():
            if name in operand:
                read_timezone(zone, at_key(field_path, name))
        leap_day = one_of(operand.get("leapDay", _CELEBRATIONS[0]), _CELEBRATIONS, at_key(field_path, "leapDay"))
        timezone = zones["timezone"] or "UTC"
        found = cls(first, last, timezone, leap_day, zones["fieldTimezone"], date.min)
        return found.at(field_path, reader.now)

    @property
    def is_moving(self) -> bool:
        """Whether time changes the days: always."""
        return True

    @property
    def meaning(self) -> Hashable:
        """What the match depends on, apart from the arguments."""
        return self.today

    def days_near(self, since: datetime, until: datetime) -> tuple[datetime, datetime]:
        """A time before all midnights that matter between two instants, and one after them."""
        return since - _ONE_DAY, until + _ONE_DAY

    @property
    def days(self) -> tuple[str, ...]:
        """The months and days, like 11-28, in order of the window."""
        return tuple(self._days_on(self.today))

    def at(self, field_path: str, timestamp: datetime) -> Self:
        """The days as of a timestamp. Raises InvalidFilter at the ends of the calendar."""
        today = self._today_at(timestamp)
        if not date.min.year < today.year - 1 < today.year + 1 < date.max.year:
            raise InvalidFilter.at(field_path, "is outside the years 1 to 9999")
        return replace(self, today=today)

    def boundaries(self, since: datetime, until: datetime) -> list[datetime]:
        """The midnights of the timezone after `since`, up to `until`."""
        first, last = self._today_at(since), self._today_at(until)
        midnights = (self._midnight(first + number * _ONE_DAY) for number in range(1, (last - first).days + 1))
        return [midnight for midnight in midnights if since < midnight <= until]

    def change_times(self, values: Iterable[Any], period: Period) -> Iterator[datetime]:
        """The midnights in a period at which the anniversary of one of the values enters or leaves the days."""
        years = range(max(period.since.year - 2, 3), min(period.until.year + 3, 9_998))
        stored = {day for value in values for day in self._possible_days(value)}
        celebrated = {found for day in stored for year in years for found in _celebrations(day, year)}
        for day in celebrated:
            for first_day in (day - self.last * _ONE_DAY, day - (self.first - 1) * _ONE_DAY):
                if period.since < (midnight := self._midnight(first_day)) < period.until:
                    yield midnight

    def crossing_conditions(self, path: str, since: datetime, until: datetime) -> list[Document]:
        """The match of the days that enter or leave between the two instants."""
        first, last = self._today_at(since), self._today_at(until)
        windows: list[set[str]] = [
            set(self._days_on(first + number * _ONE_DAY)) for number in range(min((last - first).days, 400) + 1)
        ]
        changed = windows[0].union(*windows) - windows[0].intersection(*windows)
        return [_match(path, sorted(changed), self.field_timezone)] if changed else []

    def _days_on(self, today: date) -> Iterator[str]:
        for offset in range(self.first, self.last + 1):
            day = today + offset * _ONE_DAY
            name = f"{day:%m-%d}"
            yield name
            if name == self.leap_day and not isleap(day.year):
                yield _LEAP_DAY

    def _today_at(self, timestamp: datetime) -> date:
        return timestamp.astimezone(read_timezone(self.timezone, "timezone")).date()

    def _midnight(self, day: date) -> datetime:
        return datetime.combine(day, time(), read_timezone(self.timezone, "timezone")).astimezone(UTC)

    def _possible_days(self, value: Any) -> Iterator[str]:
        """The months and days that a stored date or text may be."""
        if isinstance(value, datetime):
            found = f"{value:%m-%d}"
        elif isinstance(value, str) and (text := _STORED_TEXT.fullmatch(value)):
            found = text[1]
        else:
            return
        yield found
        if self.field_timezone:
            try:
                day = date.fromisoformat(f"2024-{found}")
            except ValueError:
                return
            for distance in (-2, -1, 1, 2):  # two, since 29 February may be between
                yield f"{day + distance * _ONE_DAY:%m-%d}"


def anniversary_match(path: str, operand: Anniversary, _in_element: bool) -> Document:
    """The match of a field whose date, or one of whose dates, has its anniversary within the days."""
    return _match(path, operand.days, operand.field_timezone)


def no_element_conditions(_: Anniversary) -> list[Document]:
    """Refuse the elements of a list, by ValueError: an expression reads complete records."""
    raise ValueError("has $anniversary, which applies to fields of the record; move it out of $elemMatch")


def _match(path: str, days: Collection[str], field_timezone: str) -> Document:
    time_pattern = "" if field_timezone else f"(?:{_TIME})?"
    pattern = f"^(?:[0-9]{{4}}|-)-(?:{'|'.join(days)}){time_pattern}{_END}"
    types = ["date", "string"] if field_timezone else ["date"]
    dates = {"$and": [{path: {"$type": types}}, {"$expr": _any_value(path, list(days), field_timezone)}]}
    return {"$or": [{path: {"$regex": pattern}}, dates]}


def _any_value(path: str, days: list[str], field_timezone: str) -> Document:
    """The expression that one of the values at a path is a date on one of the days."""
    values: Any = f"${path}"
    for _ in path.removeprefix("data.").split(".")[1:]:  # a list for each list on the way
        inner = {"$cond": [{"$isArray": "$$this"}, "$$this", ["$$this"]]}
        values = {"$reduce": {"input": values, "initialValue": [], "in": {"$concatArrays": ["$$value", inner]}}}
    tests = {"$map": {"input": values, "as": "item", "in": _is_on("$$item", days, field_timezone)}}
    single = _is_on(f"${path}", days, field_timezone)
    return {"$cond": [{"$isArray": f"${path}"}, {"$anyElementTrue": [tests]}, single]}


def _is_on(value: str, days: list[str], field_timezone: str) -> Document:
    found: Any = value
    if field_timezone:
        is_time = {"$regexMatch": {"input": value, "regex": _DATE_WITH_TIME}}
        has_time = {"$cond": [{"$eq": [{"$type": value}, "string"]}, is_time, False]}
        found = {"$cond": [has_time, _instant(value), value]}
    zone = field_timezone or "UTC"
    day = {"$dateToString": {"date": "$$date", "format": "%m-%d", "timezone": zone}}
    in_calendar = {"$and": [{"$gte": ["$$date", _FIRST]}, {"$lt": ["$$date", _LAST]}]}
    return {"$let": {"vars": {"date": found}, "in": {"$cond": [in_calendar, {"$in": [day, days]}, False]}}}


def _instant(text: str) -> Document:
    """The expression of the instant, to the minute, that a text with a time spells; null if it spells none.

    MongoDB reads no text without seconds, and fails on some with more than three digits of a second.
    """
    offset = {"$regexFind": {"input": text, "regex": r"(?:Z|[+-][0-9]{2}:?[0-9]{2})$"}}
    zone = {"$ifNull": [{"$getField": {"field": "match", "input": offset}}, ""]}
    to_minutes = {"$substrCP": [text, 0, len("2026-11-29T10:00")]}
    return {
        "$dateFromString": {
            "dateString": {"$concat": [to_minutes, ":00", zone]},
            "onError": None,
            "onNull": None,
        }
    }


def _celebrations(stored: str, year: int) -> Iterator[date]:
    """The days of a year on which an anniversary may be celebrated."""
    for name in (stored, *_CELEBRATIONS) if stored == _LEAP_DAY else (stored,):
        try:
            yield date.fromisoformat(f"{year:04}-{name}")
        except ValueError:
            continue


def _days(value: Any, field_path: str) -> int:
    if not is_integer(value) or not -_MAX_DISTANCE <= value <= _MAX_DISTANCE:
        raise InvalidFilter.at(field_path, f"takes an integer number of days, {-_MAX_DISTANCE} to {_MAX_DISTANCE}")
    return int(value)
