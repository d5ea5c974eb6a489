"""The storage ports of membership history."""

from collections.abc import Generator, Sequence
from datetime import datetime
from typing import Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.record import Record
from audience_service.domain.history.model import EventCounts, MembershipChange, Watch
from audience_service.domain.snapshots.model import Snapshot


class WatchReader(Protocol):
    """The stored watches."""

    def get(self, org: str, audience_id: str, deadline: Deadline) -> Watch | None:
        """The watch of an audience, or None if the audience has no watch."""


class HistoryRepository(Protocol):
    """The members of an audience as of an event of a watch epoch, and the events since a time.

    Events that are appended and applied during a read do not change its result. A method raises LeaseLost if it needs
    an event that was trimmed. It may miss a trim that left a later event of the same record. So the caller compares the
    watch's epoch and `retained_from` after the read.
    """

    def last_event(self, org: str, watch_epoch: str, until: int, timestamp: datetime, deadline: Deadline) -> int:
        """The number of the last event that happened by `timestamp`; at most `until`."""

    def members(
        self,
        org: str,
        watch_epoch: str,
        seq: int,
        datatype: str,
        paths: Sequence[str],
        batch_size: int,
        after: str,
        deadline: Deadline,
    ) -> Generator[list[Record], None, None]:
        """The members as of event `seq`, from the first sk after `after` on, in sk order.

        Batches have 1 to `batch_size` records. Each record has pk, sk and its current values at `paths`, if the record
        still exists.
        """

    def size(self, org: str, watch_epoch: str, seq: int, deadline: Deadline) -> int:
        """The number of members as of event `seq`."""

    def event_counts(
        self, org: str, watch_epoch: str, until: int, timestamps: Sequence[datetime], deadline: Deadline
    ) -> Sequence[EventCounts]:
        """The counts of the events after each timestamp, up to and including the next one.

        The last counts reach from the last timestamp to the event `until`.
        """

    def diff_snapshot(
        self, org: str, watch_epoch: str, seq: int, snapshot: Snapshot, after: str, deadline: Deadline
    ) -> Generator[tuple[list[MembershipChange], str], None, None]:
        """The changes from a snapshot to the members as of event `seq`, which is applied, in sk order.

        They start at the first sk after `after`. Each batch comes with the last sk that it covers.
        """
