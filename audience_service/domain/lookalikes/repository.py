"""What a model asks of storage; domain/ports.py states what holds for every method.

`everyone` are the records that the seed, the baseline and the members are of: in use, of the countries asked for. Of a
population those count that are among them.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.population import Population
from audience_service.domain.lookalikes.counts import (
    FeatureStats,
    MomentSums,
    ScoredFeature,
    Scores,
    SeedCounts,
    SeedScores,
)
from audience_service.domain.lookalikes.features import Feature


class LookalikeRepository(Protocol):
    """Models are counted, and records scored, by the database. Raises UnsupportedByStore on the embedded store."""

    def check_supported(self) -> None:
        """Raise UnsupportedByStore where the other methods would."""

    def feature_stats(
        self,
        org: str,
        everyone: CompiledFilter,
        fields: Sequence[Feature],
        as_of: datetime,
        max_values: int,
        min_bucket_size: int,
        deadline: Deadline,
    ) -> FeatureStats:
        """The values of each field, the `most` frequent and all bands, by one pass. Dates as of `moment`.

        Of values that fewer than `least` have, numbers alone.
        """

    def seed_counts(
        self, org: str, seed: Population, everyone: CompiledFilter, stats: FeatureStats, deadline: Deadline
    ) -> SeedCounts:
        """How often the seed has the survey's values, by one pass. Every fifth by a hash of the sk is held out."""

    def moment_sums(
        self, org: str, everyone: CompiledFilter, size: int, fields: Sequence[ScoredFeature], deadline: Deadline
    ) -> MomentSums:
        """How the fields' scores vary together in a part of everyone, of `size`, that a hash of the sk draws."""

    def scores(self, org: str, everyone: CompiledFilter, fields: Sequence[ScoredFeature], deadline: Deadline) -> Scores:
        """How many records have each score."""

    def seed_scores(
        self, org: str, seed: Population, everyone: CompiledFilter, fields: Sequence[ScoredFeature], deadline: Deadline
    ) -> SeedScores:
        """The same of the seed."""

    def write(
        self,
        org: str,
        candidates: CompiledFilter,
        fields: Sequence[ScoredFeature],
        list_version_id: str,
        cutoff: int,
        max_members: int,
        deadline: Deadline,
    ) -> None:
        """Write the `most` candidates with the highest scores, none below `cutoff`, as rows of a list.

        By sk where scores are equal.
        """
