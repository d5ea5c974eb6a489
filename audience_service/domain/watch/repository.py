"""The storage ports of watches. Every method takes the org first, or a Watch, which names its org.

`WatchRepository.acquire`, `renew_all` and `states` are the exceptions. They serve watches of all orgs, and return only
the ids of their audiences, and how far their events have come.
"""

from collections.abc import Collection, Generator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.record import Record
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.population import Population
from audience_service.domain.history.model import Event, Failure, MembershipChange, Watch, WatchState
from audience_service.domain.watch.model import ChangedKeys


class WatchRepository(Protocol):
    """The watches. A lease is a unique name; it lasts until it expires, is renewed or is released."""

    def touch(self, org: str, audience_id: str, until: datetime, deadline: Deadline) -> Watch | None:
        """Let a watch expire at `until` or at its current expiry, whichever is later.

        Returns the watch, or None if the audience has none.
        """

    def create_provisional(self, org: str, audience_id: str, lease: str, until: datetime, deadline: Deadline) -> bool:
        """Add a watch under a lease; both expire at `until`. Returns False if the audience already has a watch."""

    def confirm(self, org: str, audience_id: str, lease: str, until: datetime, deadline: Deadline) -> Watch | None:
        """Let a provisional watch expire at `until`, and release its lease.

        Returns the watch, or None if another process has the lease.
        """

    def cancel(self, org: str, audience_id: str, lease: str, deadline: Deadline) -> None:
        """Remove a provisional watch. If another process has the lease, that process ends the watch instead."""

    def count(self, org: str, limit: int, deadline: Deadline) -> int:
        """The number of watches of an org, including provisional ones; at most `limit`."""

    def get(self, org: str, audience_id: str, deadline: Deadline) -> Watch | None:
        """The watch of an audience, or None."""

    def states(self, keys: Collection[tuple[str, str]], deadline: Deadline) -> Mapping[tuple[str, str], WatchState]:
        """The states of watches, each by its org and audience id. A watch that does not exist is missing."""

    def acquire(self, lease: str, timestamp: datetime, until: datetime, deadline: Deadline) -> tuple[str, str] | None:
        """Lease any watch whose lease has expired at `timestamp`. Returns its org and audience id, or None."""

    def renew_all(self, leases: Collection[tuple[str, str, str]], until: datetime, deadline: Deadline) -> None:
        """Extend leases, each an (org, audience id, lease). Watches that another process acquired stay unchanged."""

    def renew(self, org: str, audience_id: str, lease: str, until: datetime, deadline: Deadline) -> Watch | None:
        """Extend a lease. Returns the watch, or None if another process acquired it or it was deleted."""

    def release(self, org: str, audience_id: str, lease: str, deadline: Deadline) -> None:
        """End a lease."""

    def create_epoch(self, watch: Watch, lease: str, watch_epoch: str, deadline: Deadline) -> None:
        """Register the name of an epoch before its members are recorded. It is stale until it starts.

        Raises LeaseLost.
        """

    def start_epoch(
        self, watch: Watch, lease: str, watch_epoch: str, started_at: datetime, definition: str, deadline: Deadline
    ) -> None:
        """Make a created epoch the current one of a watch without an epoch, before its first event.

        Raises LeaseLost.
        """

    def advance_seq(self, watch: Watch, events: Sequence[Event], deadline: Deadline) -> None:
        """Store that all events of the epoch up to the last of `events` are applied. Needs no lease; never moves back.

        Raises LeaseLost unless `events` happen after the watermark that is stored by then.
        """

    def advance_watermark(
        self,
        watch: Watch,
        lease: str,
        seq: int,
        watermark: datetime,
        definition: str,
        deadline: Deadline,
    ) -> Watch:
        """Store that the events up to `seq` include every change up to `watermark`. Clears the failure.

        Returns the stored watch. Raises LeaseLost, also if `seq` is no longer the last applied event.
        """

    def set_retained_from(self, watch: Watch, timestamp: datetime, deadline: Deadline) -> None:
        """Store that events before `timestamp` may be deleted from now on. Never moves back. Raises LeaseLost."""

    def fail(self, watch: Watch, lease: str, failure: Failure, deadline: Deadline) -> None:
        """Store why the audience cannot be reconciled, until a reconciliation succeeds. Raises LeaseLost."""

    def close_epoch(self, watch: Watch, lease: str, timestamp: datetime, deadline: Deadline) -> None:
        """Mark the epoch of a watch that expired by `timestamp` as stale. Delete the watch if no epoch is left.

        Raises LeaseLost, also if the watch was touched since.
        """

    def forget_stale_epoch(self, watch: Watch, lease: str, watch_epoch: str, deadline: Deadline) -> None:
        """Remove a deleted epoch from the stale ones. Raises LeaseLost."""


class EventLogRepository(Protocol):
    """The event log and the member states of each watch epoch."""

    def record_members(self, org: str, watch_epoch: str, population: Population, deadline: Deadline) -> None:
        """Store the members of a population as the member states before the first event.

        Only for an epoch that has not started: a failed command may continue to write, so that epoch is never used.
        """

    def diff(
        self, org: str, watch_epoch: str, population: Population, deadline: Deadline
    ) -> Generator[list[str], None, None]:
        """Batches of the sks whose membership in a population differs from their member state, in sk order.

        The database compares, so only differences leave it. They are candidates: a concurrent write may add a record
        wrongly.
        """

    def find_crossing(
        self, org: str, population: CompiledFilter, deadline: Deadline
    ) -> Generator[list[str], None, None]:
        """Batches of the sks of the records that a filter matches, each once."""

    def find_dated(
        self,
        org: str,
        datatype: str,
        conditions: Sequence[Document],
        paths: Sequence[str],
        limit: int,
        deadline: Deadline,
    ) -> list[Record]:
        """Up to `limit` records that meet any of `conditions`, with their values at `paths`."""

    def evaluate(
        self, org: str, watch_epoch: str, population: Population, keys: Sequence[str], deadline: Deadline
    ) -> list[MembershipChange]:
        """The changes of the records with these sks: current membership against member state, in sk order."""

    def append(self, org: str, watch_epoch: str, events: Sequence[Event], deadline: Deadline) -> None:
        """Append events, one after the other. Raises LeaseLost at the first number that another process used."""

    def apply(self, org: str, watch_epoch: str, events: Sequence[Event], deadline: Deadline) -> None:
        """Update the member states to the events, each unless a later event is applied. Idempotent, in any order."""

    def adjust_timestamps(
        self, org: str, watch_epoch: str, after: int, timestamp: datetime, deadline: Deadline
    ) -> None:
        """Move events after number `after` that happen before `timestamp` to it. Readers must not have them yet."""

    def read(
        self, org: str, watch_epoch: str, after: int, until: int | None, limit: int, deadline: Deadline
    ) -> list[Event]:
        """Up to `limit` events after number `after`, up to and including `until`, in order and without a gap.

        The list is empty if event `after + 1` is missing, even if later ones exist.
        """

    def trim(self, org: str, watch_epoch: str, before: datetime, until: int, deadline: Deadline) -> None:
        """Delete the events before a time, oldest first, none after number `until`."""

    def remove(self, org: str, watch_epoch: str, deadline: Deadline) -> None:
        """Delete the event log and the member states of an epoch."""


class Subscription(Protocol):
    """The writes to the records of one org and datatype."""

    @property
    def datatype(self) -> str:
        """The datatype."""

    @property
    def is_streaming(self) -> bool:
        """Whether the change stream is open."""

    @property
    def has_pending(self) -> bool:
        """Whether a scan is due: for changed keys, or for changes without a key."""

    @property
    def is_complete(self) -> bool:
        """Whether the subscription has the key of every record that was written since the last `drain`."""

    def drain(self) -> ChangedKeys:
        """The changes since the previous call. The first call starts the collection and is never complete."""

    def close(self) -> None:
        """Unsubscribe."""


class ChangeStream(Protocol):
    """Reports writes as they happen, if the deployment supports it."""

    def subscribe(self, org: str, datatype: str) -> Subscription | None:
        """A subscription to the records of an org, from about now on; None if the store never reports writes."""

    def close(self) -> None:
        """End all streams."""
