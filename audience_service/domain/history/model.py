"""A watched audience and the events of its log."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from audience_service.domain.core.clock import MILLISECOND


class ChangeKind(StrEnum):
    """What happened to a contact."""

    ENTERED = "entered"
    EXITED = "exited"


class Cause(StrEnum):
    """Why a membership changed, by the reconciliation that found it."""

    DATA = "data"
    """A record was written. This is the cause if none of the others applies."""
    TIME = "time"
    """Time alone: with dates as of the previous reconciliation, today's record would not have changed membership."""
    SNAPSHOT = "snapshot"
    """The change happened at some time after the snapshot that the watch started from."""
    DEFINITION = "definition"
    """The audience's filter, or that of an audience inside it, changed since the previous reconciliation."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an audience cannot be reconciled: the reason and message of an error."""

    reason: str
    message: str


class WatchState(NamedTuple):
    """The part of a watch whose changes a stream waits for."""

    watch_epoch: str
    seq: int
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Watch:
    """A watched audience, and how far its event log and member states have come.

    The times are None while `watch_epoch` is "".
    """

    org: str
    audience_id: str
    watch_epoch: str
    """The name of the current epoch, whose events are numbered from 1 without a gap; "" before an epoch starts."""
    seq: int
    """The last event that is applied to the member states. Readers get no later event."""
    last_event_at: datetime | None
    """When event `seq` happened, or when the epoch started if it has no events yet."""
    watermark: datetime | None
    """The events up to `seq` include every change up to this time. All later events happen after it."""
    retained_from: datetime | None
    """The event log is complete from this time: the start of the epoch, or the end of the trimmed part."""
    definition: str
    """The digest of the audience's definition in the last reconciliation; "" if it changed during that one."""
    expires_at: datetime
    """The watch ends at this time unless a caller touches it."""
    failure: Failure | None
    """Why the audience cannot be reconciled, or None."""
    stale_epochs: tuple[str, ...]
    """Epochs that ended or never started. The next reconciliation deletes their rows."""

    @property
    def state(self) -> WatchState:
        """What a stream compares, to see whether it has to read."""
        return WatchState(self.watch_epoch, self.seq, self.failure)

    def earliest_event_at(self, timestamp: datetime) -> datetime:
        """The earliest time of the next event: `timestamp`, but after the watermark and not before the last event."""
        after_watermark = [self.watermark + MILLISECOND] if self.watermark else []
        return max([timestamp, *after_watermark, *filter(None, [self.last_event_at])])


@dataclass(frozen=True, slots=True)
class MembershipChange:
    """A record whose membership differs from its member state."""

    pk: str
    sk: str
    kind: ChangeKind


@dataclass(frozen=True, slots=True)
class Event:
    """A membership change in the event log.

    `occurred_at` is the start of the reconciliation that found the change, and never decreases from one event to the
    next. An event that a slow process appended late is moved to a time after the watermark.
    """

    seq: int
    change: MembershipChange
    cause: Cause
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class EventCounts:
    """The numbers of entries and exits in a time range, by cause."""

    entered_by: Mapping[Cause, int] = field(default_factory=dict)
    exited_by: Mapping[Cause, int] = field(default_factory=dict)

    @property
    def entered(self) -> int:
        """The number of entries. A contact that entered twice counts twice."""
        return sum(self.entered_by.values())

    @property
    def exited(self) -> int:
        """The number of exits. A contact that exited twice counts twice."""
        return sum(self.exited_by.values())
