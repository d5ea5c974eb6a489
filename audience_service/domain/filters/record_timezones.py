"""Relative dates in the timezone that each record names.

    {"openedAt": {"$gte": {"$dateTrunc": {"date": "$$NOW", "unit": "day", "timezone": "$timezone"}}}}

On 30 November 2026 at 23:30 UTC the condition becomes one alternative for each value that the date has somewhere:

    timezone is one of Europe/Paris, Africa/Lagos, +01:00, ...    and openedAt is at or after 2026-11-30T23:00Z
    timezone is one of America/New_York, ...                      and openedAt is at or after 2026-11-30T05:00Z
    timezone is none of all timezones                             and openedAt is at or after 2026-11-30T00:00Z

1. The dates are constants, so an index on the compared field serves each alternative, and no record fails the query.
2. A record without a timezone that exists has the default: that of $ifNull, or else UTC.
3. In a list of timezones, one is enough. A negation ($ne, $nin, $not, $nor) matches the records that its condition
   does not match.
4. Names with the same rules in the timezone database are evaluated once.
"""

import os
import zoneinfo
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any, Self

from audience_service.domain.core.clock import truncate_to_milliseconds
from audience_service.domain.core.error_path import at_index, at_key
from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters.dates import iso_text
from audience_service.domain.filters.fields import plain_path
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.relative_dates import (
    NOW,
    OFFSETS,
    ResolvedDate,
    apply,
    evaluate,
    read_timezone,
    timezone_names,
)

DEFAULT_TIMEZONE = "UTC"
_FIRST_YEAR, _LAST_YEAR = 100, 9_900


@dataclass(frozen=True, slots=True)
class RecordTimezone:
    """The field in which a record names its timezone, and the timezone of records that name none."""

    path: str
    default: str

    def names_in(self, value: Any) -> list[str]:
        """The timezones that a stored value names; the default if it names none."""
        values = value if isinstance(value, list) else [value]
        return [name for name in values if isinstance(name, str) and name in _class_by_name()] or [self.default]


class ZonedDate(ResolvedDate):
    """A relative date in the timezone of each record. It behaves as the text of the date in the default timezone."""

    __slots__ = ("now", "timezone")
    timezone: RecordTimezone
    now: datetime

    @classmethod
    def of(cls, operand: Mapping[str, Any], field_path: str, now: datetime) -> Self:
        """The value of an expression at `now`. Raises InvalidFilter as `evaluate` does."""
        timezones = dict(_record_timezones(operand, field_path))
        [first, *others] = dict.fromkeys(timezones.values())
        if others:
            here = next(path for path, found in timezones.items() if found != first)
            raise InvalidFilter.at(here, "is another timezone than that of the same date; write one field and default")
        now = truncate_to_milliseconds(now)
        value = evaluate(_in_timezone(operand, first.default), field_path, now)
        if not _FIRST_YEAR <= value.year <= _LAST_YEAR:  # other timezones may be a unit away
            raise InvalidFilter.at(field_path, f"is outside the years {_FIRST_YEAR} to {_LAST_YEAR}")
        resolved = cls(iso_text(value))
        resolved.expression, resolved.timezone, resolved.now = operand, first, now
        return resolved

    def values(self) -> Sequence[str]:
        """The ISO text of the date in each class of `timezone_classes`. Raises InvalidFilter outside the calendar."""
        zones = [found.zone for found in timezone_classes()]
        try:
            found = _evaluate_in(self.expression, self.now, zones)
        except (OverflowError, ValueError):
            raise InvalidFilter.at("where", "has a date outside the years 1 to 9999 in a timezone") from None
        texts = {value: iso_text(value) for value in set(found)}
        return [texts[value] for value in found]

    def in_timezone(self, name: str) -> Mapping[str, Any]:
        """The expression of the date in one timezone."""
        found: Mapping[str, Any] = _in_timezone(self.expression, name)
        return found


@dataclass(frozen=True, slots=True)
class TimezoneClass:
    """Names of timezones with the same rules."""

    zone: tzinfo
    names: tuple[str, ...]


def resolve(operand: Mapping[str, Any], field_path: str, now: datetime) -> ResolvedDate:
    """The value of a date expression at `now`, in one timezone or in those of the records. Raises InvalidFilter."""
    kind = ZonedDate if any(True for _ in _record_timezones(operand, field_path)) else ResolvedDate
    return kind.of(operand, field_path, now)


def read_record_timezone(written: Any, field_path: str) -> RecordTimezone | None:
    """The timezone of records as an expression writes it; None for a timezone by its name. Raises InvalidFilter."""
    path, default = written, DEFAULT_TIMEZONE
    if isinstance(written, Mapping):
        items = written.get("$ifNull")
        if list(written) != ["$ifNull"] or not isinstance(items, list) or len(items) != 2:
            raise InvalidFilter.at(field_path, 'takes a timezone, "$timezone" or {"$ifNull": ["$timezone", "UTC"]}')
        (path, default), field_path = items, at_key(field_path, "$ifNull")
        read_timezone(default, at_index(field_path, 1))
        field_path = at_index(field_path, 0)
        if not isinstance(path, str) or not path.startswith("$"):
            raise InvalidFilter.at(field_path, 'takes the field of the timezone, like "$timezone"')
    if not isinstance(path, str) or not path.startswith("$"):
        return None
    return RecordTimezone(plain_path(path[1:], field_path), default)


@lru_cache(maxsize=1)
def timezone_classes() -> Sequence[TimezoneClass]:
    """All timezones that a record may name: Olson names, and offsets that timezones have had, as +02:00 or +0200."""
    names_by_rules = defaultdict[bytes | str, list[str]](list)
    for name in sorted(timezone_names()):
        names_by_rules[_rules(name)].append(name)
    classes = [TimezoneClass(read_timezone(names[0], "timezone"), tuple(names)) for names in names_by_rules.values()]
    for offset in OFFSETS:
        hours, minutes = divmod(abs(offset), 60)
        texts = [f"{hours:02}:{minutes:02}", f"{hours:02}{minutes:02}", *([] if minutes else [f"{hours:02}"])]
        signs = "+-" if offset == 0 else "+" if offset > 0 else "-"
        names = tuple(f"{sign}{text}" for sign in signs for text in texts)
        classes.append(TimezoneClass(timezone(timedelta(minutes=offset)), names))
    return classes


@lru_cache(maxsize=1)
def all_timezones() -> list[str]:
    """The names of all classes."""
    return [name for found in timezone_classes() for name in found.names]


def unknown_timezone(timezone: RecordTimezone) -> Document:
    """The match of the records that name no timezone that exists."""
    return {timezone.path: {"$nin": all_timezones()}}


@lru_cache(maxsize=1)
def _class_by_name() -> Mapping[str, int]:
    return {name: number for number, found in enumerate(timezone_classes()) for name in found.names}


def representative(name: str) -> str:
    """The first name of the class of a timezone, by which caches may find it."""
    return timezone_classes()[_class_by_name()[name]].names[0] if name in _class_by_name() else name


def _rules(name: str) -> bytes | str:
    """The file of a timezone, equal for names with the same rules; the name itself if the machine has no such file."""
    for directory in zoneinfo.TZPATH:
        path = os.path.join(directory, *name.split("/"))
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return file.read()
    return name


def _record_timezones(expression: Any, field_path: str) -> Iterator[tuple[str, RecordTimezone]]:
    """The timezones of records in a date expression, each with its path. Raises InvalidFilter."""
    if not isinstance(expression, Mapping):
        return
    for name, arguments in expression.items():
        here = at_key(field_path, name)
        if isinstance(arguments, Mapping):
            for start in ("date", "startDate"):
                yield from _record_timezones(arguments.get(start), at_key(here, start))
            zone_path = at_key(here, "timezone")
            if found := read_record_timezone(arguments.get("timezone"), zone_path):
                yield zone_path, found


def _in_timezone(expression: Any, zone: str) -> Any:
    """The expression with the timezones of records replaced by one."""
    if not isinstance(expression, Mapping):
        return expression
    replaced = {}
    for name, arguments in expression.items():
        if isinstance(arguments, Mapping):
            arguments = {key: _in_timezone(value, zone) for key, value in arguments.items()}
            if "timezone" in arguments and read_record_timezone(arguments["timezone"], ""):
                arguments["timezone"] = zone
        replaced[name] = arguments
    return replaced


def _evaluate_in(expression: Any, now: datetime, zones: Sequence[tzinfo]) -> list[datetime]:
    """The values of a checked expression, with the timezones of records replaced by each of the zones."""
    if not isinstance(expression, Mapping):
        return [now if expression == NOW else expression] * len(zones)
    [(name, arguments)] = expression.items()
    starts = _evaluate_in(arguments["date" if name == "$dateTrunc" else "startDate"], now, zones)
    written = arguments.get("timezone", "UTC")
    is_named = isinstance(written, str) and not written.startswith("$")
    return apply(name, arguments, starts, [read_timezone(written, "timezone")] * len(zones) if is_named else zones)
