"""A watched audience, and the events of its log."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from audience_service.domain.core.clock import MILLISECOND


class ChangeKind(StrEnum):
    """What happened to a contact."""

    ENTERED = "entered"
    EXITED = "exited"


class Cause(StrEnum):
    """Why it happened, as told by the round that found it."""

    DATA = "data"
    TIME = "time"
    """Time alone: with the record as it is, and dates as of the round before, it would not have happened."""
    SNAPSHOT = "snapshot"
    """It happened at some time since the snapshot that a watch began from."""
    DEFINITION = "definition"
    """The audience's filter, or that of an audience in it, was another one than in the round before."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an audience cannot be tracked: an error's reason and message."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Watch:
    """How far an audience has been tracked.

    A `generation` is one unbroken stretch of tracking, with a ledger of its own whose events are numbered from 1 on; ""
    while its members have not been recorded yet. `seq` is the last event that is known to be applied to them,
    `event_at` when it happened, or the generation began, and `as_of` the moment up to which nothing is missing from the
    events up to `seq`: all later ones happen behind it. From `known_since` on all events are there: since the
    generation began, or since a moment from before which they may be gone. `definition` is a digest of what the
    audience was defined by then. `failure` is why it cannot be tracked. `garbage` are generations that have ended, or
    have never begun, and are to be removed.
    """

    org: str
    audience_id: str
    watch_epoch: str
    seq: int
    last_event_at: datetime | None
    watermark: datetime | None
    retained_from: datetime | None
    definition: str
    expires_at: datetime
    failure: Failure | None
    stale_epochs: tuple[str, ...]

    def earliest_event_at(self, timestamp: datetime) -> datetime:
        """The moment, or when the next event may happen at the earliest: behind `as_of`, not before the last one."""
        after_watermark = [self.watermark + MILLISECOND] if self.watermark else []
        return max([timestamp, *after_watermark, *filter(None, [self.last_event_at])])


@dataclass(frozen=True, slots=True)
class MembershipChange:
    """A record whose membership is another one than was recorded."""

    pk: str
    sk: str
    kind: ChangeKind


@dataclass(frozen=True, slots=True)
class Event:
    """A flip as it stands in the ledger. `at` never falls: when the round began that found it.

    Or, where it came to be known of late, behind what had been answered for by then.
    """

    seq: int
    change: MembershipChange
    cause: Cause
    at: datetime


@dataclass(frozen=True, slots=True)
class EventCounts:
    """How many have entered and exited in some time, by what caused it."""

    entered_by: Mapping[Cause, int] = field(default_factory=dict)
    exited_by: Mapping[Cause, int] = field(default_factory=dict)

    @property
    def entered(self) -> int:
        """How many have entered, each time counted."""
        return sum(self.entered_by.values())

    @property
    def exited(self) -> int:
        """How many have exited, each time counted."""
        return sum(self.exited_by.values())
