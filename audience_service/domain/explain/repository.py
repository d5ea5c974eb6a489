"""The storage that explanations need."""

from collections.abc import Sequence
from typing import Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.explain.query_plan import ExistingIndex, QueryPlan
from audience_service.domain.filters.population import Population


class PlanRepository(Protocol):
    """Reads the database's query plans and indexes."""

    def plan(
        self, org: str, population: Population, deadline: Deadline, *, analyze: bool, force_lookup: bool = False
    ) -> QueryPlan | None:
        """The plan of the population's count, with execution statistics if `analyze` is set.

        With `force_lookup` related records are looked up in it: nothing of them is read to make the plan.

        None on the embedded store, which uses no indexes. It raises UnsupportedByStore for a filter that it refuses.
        """

    def hash_text(self, text: str, deadline: Deadline) -> int:
        """The database's own $toHashedIndexKey of a text."""

    def indexes(self, org: str, datatype: str, deadline: Deadline) -> Sequence[ExistingIndex]:
        """The indexes on the records of a datatype. All orgs share them."""
