"""The port of lookalikes to storage; domain/audiences/repository.py states the rules for every method.

`everyone` selects the records for the seed, the baseline and the members: those that are not archived, in the requested
countries. Only the records of a population that are in `everyone` count.
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
    """Counts values and scores records in the database. Methods raise UnsupportedByStore on the embedded store."""

    def check_supported(self) -> None:
        """Raise UnsupportedByStore if the other methods would."""

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
        """The `max_values` most frequent values of each field, and all bins, from one scan.

        Bins of dates are as of `as_of`. Only numbers may have fewer than `min_bucket_size` records.
        """

    def seed_counts(
        self, org: str, seed: Population, everyone: CompiledFilter, stats: FeatureStats, deadline: Deadline
    ) -> SeedCounts:
        """The seed's counts of the values in `stats`, from one scan. A hash of the sk selects the holdout, a fifth."""

    def moment_sums(
        self, org: str, everyone: CompiledFilter, size: int, fields: Sequence[ScoredFeature], deadline: Deadline
    ) -> MomentSums:
        """The sums and products of the fields' scores in a sample of `everyone`, which has `size` records.

        A hash of the sk draws the sample.
        """

    def scores(self, org: str, everyone: CompiledFilter, fields: Sequence[ScoredFeature], deadline: Deadline) -> Scores:
        """The number of records per score."""

    def seed_scores(
        self, org: str, seed: Population, everyone: CompiledFilter, fields: Sequence[ScoredFeature], deadline: Deadline
    ) -> SeedScores:
        """The number of records per score in the holdout and in the seed."""

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
        """Write the `max_members` candidates with the highest scores of at least `cutoff` as rows of a list.

        Candidates with equal scores are in the order of their sk.
        """
