"""Operands that move as time passes, in other ways than a relative date alone.

For example, `{"$onDay": <tomorrow>}` holds for a day, and then for the next one. A watch and ExplainMembership ask the
operand when its meaning changes, and for which records.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
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


FindTimeline = Callable[[Mapping[str, Any]], Timeline]
"""Finds the timeline of a relative date's expression over a given period."""


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
    def change_times(
        self, values: Iterable[Any], since: datetime, until: datetime, find_timeline: FindTimeline
    ) -> Iterator[datetime]:
        """The instants between the two at which the condition may change for a record with these dates and texts.

        `find_timeline` finds timelines from `since` to `until`.
        """

    @abstractmethod
    def crossing_conditions(self, path: str, since: datetime, until: datetime) -> list[Document]:
        """The matches that find every record for which the condition changes after `since`, up to `until`."""
