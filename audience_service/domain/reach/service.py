"""The use cases on reach: how many members there are, and what one of them is like."""

import json
import random
from collections.abc import Callable, Generator, Hashable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from audience_service.domain.audiences.repository import MemberRepository, SliceRepository
from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.audiences.selection_resolver import ResolvedSelection, SelectionResolver
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.errors import OutOfTime
from audience_service.domain.core.record import Record
from audience_service.domain.filters import identity
from audience_service.domain.filters.population import Population
from audience_service.domain.reach.key_draw import Estimate
from audience_service.domain.reach.progressive_count import MAX_SAMPLE_SIZE, ProgressiveCounter
from audience_service.domain.reach.single_flight import SingleFlight
from audience_service.domain.schema.sample_masking import mask_profile

_RESERVED_SECONDS, _RESERVED_SHARE = 1.0, 0.4
"""What of the deadline is kept for a sample where the caller states no budget: the lesser of the two."""


@dataclass(frozen=True, slots=True)
class ReachEstimate:
    """A count, exact or sampled, as of `read_at`, and a masked member; None where there is none, or none was met."""

    estimate: Estimate
    sample_profile: Mapping[str, Any] | None
    read_at: datetime


@dataclass(frozen=True, slots=True)
class ReachProgress(ReachEstimate):
    """An estimate of a stream: `read` of about `total` records have been looked at."""

    scanned_count: int
    total_count: int


@dataclass(frozen=True, slots=True)
class _Result:
    """What a call has found, and how many seconds it gave the exact count."""

    reach: ReachEstimate
    timeout: float | None


class Reach:
    """Counts what member selectors select: the populations that streams of members read."""

    def __init__(
        self,
        members: MemberRepository,
        slices: SliceRepository,
        selection_resolver: SelectionResolver,
        max_sample_size: int = MAX_SAMPLE_SIZE,
        new_random: Callable[[], random.Random] = random.Random,
    ) -> None:
        """`sampled` is the most records of a sample; `new_random` returns the generator that draws it."""
        self._members = members
        self._slices = slices
        self._selection_resolver = selection_resolver
        self._max_sample_size = max_sample_size
        self._new_random = new_random
        self._single_flight: SingleFlight[_Result] = SingleFlight()

    def estimate(self, ctx: RequestContext, selection: AudienceSelector, budget: float | None = None) -> ReachEstimate:
        """The reach of a selection: exact if that takes no more than `budget` seconds, else of a sample.

        Without a budget an exact count may take what the deadline leaves of it. Identical concurrent calls share one
        answer. Raises what `Populations.choose` raises, and OutOfTime if neither the count nor the sample fits the
        deadline.
        """
        choice = self._selection_resolver.resolve(ctx, selection)
        timeout = _timeout(ctx.deadline, budget)

        def is_acceptable(result: _Result) -> bool:
            return result.reach.estimate.exact or _same_timeout_class(result.timeout, timeout)

        def work() -> _Result:
            return _Result(self._estimate(ctx, choice, timeout), timeout)

        key = (ctx.org, flight_key(selection, choice), budget)
        return self._single_flight.run(key, ctx.deadline, work, is_acceptable).reach

    def stream(self, ctx: RequestContext, selection: AudienceSelector) -> Generator[ReachProgress, None, None]:
        """Estimates of a selection's reach that narrow; the last one is exact and shows a member. Raises as `estimate`.

        Each takes one short query; closed between two, the generator asks nothing more of the database.
        """
        choice = self._selection_resolver.resolve(ctx, selection)
        read_at = now()
        counting = self._progressive_counter(ctx, choice.population).run()
        with closing(counting):
            for progress in counting:
                if progress.estimate.exact:
                    self._selection_resolver.verify_complete(ctx, choice, progress.estimate.count)
                yield ReachProgress(
                    progress.estimate,
                    _masked_profile(progress.record),
                    read_at,
                    progress.scanned_count,
                    progress.total_count,
                )

    def _estimate(
        self, ctx: RequestContext, resolved_selection: ResolvedSelection, timeout: float | None
    ) -> ReachEstimate:
        read_at = now()
        deadline = ctx.deadline if timeout is None else ctx.deadline.min_with(timeout)
        try:
            count, record = self._members.reach(ctx.org, resolved_selection.population, deadline)
            self._selection_resolver.verify_complete(ctx, resolved_selection, count)
            return ReachEstimate(Estimate.of(count), _masked_profile(record), read_at)
        except OutOfTime:
            ctx.deadline.check()
        read_at = now()
        progress = self._progressive_counter(ctx, resolved_selection.population).estimate_from_sample(
            self._max_sample_size
        )
        self._selection_resolver.verify_complete(
            ctx, resolved_selection, progress.estimate.count if progress.estimate.exact else None
        )
        return ReachEstimate(progress.estimate, _masked_profile(progress.record), read_at)

    def _progressive_counter(self, ctx: RequestContext, population: Population) -> ProgressiveCounter:
        return ProgressiveCounter(self._slices, ctx.org, population, ctx.deadline, self._new_random())


def flight_key(selection: AudienceSelector, resolved_selection: ResolvedSelection) -> Hashable:
    """Equal only for selectors that are equal in every field, of audiences in the same versions."""
    versions = tuple(
        (source.id, source.version) for source in (*resolved_selection.sources, *resolved_selection.excluded_sources)
    )
    written = replace(
        selection,
        filter=None,
        audience_ids=tuple(selection.audience_ids),
        exclude_audience_ids=tuple(selection.exclude_audience_ids),
    )
    return written, json.dumps(identity(selection.filter), sort_keys=True), versions


def _timeout(deadline: Deadline, budget: float | None) -> float | None:
    """How many seconds the exact count is given, None for as many as it takes."""
    seconds_left = deadline.remaining()
    if budget is not None or seconds_left is None:
        return budget
    return seconds_left - min(_RESERVED_SECONDS, seconds_left * _RESERVED_SHARE)


def _same_timeout_class(other: float | None, timeout: float | None) -> bool:
    """Whether an exact count that got no time with one would, by and large, have got none with the other."""
    return other is None or (timeout is not None and other >= timeout * 0.9)


def _masked_profile(record: Record | None) -> Mapping[str, Any] | None:
    """What is shown of a record; nothing of one whose payload is no object."""
    data = record.get("data") if record else None
    return mask_profile(data if isinstance(data, Mapping) else {}) if record else None
