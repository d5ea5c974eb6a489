"""The members of a watched audience as of a time, from its event log.

It starts from the current member states and reverts the events after the time, batch by batch. So the first members
need not be stored, and one command need not group all of them before its first result. A time outside the known history
is an error: a list that silently differs from the request is wrong.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.core.clock import truncate_to_milliseconds
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.lease import LeaseLost
from audience_service.domain.core.record import Record
from audience_service.domain.history.errors import AudienceNotWatched, TimeOutOfRange
from audience_service.domain.history.repository import HistoryRepository, WatchReader


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """A time in the history of an audience. `seq` is the last event that had happened by `at`."""

    audience_id: str
    datatype: str
    at: datetime
    watch_epoch: str
    seq: int


class MembershipHistory:
    """Reads the members of watched audiences as of a time."""

    def __init__(self, watches: WatchReader, repository: HistoryRepository, audiences: AudienceResolver) -> None:
        self._watches = watches
        self._repository = repository
        self._audiences = audiences

    def find(self, ctx: RequestContext, audience_id: str, at: datetime) -> HistoryPoint:
        """The history point of a time. Later events do not change it.

        Raises AudienceNotFound, AudienceNotWatched, TimeOutOfRange.
        """
        datatype, at = self._datatype(ctx, audience_id), truncate_to_milliseconds(at)
        watch_epoch, until = self._epoch_at(ctx, audience_id, at)
        seq = self._repository.last_event(ctx.org, watch_epoch, until, at, ctx.deadline)
        return self._require_available(ctx, HistoryPoint(audience_id, datatype, at, watch_epoch, seq))

    def resume(self, ctx: RequestContext, audience_id: str, at: datetime, watch_epoch: str, seq: int) -> HistoryPoint:
        """The history point that `find` returned earlier, if the event log still covers it. Raises as `find` does."""
        datatype = self._datatype(ctx, audience_id)
        return self._require_available(
            ctx, HistoryPoint(audience_id, datatype, truncate_to_milliseconds(at), watch_epoch, seq)
        )

    def members(
        self, ctx: RequestContext, point: HistoryPoint, paths: Sequence[str], batch_size: int, after: str
    ) -> Generator[list[Record], None, None]:
        """Batches of the members at a history point, in sk order, from the first sk after `after` on.

        Each record has its current values at `paths`, even if it was archived or deleted since. A record that no longer
        exists has pk and sk only. Raises AudienceNotWatched and TimeOutOfRange, also midway if the log is trimmed.
        """
        batches = self._repository.members(
            ctx.org, point.watch_epoch, point.seq, point.datatype, paths, batch_size, after, ctx.deadline
        )
        try:
            with closing(batches):
                for records in batches:
                    self._require_available(ctx, point)
                    yield records
        except LeaseLost:  # needed events were trimmed; the watch shows why
            self._require_available(ctx, point)
            raise
        self._require_available(ctx, point)

    def _datatype(self, ctx: RequestContext, audience_id: str) -> str:
        """The datatype of an audience, even if its filter cannot be run now. Raises AudienceNotFound."""
        return self._audiences.find(ctx, audience_id).filter.datatype

    def _require_available(self, ctx: RequestContext, point: HistoryPoint) -> HistoryPoint:
        """The history point, if the event log still covers it. Then everything that was read before was complete.

        Writers update the watch's epoch and `retained_from` before they delete rows. Raises AudienceNotWatched,
        TimeOutOfRange.
        """
        watch_epoch, _ = self._epoch_at(ctx, point.audience_id, point.at)
        if watch_epoch != point.watch_epoch:
            raise AudienceNotWatched.of(point.audience_id)
        return point

    def _epoch_at(self, ctx: RequestContext, audience_id: str, at: datetime) -> tuple[str, int]:
        """The watch epoch that covers a time, and its last event. Raises AudienceNotWatched, TimeOutOfRange."""
        watch = self._watches.get(ctx.org, audience_id, ctx.deadline)
        if watch is None or watch.retained_from is None or watch.watermark is None:
            raise AudienceNotWatched.of(audience_id)
        if not watch.retained_from <= at <= watch.watermark:
            raise TimeOutOfRange.outside(watch.retained_from, watch.watermark)
        return watch.watch_epoch, watch.seq
