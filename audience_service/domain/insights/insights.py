"""The use case on insights: what an audience consists of, beside the org that it is part of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.caller import Call
from audience_service.domain.clock import now
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.compile import LIVING
from audience_service.domain.insights.baselines import Baselines
from audience_service.domain.insights.breakdown import Breakdown
from audience_service.domain.insights.comparison import DimensionInsights, compare
from audience_service.domain.insights.dimensions import read_dimensions
from audience_service.domain.ports import InsightRepository, Population
from audience_service.domain.watches.sizes import SizeHistory, Sizes, Span

MOST_VALUES = 2_000
"""Values of a dimension that are read one by one, the most frequent ones; an answer may show fewer."""


@dataclass(frozen=True, slots=True)
class AudienceInsights:
    """An audience's size and dimensions, and the org's size at `baseline_read_at`."""

    size: int
    read_at: datetime
    baseline_size: int
    baseline_read_at: datetime
    least: int
    dimensions: tuple[DimensionInsights, ...]
    history: SizeHistory | None = None
    """The audience's sizes over time, where they were asked for."""


class Insights:
    """Breaks audiences down. Cells of fewer than `least` records are not told; 0 and 1 tell all."""

    def __init__(
        self,
        repository: InsightRepository,
        audiences: Audiences,
        baselines: Baselines,
        sizes: Sizes,
        least: int,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._repository = repository
        self._audiences = audiences
        self._baselines = baselines
        self._sizes = sizes
        self._least = least
        self._clock = clock

    def get(
        self, call: Call, audience_id: str, wanted: Sequence[str], limit: int, span: Span | None = None
    ) -> AudienceInsights:
        """An audience by dimensions, `limit` values of each told one by one; and its sizes in a span, if one is given.

        Raises InvalidArgument, InvalidFilter, AudienceNotFound, UnusableAudience, OutOfTime.
        """
        dimensions = read_dimensions(wanted)
        population = self._audiences.named(call, audience_id).population
        if isinstance(population, CompiledFilter):
            population = replace(population, place="audience_id")
        everyone = CompiledFilter(population.datatype, LIVING)
        key = (call.org, population.datatype, tuple(dimension.name for dimension in dimensions))

        def read(those: Population) -> Breakdown:
            moment = self._clock().replace(microsecond=0)
            return self._repository.breakdown(call.org, those, dimensions, moment, MOST_VALUES, call.deadline)

        members = read(population)
        if isinstance(population, CompiledFilter) and (population.match, population.joined) == (LIVING, None):
            baseline = self._baselines.keep(key, members)
        else:
            baseline = self._baselines.get(key, lambda: read(everyone), call.deadline)
        return AudienceInsights(
            size=members.size,
            read_at=members.read_at,
            baseline_size=baseline.size,
            baseline_read_at=baseline.read_at,
            least=self._least,
            dimensions=tuple(
                compare(dimension, ours, theirs, members.size, baseline.size, limit, self._least)
                for dimension, ours, theirs in zip(dimensions, members.dimensions, baseline.dimensions, strict=True)
            ),
            history=self._sizes.history(call, audience_id, span) if span else None,
        )
