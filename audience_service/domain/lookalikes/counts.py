"""The counts that a model needs from the database: of the values of fields, and of scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audience_service.domain.lookalikes.features import Feature

Scores = Mapping[int, int]
"""Maps a score, in thousandths, to its number of records."""


@dataclass(frozen=True, slots=True)
class ValueCount:
    """A value of a field and its number of records.

    The value is text, a number, a bool, the start of a bin, or None if missing.
    """

    value: Any
    count: int


@dataclass(frozen=True, slots=True)
class FeatureValues:
    """The most frequent values of one field in an org.

    `bin_edges` are the lower bounds of the bins of its numbers, ascending; empty if each number is a value of its own.
    `bin_maxima` are the greatest number of each bin. `has_lists` is true if some record has a list in the field,
    `multi_valued` if some list has more than one value.
    """

    feature: Feature
    values: tuple[ValueCount, ...]
    bin_edges: tuple[float, ...]
    bin_maxima: tuple[float, ...]
    multi_valued: bool
    has_lists: bool


@dataclass(frozen=True, slots=True)
class FeatureStats:
    """The number of an org's records in the requested countries, and the values of each field.

    Bins of dates are as of `as_of`.
    """

    size: int
    as_of: datetime
    fields: tuple[FeatureValues, ...]


@dataclass(frozen=True, slots=True)
class SeedCounts:
    """The size of the seed, the size of its part without the holdout, and the counts of the values in both.

    `counts` has an item per field of the FeatureStats, with a pair per value: its count in the seed, and its count in
    the training part.
    """

    size: int
    training_size: int
    counts: tuple[Sequence[tuple[int, int]], ...]


@dataclass(frozen=True, slots=True)
class ScoredFeature:
    """The weights by which records are scored for one field, in thousandths: of each value, and of all others.

    Numbers are in the bins that start at `bin_edges`, if there are any; dates are in bins as of `as_of`. If
    `has_lists`, each value of a list counts.
    """

    feature: Feature
    as_of: datetime
    bin_edges: tuple[float, ...]
    weights: tuple[tuple[Any, int], ...]
    other_weight: int
    has_lists: bool


@dataclass(frozen=True, slots=True)
class MomentSums:
    """The sums of the fields' scores over `count` records, and the sums of their products in pairs."""

    count: int
    sums: Sequence[int]
    products: Sequence[Sequence[int]]

    def covariance(self) -> list[list[float]]:
        """The covariance matrix of the fields' scores, in thousandths squared.

        The differences are of whole numbers, so that the variance of a constant score is exactly 0.
        """
        n, sums, size = max(self.count, 1), self.sums, range(len(self.sums))
        return [[(n * self.products[i][j] - sums[i] * sums[j]) / n**2 for j in size] for i in size]


@dataclass(frozen=True, slots=True)
class SeedScores:
    """The scores of the holdout, and of the complete seed."""

    holdout: Scores
    all: Scores
