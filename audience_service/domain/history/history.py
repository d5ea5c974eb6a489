"""The past of watched audiences, as their ledgers know it: who was in at a moment."""

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
    """A moment of an audience's past: what its ledger was by the event `seq`, the last that had happened at `at`."""

    audience_id: str
    datatype: str
    at: datetime
    watch_epoch: str
    seq: int


class MembershipHistory:
    """Finds moments, and who was in then."""

    def __init__(self, watches: WatchReader, repository: HistoryRepository, audiences: AudienceResolver) -> None:
        self._watches = watches
        self._repository = repository
        self._audiences = audiences

    def find(self, ctx: RequestContext, audience_id: str, at: datetime) -> HistoryPoint:
        """A moment, whatever else is tracked meanwhile. Raises AudienceNotFound, AudienceNotWatched, TimeOutOfRange."""
        datatype, at = self._datatype(ctx, audience_id), truncate_to_milliseconds(at)
        watch_epoch, until = self._epoch_at(ctx, audience_id, at)
        seq = self._repository.last_event(ctx.org, watch_epoch, until, at, ctx.deadline)
        return self._require_available(ctx, HistoryPoint(audience_id, datatype, at, watch_epoch, seq))

    def resume(self, ctx: RequestContext, audience_id: str, at: datetime, watch_epoch: str, seq: int) -> HistoryPoint:
        """A moment that was found before, where it is known still. Raises as `find` does."""
        datatype = self._datatype(ctx, audience_id)
        return self._require_available(
            ctx, HistoryPoint(audience_id, datatype, truncate_to_milliseconds(at), watch_epoch, seq)
        )

    def members(
        self, ctx: RequestContext, point: HistoryPoint, paths: Sequence[str], batch_size: int, after: str
    ) -> Generator[list[Record], None, None]:
        """Who was in, behind the sk `after`, in sk order, with what their records have at the paths now.

        Whatever has become of the records; of one that is gone, pk and sk. Raises AudienceNotWatched, TimeOutOfRange,
        where that comes to be so.
        """
        batches = self._repository.members(
            ctx.org, point.watch_epoch, point.seq, point.datatype, paths, batch_size, after, ctx.deadline
        )
        try:
            with closing(batches):
                for records in batches:
                    self._require_available(ctx, point)
                    yield records
        except LeaseLost:  # events that were needed have gone, and the watch says why
            self._require_available(ctx, point)
            raise
        self._require_available(ctx, point)

    def _datatype(self, ctx: RequestContext, audience_id: str) -> str:
        """What an audience's members are, whether its filter can be run now or not. Raises AudienceNotFound."""
        return self._audiences.find(ctx, audience_id).filter.datatype

    def _require_available(self, ctx: RequestContext, point: HistoryPoint) -> HistoryPoint:
        """The moment, if it is known still: then nothing that tells of it was missing when it was read before.

        A ledger's end, and from when on it is kept, are noted before anything is removed.
        """
        watch_epoch, _ = self._epoch_at(ctx, point.audience_id, point.at)
        if watch_epoch != point.watch_epoch:
            raise AudienceNotWatched.of(point.audience_id)
        return point

    def _epoch_at(self, ctx: RequestContext, audience_id: str, at: datetime) -> tuple[str, int]:
        """The generation that knows of a moment, and its last event. Raises AudienceNotWatched, TimeOutOfRange."""
        watch = self._watches.get(ctx.org, audience_id, ctx.deadline)
        if watch is None or watch.retained_from is None or watch.watermark is None:
            raise AudienceNotWatched.of(audience_id)
        if not watch.retained_from <= at <= watch.watermark:
            raise TimeOutOfRange.outside(watch.retained_from, watch.watermark)
        return watch.watch_epoch, watch.seq
