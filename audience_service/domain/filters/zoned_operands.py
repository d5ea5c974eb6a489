"""Operands of $onDay and $anniversary whose day is the one in the timezone that each record names.

    {"birthday": {"$anniversary": {"from": 0, "to": 0, "timezone": "$timezone"}}}

On 30 November 2026 at 23:30 UTC the condition becomes one alternative for each day that it is somewhere:

    timezone is one of Europe/Paris, Africa/Lagos, ...      and the birthday is on 12-01
    timezone is one of America/New_York, UTC, ...           and the birthday is on 11-30
    timezone is none of all timezones                       and the birthday is on 11-30 (by default)

A fixed day of $onDay begins and ends at other instants in each timezone, so it has about 40 alternatives. As for
relative dates (record_timezones), one of a list of timezones is enough.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self

from audience_service.domain.core.error_path import at_key
from audience_service.domain.filters.anniversaries import Anniversary
from audience_service.domain.filters.calendar_days import OnDay
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.moving_operands import MovingOperand, Period
from audience_service.domain.filters.record_timezones import (
    RecordTimezone,
    read_record_timezone,
    timezone_classes,
    unknown_timezone,
)
from audience_service.domain.filters.values import ValueReader

Dated = OnDay | Anniversary

_SAMPLE_INTERVAL = timedelta(days=7)
"""Clocks are changed at most once in this time."""


@dataclass(frozen=True, slots=True)
class ZonedOperand(MovingOperand):
    """An operand in the timezones of records. `operand` is it in the default timezone, as of `now`."""

    operand: Dated
    timezone: RecordTimezone
    now: datetime

    def in_timezone(self, name: str) -> Dated:
        """The operand in one timezone. Raises InvalidFilter at the ends of the calendar."""
        return replace(self.operand, timezone=name).at("where", self.now)

    def of_values(self, stored: Any) -> list[Dated]:
        """The operand in each of the timezones that a record names; `stored` is the value of its timezone."""
        return [self.in_timezone(name) for name in dict.fromkeys(self.timezone.names_in(stored))]

    def by_timezone(self) -> list[tuple[Dated, Document]]:
        """The different operands of all timezones, each with the match of the records in those timezones."""
        names = defaultdict[Hashable, list[str]](list)
        operands: dict[Hashable, Dated] = {}
        for found, operand in self._of_classes():
            operands.setdefault(operand.meaning, operand)
            names[operand.meaning] += found
        groups = [(operand, {self.timezone.path: {"$in": names[key]}}) for key, operand in operands.items()]
        return [*groups, (self.operand, unknown_timezone(self.timezone))]

    @property
    def is_moving(self) -> bool:
        """Whether time changes the day."""
        return self.operand.is_moving

    def at(self, field_path: str, timestamp: datetime) -> Self:
        """The operand as of a timestamp. Raises InvalidFilter at the ends of the calendar."""
        return replace(self, operand=self.operand.at(field_path, timestamp), now=timestamp)

    def boundaries(self, since: datetime, until: datetime) -> list[datetime]:
        """The instants after `since`, up to `until`, at which another day begins in some timezone."""
        operands = self._within(since, until)
        found = {instant for operand in operands for instant in operand.boundaries(since, until)}
        return sorted(found)

    def change_times(self, values: Iterable[Any], period: Period) -> Iterator[datetime]:
        """The instants in a period at which a day of one of the values begins or ends in some timezone."""
        stored = list(values)
        for operand in self._within(period.since, period.until):
            yield from operand.change_times(stored, period)

    def crossing_conditions(self, path: str, since: datetime, until: datetime) -> list[Document]:
        """The matches that find every record for which the condition changes in some timezone."""
        operands = self._within(since, until)
        found = [each for operand in operands for each in operand.crossing_conditions(path, since, until)]
        return list({repr(each): each for each in found}.values())

    def _within(self, since: datetime, until: datetime) -> list[Dated]:
        """The operands of all timezones, one for those whose clocks agree on all days from `since` to `until`."""
        low, high = self.operand.days_near(since, until)
        samples = [low + number * _SAMPLE_INTERVAL for number in range((high - low) // _SAMPLE_INTERVAL + 1)]
        names = {
            tuple(found.zone.utcoffset(each.astimezone(found.zone)) for each in (*samples, high)): found.names[0]
            for found in timezone_classes()
        }
        return [*map(self.in_timezone, names.values()), self.operand]

    def _of_classes(self) -> Iterator[tuple[tuple[str, ...], Dated]]:
        for found in timezone_classes():
            yield found.names, self.in_timezone(found.names[0])


def zoned(read: Callable[[Any, str, ValueReader], Dated]) -> Callable[[Any, str, ValueReader], Dated | ZonedOperand]:
    """The reader of an operand that may be in the timezones of records. Raises InvalidFilter."""

    def read_operand(operand: Any, field_path: str, reader: ValueReader) -> Dated | ZonedOperand:
        written = operand.get("timezone") if isinstance(operand, Mapping) else None
        timezone = read_record_timezone(written, at_key(field_path, "timezone"))
        if timezone is None:
            return read(operand, field_path, reader)
        default = read({**operand, "timezone": timezone.default}, field_path, reader)
        return ZonedOperand(default, timezone, reader.now)

    return read_operand


def zoned_match(match: Callable[[str, Any, bool], Document]) -> Callable[[str, Any, bool], Document]:
    """The match of an operand that may be in the timezones of records."""

    def match_operand(path: str, operand: Any, in_element: bool) -> Document:
        if not isinstance(operand, ZonedOperand):
            return match(path, operand, in_element)
        alternatives = [
            {"$and": [selection, match(path, each, in_element)]} for each, selection in operand.by_timezone()
        ]
        near: Sequence[Document] = operand.operand.near_conditions(path) if isinstance(operand.operand, OnDay) else ()
        selected: Document = {"$or": alternatives}
        return {"$and": [{"$or": list(near)}, selected]} if near else selected

    return match_operand


def zoned_conditions(conditions: Callable[[Any], list[Document]]) -> Callable[[Any], list[Document]]:
    """The conditions on an element of a list, which has no timezone of a record. Raises ValueError if it needs one."""

    def element_conditions(operand: Any) -> list[Document]:
        if isinstance(operand, ZonedOperand):
            raise ValueError(
                "has a timezone of the record, which elements of a list lack; name one like America/New_York"
            )
        return conditions(operand)

    return element_conditions
