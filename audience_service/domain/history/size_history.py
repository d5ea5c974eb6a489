"""The size of a watched audience over time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from audience_service.domain.core.clock import MILLISECOND, truncate_to_milliseconds
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.core.lease import LeaseLost
from audience_service.domain.history.model import EventCounts, Watch
from audience_service.domain.history.repository import HistoryRepository, WatchReader

MAX_POINTS, DEFAULT_POINTS = 100, 30


@dataclass(frozen=True, slots=True)
class TimeRange:
    """The time range of a size history, and its number of points. None means as far as the event log reaches."""

    start: datetime | None
    end: datetime | None
    points: int

    @classmethod
    def read(cls, start: datetime | None, end: datetime | None, points: int, field_path: str) -> "TimeRange":
        """The time range of the request field `field_path`. 0 points select the default. Raises InvalidArgument."""
        if not 0 <= points <= MAX_POINTS:
            raise InvalidArgument.at(f"{field_path}.point_count", f"is {points}; must be from 1 to {MAX_POINTS}")
        if start and end and start > end:
            raise InvalidArgument.at(f"{field_path}.end_time", "is before start_time; must be start_time or later")
        return cls(start, end, points or DEFAULT_POINTS)

    def sample_times(self, retained_from: datetime, watermark: datetime) -> list[datetime]:
        """The times of the points: evenly spaced over the covered part of the range, both ends included.

        A single point is at the end. Times are whole milliseconds, so a very short range has fewer points. The list is
        empty if the range and the event log do not overlap.
        """
        start = truncate_to_milliseconds(max(self.start or retained_from, retained_from))
        end = truncate_to_milliseconds(min(self.end or watermark, watermark))
        if start > end:
            return []
        length, steps = (end - start) // MILLISECOND, self.points - 1
        offsets = {length * step // steps for step in range(self.points)} if steps else {length}
        return [start + offset * MILLISECOND for offset in sorted(offsets)]


@dataclass(frozen=True, slots=True)
class SizePoint:
    """The size at a time, and the events since the previous point. The first point has no events."""

    at: datetime
    size: int
    event_counts: EventCounts


@dataclass(frozen=True, slots=True)
class SizeHistory:
    """The sizes of an audience. The event log covers `retained_from` to `watermark`; both are None without a watch."""

    retained_from: datetime | None = None
    watermark: datetime | None = None
    points: Sequence[SizePoint] = ()


class SizeHistoryReader:
    """Reads the sizes of watched audiences over time."""

    def __init__(self, watches: WatchReader, repository: HistoryRepository) -> None:
        self._watches = watches
        self._repository = repository

    def history(self, ctx: RequestContext, audience_id: str, time_range: TimeRange) -> SizeHistory:
        """The sizes at the points of a time range.

        They are counted backwards from the current members, so trimmed events do not matter. Raises StoreUnavailable,
        OutOfTime.
        """
        while True:
            watch = self._watches.get(ctx.org, audience_id, ctx.deadline)
            if watch is None or watch.retained_from is None or watch.watermark is None:
                return SizeHistory()
            timestamps = time_range.sample_times(watch.retained_from, watch.watermark)
            try:
                points = list(self._points(ctx, watch, timestamps))[::-1] if timestamps else []
            except LeaseLost:
                continue
            # If the log was trimmed or the epoch closed meanwhile, the counts may lack events: count again.
            after = self._watches.get(ctx.org, audience_id, ctx.deadline)
            if after and (after.watch_epoch, after.retained_from) == (watch.watch_epoch, watch.retained_from):
                return SizeHistory(watch.retained_from, watch.watermark, points)

    def _points(self, ctx: RequestContext, watch: Watch, timestamps: Sequence[datetime]) -> Iterator[SizePoint]:
        """The points, latest first."""
        size = self._repository.size(ctx.org, watch.watch_epoch, watch.seq, ctx.deadline)
        *between, trailing = self._repository.event_counts(
            ctx.org, watch.watch_epoch, watch.seq, timestamps, ctx.deadline
        )
        size -= trailing.entered - trailing.exited
        for at, counts in zip(reversed(timestamps), reversed([EventCounts(), *between]), strict=True):
            yield SizePoint(at, size, counts)
            size -= counts.entered - counts.exited
