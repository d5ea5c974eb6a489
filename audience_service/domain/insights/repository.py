"""The port of insights to storage."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters.population import Population
from audience_service.domain.insights.dimensions import Dimension
from audience_service.domain.insights.model import Breakdown


class InsightRepository(Protocol):
    """Breaks populations down by dimensions."""

    def breakdown(
        self,
        org: str,
        population: Population,
        dimensions: Sequence[Dimension],
        as_of: datetime,
        max_values: int,
        deadline: Deadline,
    ) -> Breakdown:
        """The buckets of each dimension, all from one scan.

        Bands of dates are as of `as_of`, which has no fractions of a second. The `max_values` most frequent values of a
        dimension have a bucket each, the others share one. The most frequent bucket is first. Bands keep their own
        order, and include empty ones.
        """
