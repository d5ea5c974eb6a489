"""What the database counts for a model: values of fields, and scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audience_service.domain.lookalikes.features import Feature

Scores = Mapping[int, int]
"""How many records have each score, in thousandths."""


@dataclass(frozen=True, slots=True)
class ValueCount:
    """A value of a field (text, number, bool, the start of a band, None for nothing) and how many records have it."""

    value: Any
    count: int


@dataclass(frozen=True, slots=True)
class FeatureValues:
    """The values of one field in an org, the most frequent ones.

    `cuts` are the lower ends of the bands that its numbers are in, ascending, none where each number stands for itself;
    `tops` are the greatest number of each. `listed` says that some record has a list there, `several` that some list
    has more values than one.
    """

    feature: Feature
    values: tuple[ValueCount, ...]
    bin_edges: tuple[float, ...]
    bin_maxima: tuple[float, ...]
    multi_valued: bool
    has_lists: bool


@dataclass(frozen=True, slots=True)
class FeatureStats:
    """An org's records, of the countries asked for: how many, and the values of each field. Dates as of `moment`."""

    size: int
    as_of: datetime
    fields: tuple[FeatureValues, ...]


@dataclass(frozen=True, slots=True)
class SeedCounts:
    """The seed: how many there are, how many the model may learn from, and of each field how often it has the values.

    `counts` are, by field, for each of the survey's values how many of the seed have it, and of those to learn from.
    """

    size: int
    training_size: int
    counts: tuple[Sequence[tuple[int, int]], ...]


@dataclass(frozen=True, slots=True)
class ScoredFeature:
    """One field as records are scored by it: what each value counts for, and all others, in thousandths.

    Numbers are in bands that begin at `cuts`, where there are any; dates are in bands as of `moment`. Lists are looked
    into where some record has one (`listed`).
    """

    feature: Feature
    as_of: datetime
    bin_edges: tuple[float, ...]
    weights: tuple[tuple[Any, int], ...]
    other_weight: int
    has_lists: bool


@dataclass(frozen=True, slots=True)
class MomentSums:
    """How the fields' scores vary together, over `count` records: their sums, and the sums of their products."""

    count: int
    sums: Sequence[int]
    products: Sequence[Sequence[int]]

    def covariance(self) -> list[list[float]]:
        """The matrix, in thousandths squared."""
        n, sums = max(self.count, 1), self.sums
        return [
            [self.products[i][j] / n - sums[i] / n * (sums[j] / n) for j in range(len(sums))] for i in range(len(sums))
        ]


@dataclass(frozen=True, slots=True)
class SeedScores:
    """How many of the seed have each score: those that were held out, and all."""

    holdout: Scores
    all: Scores
