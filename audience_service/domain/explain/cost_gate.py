"""The cost gate: what happens to a filter whose plan scans more of the org's records than the operator's limit.

EstimateReach then answers with a sample. An analysis, which has none, is refused if an index would serve its filter.
Without such an index it runs, because nobody could cure it.
"""

from collections.abc import Callable

from audience_service.domain.audiences.repository import KeyRangeRepository
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import MissingIndex
from audience_service.domain.explain.index_advice import IndexAdvice
from audience_service.domain.explain.query_plan import PlanKind, QueryPlan
from audience_service.domain.explain.repository import PlanRepository
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.population import Population

Advise = Callable[[RequestContext, CompiledFilter, QueryPlan], IndexAdvice]


class CostGate:
    """Decides by the query plan, which the database makes without running the query."""

    def __init__(
        self, plans: PlanRepository, key_ranges: KeyRangeRepository, advise: Advise, max_scanned_records: int
    ) -> None:
        """`max_scanned_records` of 0 lets every filter pass, and reads no plan."""
        self._plans = plans
        self._key_ranges = key_ranges
        self._advise = advise
        self._max_scanned_records = max_scanned_records

    def is_too_costly(self, ctx: RequestContext, population: Population) -> bool:
        """Whether the population's count would scan more records than the limit. Lists never do. Raises OutOfTime."""
        return self._costly_plan(ctx, population) is not None

    def check(self, ctx: RequestContext, audience_id: str, population: Population) -> None:
        """Raise MissingIndex if the audience's filter is too costly, and an index would serve it. Raises OutOfTime."""
        plan = self._costly_plan(ctx, population)
        if plan is None or not isinstance(population, CompiledFilter):
            return
        advice = self._advise(ctx, population, plan)
        if advice.useful:
            index = f"{advice.datatype}({', '.join(advice.fields)})"
            raise MissingIndex(
                f"the audience's filter scans over {self._max_scanned_records:,} records; create the index {index}",
                metadata={"id": audience_id, "limit": str(self._max_scanned_records), "index": index},
            )

    def _costly_plan(self, ctx: RequestContext, population: Population) -> QueryPlan | None:
        if not self._max_scanned_records or not isinstance(population, CompiledFilter):
            return None
        plan = self._plans.plan(ctx.org, population, ctx.deadline, analyze=False, force_lookup=True)
        if plan is None or plan.kind is not PlanKind.SCAN:
            return None
        total = self._key_ranges.key_sample(ctx.org, population, ctx.deadline).total
        return plan if total > self._max_scanned_records else None
