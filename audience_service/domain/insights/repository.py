"""What insights ask of storage."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters.population import Population
from audience_service.domain.insights.dimensions import Dimension
from audience_service.domain.insights.model import Breakdown


class InsightRepository(Protocol):
    """Populations broken down by dimensions."""

    def breakdown(
        self,
        org: str,
        population: Population,
        dimensions: Sequence[Dimension],
        as_of: datetime,
        max_values: int,
        deadline: Deadline,
    ) -> Breakdown:
        """The cells of each dimension, all from one pass, dates as seen from `moment`, which is in whole seconds.

        The `most` frequent values of a dimension are told one by one, the rest in one cell. Cells come the most
        frequent first, those of bands in the bands' order, empty ones too.
        """
