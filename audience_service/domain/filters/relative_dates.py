"""Relative dates: date expressions in MongoDB's syntax, evaluated each time the filter is used.

For example, on 31 March 2026 at 12:00 UTC:

    {"$dateSubtract": {"startDate": "$$NOW", "unit": "day", "amount": 30}}      2026-03-01T12:00:00.000Z
    {"$dateSubtract": {"startDate": "$$NOW", "unit": "month", "amount": 1}}     2026-02-28T12:00:00.000Z
    {"$dateTrunc": {"date": "$$NOW", "unit": "month"}}                          2026-03-01T00:00:00.000Z

1. The compiled filter contains the result as a constant, so an index serves it like any other date. A saved filter
   keeps the expression.
2. Units of a day and more keep the time of day in the timezone.
3. Months, quarters and years end on the last day of a shorter month.
4. A time of day that a clock change skips or repeats gets the offset from before the change.

Source of the semantics: MongoDB manual, $dateAdd, $dateSubtract and $dateTrunc.
"""

import re
from calendar import monthrange
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any, Self
from zoneinfo import ZoneInfo, available_timezones

from audience_service.domain.core.clock import truncate_to_milliseconds
from audience_service.domain.core.error_path import at_key
from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters.dates import iso_text

NOW = "$$NOW"
EXPRESSIONS = ("$dateAdd", "$dateSubtract", "$dateTrunc")

MONTH_BASED = {"month": 1, "quarter": 3, "year": 12}
DAY_BASED = {"day": 1, "week": 7}
_MILLIS = {"millisecond": 1, "second": 1_000, "minute": 60_000, "hour": 3_600_000}
UNITS = (*_MILLIS, *DAY_BASED, *MONTH_BASED)
FIXED_UNITS = {**_MILLIS, "day": 86_400_000, "week": 604_800_000}
"""The milliseconds of the units that are durations: a day has 24 hours."""
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MAX_NESTING, _MAX_AMOUNT = 8, 10**12
_OFFSET = re.compile(r"([+-])(\d\d)(?::?(\d\d))?", re.ASCII)
_REGIONS = frozenset(
    ("Africa", "America", "Antarctica", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific", "Etc")
)
_REFERENCE = datetime(2000, 1, 1)
_QUARTERS = (
    (-9, 30), (-4, 30), (-3, 30), (-2, 30), (3, 30), (4, 30), (5, 30), (5, 45), (6, 30), (8, 30), (8, 45), (9, 30),
    (10, 30), (11, 30), (12, 45), (13, 45),
)  # fmt: skip
OFFSETS = tuple(
    sorted(
        [60 * hours for hours in range(-12, 15)]
        + [60 * hours + (minutes if hours > 0 else -minutes) for hours, minutes in _QUARTERS]
    )
)
"""The offsets from UTC that timezones have had since 1970, in minutes. Source: the IANA timezone database."""


class ResolvedDate(str):
    """The ISO text of an evaluated date expression. It behaves as that text, and keeps the `expression`."""

    __slots__ = ("expression",)
    expression: Mapping[str, Any]

    @classmethod
    def of(cls, operand: Mapping[str, Any], field_path: str, now: datetime) -> Self:
        """The value of an expression at `now`. Raises InvalidFilter as `evaluate` does."""
        resolved = cls(iso_text(evaluate(operand, field_path, now)))
        resolved.expression = operand
        return resolved


class Now(datetime):
    """The value of $$NOW in an expression. It behaves as a datetime, but can be recognised as now."""

    @classmethod
    def of(cls, timestamp: datetime) -> Self:
        """The timestamp, marked as now."""
        return cls.combine(timestamp.date(), timestamp.timetz())


def is_relative(operand: object) -> bool:
    """Whether an operand is a date expression, valid or not."""
    return isinstance(operand, Mapping) and any(name in operand for name in EXPRESSIONS)


def evaluate(operand: Mapping[str, Any], field_path: str, now: datetime) -> datetime:
    """The value of a date expression at `now`, in UTC and whole milliseconds.

    Raises InvalidFilter at the path of the error in the expression.
    """
    return _evaluate(operand, field_path, truncate_to_milliseconds(now), 1)


def _evaluate(operand: Mapping[str, Any], field_path: str, now: datetime, depth: int) -> datetime:
    if depth > _MAX_NESTING:
        raise InvalidFilter.at(field_path, f"exceeds the limit of {_MAX_NESTING} nested date expressions")
    if len(operand) != 1 or next(iter(operand)) not in EXPRESSIONS:
        raise InvalidFilter.at(
            field_path, f"is not a date expression; write an object of one operator: {', '.join(EXPRESSIONS)}"
        )
    [(name, arguments)] = operand.items()
    here = at_key(field_path, name)
    truncates = name == "$dateTrunc"
    start = "date" if truncates else "startDate"
    optional = ("timezone", "binSize", "startOfWeek") if truncates else ("timezone",)
    required = (start, "unit") if truncates else (start, "unit", "amount")
    _check_names(arguments, required, optional, here)
    timestamp = _start(arguments[start], at_key(here, start), now, depth)
    one_of(arguments["unit"], UNITS, at_key(here, "unit"))
    zone = read_timezone(arguments.get("timezone", "UTC"), at_key(here, "timezone"))
    if truncates:
        _number(arguments.get("binSize", 1), at_key(here, "binSize"), minimum=1)
        one_of(weekday(arguments.get("startOfWeek", "sunday")), WEEKDAYS, at_key(here, "startOfWeek"))
    else:
        _number(arguments["amount"], at_key(here, "amount"), minimum=-_MAX_AMOUNT)
    try:
        return apply(name, arguments, [timestamp], [zone])[0]
    except (OverflowError, ValueError):
        raise InvalidFilter.at(here, "is outside the years 1 to 9999") from None


def apply(
    name: str, arguments: Mapping[str, Any], timestamps: Sequence[datetime], zones: Sequence[tzinfo]
) -> list[datetime]:
    """Each timestamp, shifted or truncated in its timezone. The arguments have been checked by `evaluate`.

    Raises OverflowError or ValueError outside the calendar.
    """
    unit, truncates = arguments["unit"], name == "$dateTrunc"
    size = int(arguments.get("binSize", 1) if truncates else arguments["amount"]) * (
        -1 if name == "$dateSubtract" else 1
    )
    first_day = weekday(arguments.get("startOfWeek", "sunday"))
    if unit in _MILLIS:
        step = timedelta(milliseconds=size * _MILLIS[unit])
        if not truncates:
            return [timestamp + step for timestamp in timestamps]
        origins = [_utc(_REFERENCE, zone) for zone in zones]
        pairs = zip(timestamps, origins, strict=True)
        return [origin + (timestamp - origin) // step * step for timestamp, origin in pairs]
    moved: dict[datetime, datetime] = {}
    found = []
    for timestamp, zone in zip(timestamps, zones, strict=True):
        local = timestamp.astimezone(zone).replace(tzinfo=None)
        if local not in moved:
            moved[local] = _truncate(local, unit, size, first_day) if truncates else _shift(local, unit, size)
        found.append(_utc(moved[local], zone))
    return found


def _start(value: Any, field_path: str, now: datetime, depth: int) -> datetime:
    if value == NOW:
        return now
    if isinstance(value, datetime):
        return value
    if isinstance(value, Mapping):
        return _evaluate(value, field_path, now, depth + 1)
    raise InvalidFilter.at(
        field_path, f'takes "{NOW}", a date as {{"$date": ...}}, or another of {", ".join(EXPRESSIONS)}'
    )


def _check_names(arguments: Any, required: tuple[str, ...], optional: tuple[str, ...], field_path: str) -> None:
    if not isinstance(arguments, Mapping):
        raise InvalidFilter.at(field_path, f"takes an object of {', '.join(required)}")
    for name in arguments:
        if name not in required and name not in optional:
            raise InvalidFilter.at(at_key(field_path, name), f"is not one of {', '.join((*required, *optional))}")
    for name in required:
        if name not in arguments:
            raise InvalidFilter.at(field_path, f"lacks {name}; it takes {', '.join(required)}")


def one_of(value: Any, names: tuple[str, ...], field_path: str) -> str:
    """The value, if it is one of the names. Raises InvalidFilter."""
    if not isinstance(value, str) or value not in names:
        raise InvalidFilter.at(field_path, f"is not one of {', '.join(names)}")
    return value


def weekday(value: Any) -> Any:
    """The full name of a weekday, given its name or first three letters in any case, as MongoDB takes it."""
    if not isinstance(value, str):
        return value
    lower = value.lower()
    return next((name for name in WEEKDAYS if lower in (name, name[:3])), lower)


def is_integer(value: Any) -> bool:
    """Whether a value is an integer, or a float without a fraction. True and false are not integers."""
    return value.is_integer() if isinstance(value, float) else isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any, field_path: str, minimum: int) -> int:
    if not is_integer(value) or not minimum <= value <= _MAX_AMOUNT:
        raise InvalidFilter.at(field_path, f"takes an integer from {minimum:,} to {_MAX_AMOUNT:,}")
    return int(value)


def read_timezone(value: Any, field_path: str) -> tzinfo:
    """The timezone of an Olson name or an offset. Raises InvalidFilter."""
    if isinstance(value, str) and (offset := _OFFSET.fullmatch(value)):
        sign, hours, minutes = offset.groups()
        size = timedelta(hours=int(hours), minutes=int(minutes or 0))
        if size < timedelta(days=1):
            return timezone(size if sign == "+" else -size)
    try:
        if not isinstance(value, str) or value not in timezone_names():
            raise ValueError(value)
        return UTC if value in ("UTC", "GMT") else ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise InvalidFilter.at(field_path, 'is not a timezone; write one like "America/New_York" or "+02:00"') from None


def _regional_names() -> tuple[str, ...]:
    """The names of timezones that every server knows: those of regions, and UTC and GMT."""
    return ("UTC", "GMT", *sorted(name for name in timezone_names() if name.partition("/")[0] in _REGIONS))


@lru_cache(maxsize=1)
def timezone_names() -> frozenset[str]:
    """The Olson names that `read_timezone` takes: all but those for the machine's own zone."""
    return frozenset(available_timezones()) - {"localtime", "Factory"}


def shift(timestamp: datetime, unit: str, amount: int, zone: tzinfo) -> datetime:
    """The timestamp that many units later, in UTC. Raises OverflowError or ValueError outside the calendar."""
    return apply("$dateAdd", {"unit": unit, "amount": amount}, [timestamp], [zone])[0]


def _shift(local: datetime, unit: str, amount: int) -> datetime:
    """The local time that many days or longer units later."""
    if unit in DAY_BASED:
        return local + timedelta(days=amount * DAY_BASED[unit])
    month = local.year * 12 + local.month - 1 + amount * MONTH_BASED[unit]
    year, month = month // 12, month % 12 + 1
    return local.replace(year=year, month=month, day=min(local.day, monthrange(year, month)[1]))


def _truncate(local: datetime, unit: str, size: int, first_day: str) -> datetime:
    """The start of the bin of days or longer units that contains a local time."""
    if unit in MONTH_BASED:
        step_months = size * MONTH_BASED[unit]
        months = (local.year - _REFERENCE.year) * 12 + local.month - 1
        month = months // step_months * step_months + _REFERENCE.year * 12
        return datetime(month // 12, month % 12 + 1, 1)
    origin = _REFERENCE
    if unit == "week":
        origin += timedelta(days=(WEEKDAYS.index(first_day) - _REFERENCE.weekday()) % 7)
    step = timedelta(days=size * DAY_BASED[unit])
    return origin + (local - origin) // step * step


def _utc(local: datetime, zone: tzinfo) -> datetime:
    return local.replace(tzinfo=zone).astimezone(UTC)


TIMEZONES = _regional_names()
"""The names that `$validTimezone` accepts."""
