"""How many were in a watched audience over time."""

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
    """For which time sizes are wanted, None for as far as is known, and at how many points of it."""

    start: datetime | None
    end: datetime | None
    points: int

    @classmethod
    def read(cls, start: datetime | None, end: datetime | None, points: int, field_path: str) -> "TimeRange":
        """The span that a request has at `place`, where 0 points are the default. Raises InvalidArgument."""
        if not 0 <= points <= MAX_POINTS:
            raise InvalidArgument.at(f"{field_path}.point_count", f"is {points}, and not from 1 to {MAX_POINTS}")
        if start and end and start > end:
            raise InvalidArgument.at(f"{field_path}.end_time", "is before the start_time")
        return cls(start, end, points or DEFAULT_POINTS)

    def sample_times(self, retained_from: datetime, watermark: datetime) -> list[datetime]:
        """The points, evenly spread over what is known of the span, its ends among them; none where nothing is.

        One point is at its end. They are whole milliseconds, and fewer where there are no more of these.
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
    """How many were in at a moment, and who has come and gone since the point before: none at the first one."""

    at: datetime
    size: int
    event_counts: EventCounts


@dataclass(frozen=True, slots=True)
class SizeHistory:
    """An audience's sizes as its ledger knows them, from `known_since` to `as_of`; without these it is not watched."""

    retained_from: datetime | None = None
    watermark: datetime | None = None
    points: Sequence[SizePoint] = ()


class SizeHistoryReader:
    """Tells sizes over time."""

    def __init__(self, watches: WatchReader, repository: HistoryRepository) -> None:
        self._watches = watches
        self._repository = repository

    def history(self, ctx: RequestContext, audience_id: str, time_range: TimeRange) -> SizeHistory:
        """The sizes at the span's points: from who is in now backwards, so that what has been forgotten is no matter.

        Raises StoreUnavailable, OutOfTime.
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
            # Where the ledger has been cut since, or has ended, some of what was counted may have been missing.
            after = self._watches.get(ctx.org, audience_id, ctx.deadline)
            if after and (after.watch_epoch, after.retained_from) == (watch.watch_epoch, watch.retained_from):
                return SizeHistory(watch.retained_from, watch.watermark, points)

    def _points(self, ctx: RequestContext, watch: Watch, timestamps: Sequence[datetime]) -> Iterator[SizePoint]:
        """The points, the last one first."""
        size = self._repository.size(ctx.org, watch.watch_epoch, watch.seq, ctx.deadline)
        *between, trailing = self._repository.event_counts(
            ctx.org, watch.watch_epoch, watch.seq, timestamps, ctx.deadline
        )
        size -= trailing.entered - trailing.exited
        for at, counts in zip(reversed(timestamps), reversed([EventCounts(), *between]), strict=True):
            yield SizePoint(at, size, counts)
            size -= counts.entered - counts.exited
