"""The reach use cases: the number of members of a selection, and a masked sample member."""

import json
import random
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from audience_service.domain.audiences.model import to_response_form
from audience_service.domain.audiences.repository import KeyRangeRepository, MemberRepository
from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.audiences.selection_resolver import ResolvedSelection, SelectionResolver
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.errors import OutOfTime
from audience_service.domain.core.record import Record
from audience_service.domain.filters import FilterWarning, identity
from audience_service.domain.filters.population import Population
from audience_service.domain.filters.references import audience_references
from audience_service.domain.reach.key_draw import Estimate
from audience_service.domain.reach.progressive_count import MAX_SAMPLE_SIZE, ProgressiveCounter
from audience_service.domain.reach.single_flight import SingleFlight
from audience_service.domain.schema.filter_linter import FilterLinter, PendingWarnings
from audience_service.domain.schema.sample_masking import mask_profile
from audience_service.domain.segments.model import ID_PREFIX
from audience_service.observability import metrics

_RESERVED_SECONDS, _RESERVED_SHARE = 1.0, 0.4
"""The time reserved for a sample if the caller sets no budget: 1 s or 40 % of the remaining time.

The smaller of the two applies.
"""


@dataclass(frozen=True, slots=True)
class ReachEstimate:
    """A count, exact or sampled, as of `read_at`, and one member with masked values.

    `sample_profile` is None if there is no member, or if the sample found none.
    """

    estimate: Estimate
    sample_profile: Mapping[str, Any] | None
    read_at: datetime
    warnings: Sequence[FilterWarning] = field(default=(), kw_only=True)
    """The warnings about the filter of the request, or of its segment."""


@dataclass(frozen=True, slots=True)
class ReachProgress(ReachEstimate):
    """An estimate of a stream, after evaluating `scanned_count` of about `total_count` records."""

    scanned_count: int
    total_count: int


@dataclass(frozen=True, slots=True)
class _Result:
    """The result of a call, and the timeout in seconds of its exact count."""

    reach: ReachEstimate
    timeout: float | None


class Reach:
    """Counts the members of a selection: the same members as StreamMembers returns."""

    def __init__(
        self,
        members: MemberRepository,
        slices: KeyRangeRepository,
        selection_resolver: SelectionResolver,
        linter: FilterLinter,
        is_too_costly: Callable[[RequestContext, Population], bool] = lambda *_: False,
        max_sample_size: int = MAX_SAMPLE_SIZE,
        new_random: Callable[[], random.Random] = random.Random,
    ) -> None:
        """`is_too_costly` is whether to estimate a population without an attempt to count it, by the count's deadline.

        `max_sample_size` is the most records of a sample; `new_random` returns the generator that draws them.
        """
        self._members = members
        self._slices = slices
        self._selection_resolver = selection_resolver
        self._linter = linter
        self._is_too_costly = is_too_costly
        self._max_sample_size = max_sample_size
        self._new_random = new_random
        self._single_flight: SingleFlight[_Result] = SingleFlight()

    def estimate(self, ctx: RequestContext, selection: AudienceSelector, budget: float | None = None) -> ReachEstimate:
        """The reach of a selection: exact if counting takes at most `budget` seconds, else an estimate from a sample.

        Without a budget the exact count may take the deadline's time minus a reserve for the sample. Identical
        concurrent calls share one result. Raises the errors of `SelectionResolver.resolve`. Raises OutOfTime if neither
        the count nor the sample fits the deadline.
        """
        choice = self._selection_resolver.resolve(ctx, selection)
        pending = self._begin_warnings(ctx, selection, choice)
        timeout = _timeout(ctx.deadline, budget)

        def is_acceptable(result: _Result) -> bool:
            return result.reach.estimate.exact or _same_timeout_class(result.timeout, timeout)

        def work() -> _Result:
            return _Result(self._estimate(ctx, choice, timeout), timeout)

        key = (ctx.org, flight_key(selection, choice), budget)
        reach = self._single_flight.run(key, ctx.deadline, work, is_acceptable).reach
        _count_answer(reach.estimate)
        return replace(reach, warnings=pending.get(ctx.deadline)) if pending else reach

    def stream(self, ctx: RequestContext, selection: AudienceSelector) -> Generator[ReachProgress, None, None]:
        """Estimates of a selection's reach that narrow; the last one is exact and has a sample profile.

        Each estimate takes one short query. A closed generator sends no further queries. Raises as `estimate`.
        """
        choice = self._selection_resolver.resolve(ctx, selection)
        pending = self._begin_warnings(ctx, selection, choice)
        read_at = now()
        counting = self._progressive_counter(ctx, choice.population).run()
        with closing(counting):
            for progress in counting:
                if progress.estimate.exact:
                    self._selection_resolver.verify_complete(ctx, choice, progress.estimate.count)
                    _count_answer(progress.estimate)
                is_complete = pending is not None and (progress.estimate.exact or pending.is_ready)
                yield ReachProgress(
                    progress.estimate,
                    _masked_profile(progress.record),
                    read_at,
                    progress.scanned_count,
                    progress.total_count,
                    warnings=pending.get(ctx.deadline) if pending and is_complete else (),
                )

    def _begin_warnings(
        self, ctx: RequestContext, selection: AudienceSelector, resolved: ResolvedSelection
    ) -> PendingWarnings | None:
        """Begin to read the samples for the warnings about the request's filter, or the filter of its one segment."""
        if selection.filter is not None:
            return self._linter.begin(ctx, selection.filter)
        if selection.audience_id.startswith(ID_PREFIX) and resolved.sources:
            return self._linter.begin(ctx, to_response_form(resolved.sources[0].filter))
        return None

    def _estimate(
        self, ctx: RequestContext, resolved_selection: ResolvedSelection, timeout: float | None
    ) -> ReachEstimate:
        deadline = ctx.deadline if timeout is None else ctx.deadline.min_with(timeout)
        try:
            if not self._is_too_costly(replace(ctx, deadline=deadline), resolved_selection.population):
                read_at = now()
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
    """A key that is equal only for selectors with equal fields and audiences in equal versions.

    A filter that refers to other audiences has a key of its own: their versions are not known here.
    """
    sources = (*resolved_selection.sources, *resolved_selection.excluded_sources)
    versions: tuple[Hashable, ...] = tuple((source.id, source.version) for source in sources)
    if any(each and audience_references(each.where) for each in (selection.filter, *(each.filter for each in sources))):
        versions = (*versions, object())
    comparable = replace(
        selection,
        filter=None,
        audience_ids=tuple(selection.audience_ids),
        exclude_audience_ids=tuple(selection.exclude_audience_ids),
    )
    return comparable, json.dumps(identity(selection.filter), sort_keys=True), versions


def _count_answer(estimate: Estimate) -> None:
    metrics.REACH_ANSWERS.labels("exact" if estimate.exact else "sampled").inc()


def _timeout(deadline: Deadline, budget: float | None) -> float | None:
    """The timeout of the exact count in seconds; None for no limit."""
    seconds_left = deadline.remaining()
    if budget is not None or seconds_left is None:
        return budget
    return seconds_left - min(_RESERVED_SECONDS, seconds_left * _RESERVED_SHARE)


def _same_timeout_class(other: float | None, timeout: float | None) -> bool:
    """Whether an exact count that exceeds `other` seconds would most likely also exceed `timeout`."""
    return other is None or (timeout is not None and other >= timeout * 0.9)


def _masked_profile(record: Record | None) -> Mapping[str, Any] | None:
    """The record with masked values; {} if its `data` is not an object, None if there is no record."""
    data = record.get("data") if record else None
    return mask_profile(data if isinstance(data, Mapping) else {}) if record else None
