"""What the history of a watched audience asks of storage."""

from collections.abc import Generator, Sequence
from datetime import datetime
from typing import Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.record import Record
from audience_service.domain.history.model import EventCounts, Watch


class WatchReader(Protocol):
    """The stored watches."""

    def get(self, org: str, audience_id: str, deadline: Deadline) -> Watch | None:
        """The watch of an audience, or None if it is not watched."""


class HistoryRepository(Protocol):
    """What ledgers know of the past: who was in by an event of a generation, and what has happened since when.

    Events that have been appended and applied meanwhile change no answer. Raises Overtaken where events behind the one
    in question are seen to have gone; that nothing has gone unseen, the watch's `known_since` says afterwards.
    """

    def last_event(self, org: str, watch_epoch: str, until: int, timestamp: datetime, deadline: Deadline) -> int:
        """The number of the last event up to `until` that happened by a moment, wherever that is in the ledger."""

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
        """Who was in by the event `seq`, behind the sk `after`, in sk order, in batches of up to `batch_size`.

        Each with pk, sk and what its record has at the paths now, if it is there; none of the batches is empty.
        """

    def size(self, org: str, watch_epoch: str, seq: int, deadline: Deadline) -> int:
        """How many were in by the event `seq`."""

    def event_counts(
        self, org: str, watch_epoch: str, until: int, timestamps: Sequence[datetime], deadline: Deadline
    ) -> Sequence[EventCounts]:
        """What happened behind each moment, up to and including the next one, or the event `until` behind the last."""
