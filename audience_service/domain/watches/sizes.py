"""How many were in a watched audience over time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from audience_service.domain.caller import Call
from audience_service.domain.clock import MILLISECOND, in_milliseconds
from audience_service.domain.errors import InvalidArgument
from audience_service.domain.watches.ports import Overtaken, PastRepository, WatchRepository
from audience_service.domain.watches.watch import Turnover, Watch

MOST_POINTS, DEFAULT_POINTS = 100, 30


@dataclass(frozen=True, slots=True)
class Span:
    """For which time sizes are wanted, None for as far as is known, and at how many points of it."""

    start: datetime | None
    end: datetime | None
    points: int

    @classmethod
    def read(cls, start: datetime | None, end: datetime | None, points: int, place: str) -> "Span":
        """The span that a request has at `place`, where 0 points are the default. Raises InvalidArgument."""
        if not 0 <= points <= MOST_POINTS:
            raise InvalidArgument.at(f"{place}.points", f"is {points}, and not from 1 to {MOST_POINTS}")
        if start and end and start > end:
            raise InvalidArgument.at(f"{place}.end_time", "is before the start_time")
        return cls(start, end, points or DEFAULT_POINTS)

    def within(self, known_since: datetime, as_of: datetime) -> list[datetime]:
        """The points, evenly spread over what is known of the span, its ends among them; none where nothing is.

        One point is at its end. They are whole milliseconds, and fewer where there are no more of these.
        """
        start = in_milliseconds(max(self.start or known_since, known_since))
        end = in_milliseconds(min(self.end or as_of, as_of))
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
    since: Turnover


@dataclass(frozen=True, slots=True)
class SizeHistory:
    """An audience's sizes as its ledger knows them, from `known_since` to `as_of`; without these it is not watched."""

    known_since: datetime | None = None
    as_of: datetime | None = None
    points: Sequence[SizePoint] = ()


class Sizes:
    """Tells sizes over time."""

    def __init__(self, watches: WatchRepository, repository: PastRepository) -> None:
        self._watches = watches
        self._repository = repository

    def history(self, call: Call, audience_id: str, span: Span) -> SizeHistory:
        """The sizes at the span's points: from who is in now backwards, so that what has been forgotten is no matter.

        Raises StoreUnavailable, OutOfTime.
        """
        while True:
            watch = self._watches.get(call.org, audience_id, call.deadline)
            if watch is None or watch.known_since is None or watch.as_of is None:
                return SizeHistory()
            moments = span.within(watch.known_since, watch.as_of)
            try:
                points = list(self._points(call, watch, moments))[::-1] if moments else []
            except Overtaken:
                continue
            # Where the ledger has been cut since, or has ended, some of what was counted may have been missing.
            after = self._watches.get(call.org, audience_id, call.deadline)
            if after and (after.generation, after.known_since) == (watch.generation, watch.known_since):
                return SizeHistory(watch.known_since, watch.as_of, points)

    def _points(self, call: Call, watch: Watch, moments: Sequence[datetime]) -> Iterator[SizePoint]:
        """The points, the last one first."""
        size = self._repository.size(call.org, watch.generation, watch.seq, call.deadline)
        *between, behind = self._repository.turnovers(call.org, watch.generation, watch.seq, moments, call.deadline)
        size -= behind.entered - behind.exited
        for at, since in zip(reversed(moments), reversed([Turnover(), *between]), strict=True):
            yield SizePoint(at, size, since)
            size -= since.entered - since.exited
