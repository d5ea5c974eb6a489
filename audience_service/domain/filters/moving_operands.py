"""Operands that move as time passes, in other ways than a relative date alone.

For example, `{"$onDay": <tomorrow>}` holds for a day, and then for the next one. A watch and ExplainMembership ask the
operand when its meaning changes, and for which records.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Self

from audience_service.domain.filters.filter import Document


class Timeline(Protocol):
    """The timeline of a relative date, `date_timeline.RelativeDateTimeline`."""

    @property
    def span(self) -> tuple[datetime, datetime]:
        """The earliest and the latest value of the date."""

    def crossings(self, value: datetime) -> tuple[datetime, ...]:
        """The instants, in order, from which on the date is before, equal to or after a value."""


@dataclass(frozen=True, slots=True)
class Period:
    """The time between two instants. `find_timeline` finds the timeline in it of a relative date's expression."""

    since: datetime
    until: datetime
    find_timeline: Callable[[Mapping[str, Any]], Timeline]


class MovingOperand(ABC):
    """An operand whose meaning may change as time passes. All times are in whole milliseconds."""

    __slots__ = ()

    @property
    @abstractmethod
    def is_moving(self) -> bool:
        """Whether time changes it at all."""

    @abstractmethod
    def at(self, field_path: str, timestamp: datetime) -> Self:
        """The operand as of a timestamp. Raises InvalidFilter if a date leaves the calendar."""

    @abstractmethod
    def boundaries(self, since: datetime, until: datetime) -> list[datetime]:
        """The instants after `since`, up to `until`, in order, at which the operand's meaning changes."""

    @abstractmethod
    def change_times(self, values: Iterable[Any], period: Period) -> Iterator[datetime]:
        """The instants in a period at which the condition may change for a record with these dates and texts."""

    @abstractmethod
    def crossing_conditions(self, path: str, since: datetime, until: datetime) -> list[Document]:
        """The matches that find every record for which the condition changes after `since`, up to `until`."""
