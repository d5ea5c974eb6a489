"""The insights use case: the composition of an audience, compared with its org."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.result_warning import ResultWarning
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.compiler import NOT_ARCHIVED_MATCH
from audience_service.domain.filters.population import Population
from audience_service.domain.history.size_history import SizeHistory, SizeHistoryReader, TimeRange
from audience_service.domain.insights.baselines import BaselineCache
from audience_service.domain.insights.comparison import DimensionInsights, compare
from audience_service.domain.insights.dimensions import parse_dimensions
from audience_service.domain.insights.model import Breakdown
from audience_service.domain.insights.reliability import insight_warnings
from audience_service.domain.insights.repository import InsightRepository

MAX_VALUES = 2_000
"""The most values of a dimension that are read with a count each, the most frequent ones. A response may have fewer."""


@dataclass(frozen=True, slots=True)
class AudienceInsights:
    """An audience's size and dimensions, and the org's size at `baseline_read_at`."""

    size: int
    read_at: datetime
    baseline_size: int
    baseline_read_at: datetime
    min_bucket_size: int
    dimensions: tuple[DimensionInsights, ...]
    history: SizeHistory | None = None
    """The audience's sizes over time; None unless requested."""
    warnings: tuple[ResultWarning, ...] = ()


class Insights:
    """Breaks audiences down. Buckets of fewer than `min_bucket_size` records are suppressed; 0 and 1 disclose all."""

    def __init__(
        self,
        repository: InsightRepository,
        audiences: AudienceResolver,
        baselines: BaselineCache,
        size_history: SizeHistoryReader,
        min_bucket_size: int,
        check_cost: Callable[[RequestContext, str, Population], None] = lambda *_: None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        """`check_cost` raises MissingIndex for an audience whose filter scans too much."""
        self._repository = repository
        self._audiences = audiences
        self._baselines = baselines
        self._size_history = size_history
        self._min_bucket_size = min_bucket_size
        self._check_cost = check_cost
        self._clock = clock

    def get(
        self, ctx: RequestContext, audience_id: str, requested: Sequence[str], limit: int, span: TimeRange | None = None
    ) -> AudienceInsights:
        """An audience by dimensions, with up to `limit` values each, and its sizes over `span` if that is given.

        Raises InvalidArgument, InvalidFilter, AudienceNotFound, UnusableAudience, MissingIndex, OutOfTime.
        """
        dimensions = parse_dimensions(requested)
        population = self._audiences.resolve_id(ctx, audience_id).population
        if isinstance(population, CompiledFilter):
            population = replace(population, field_path="audience_id")
        all_records = CompiledFilter(population.datatype, NOT_ARCHIVED_MATCH)
        key = (ctx.org, population.datatype, tuple(dimension.name for dimension in dimensions))

        def read(source: Population) -> Breakdown:
            as_of = self._clock().replace(microsecond=0)
            return self._repository.breakdown(ctx.org, source, dimensions, as_of, MAX_VALUES, ctx.deadline)

        if isinstance(population, CompiledFilter) and (population.match, population.joins) == (
            NOT_ARCHIVED_MATCH,
            None,
        ):
            members = baseline = self._baselines.refresh(key, lambda: read(population))
        else:
            self._check_cost(ctx, audience_id, population)
            members = read(population)
            baseline = self._baselines.get(key, lambda: read(all_records), ctx.deadline)
        compared = tuple(
            compare(
                dimension,
                audience_counts,
                baseline_counts,
                members.size,
                baseline.size,
                limit,
                self._min_bucket_size,
            )
            for dimension, audience_counts, baseline_counts in zip(
                dimensions, members.dimensions, baseline.dimensions, strict=True
            )
        )
        return AudienceInsights(
            size=members.size,
            read_at=members.read_at,
            baseline_size=baseline.size,
            baseline_read_at=baseline.read_at,
            min_bucket_size=self._min_bucket_size,
            dimensions=compared,
            history=self._size_history.history(ctx, audience_id, span) if span else None,
            warnings=insight_warnings(members.size, compared, is_requested=bool(requested)),
        )
