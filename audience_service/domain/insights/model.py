"""The breakdown of a population: the number of records per value of each dimension."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

PERCENTS = (0, 10, 25, 50, 75, 90, 100)
"""The quantiles in per cent; 0 is the minimum and 100 the maximum."""


class BucketKind(StrEnum):
    """What a bucket counts: the records with one value, or one of the other groups."""

    VALUE = "value"
    MISSING = "missing"
    """The field is missing, null, blank text or an empty list."""
    INVALID = "invalid"
    """The field has a value that is invalid for the dimension."""
    OTHER = "other"
    """All values after the most frequent ones, which have a bucket each."""
    SUPPRESSED = "suppressed"
    """Values of few records, and the further values that hide how few."""


@dataclass(frozen=True, slots=True)
class BucketCount:
    """The number of records with a value. A bucket OTHER or SUPPRESSED counts the records of `values` values."""

    kind: BucketKind
    label: str
    count: int
    values: int = 1

    @property
    def key(self) -> tuple[BucketKind, str]:
        """Identifies the bucket in any breakdown of the dimension. A label may equal a kind's name, so it has both."""
        return self.kind, self.label


def merge(kind: BucketKind, buckets: Iterable[BucketCount]) -> BucketCount:
    """The buckets as one of the given kind."""
    counts = [(bucket.count, bucket.values) for bucket in buckets]
    return BucketCount(kind, "", sum(count for count, _ in counts), sum(values for _, values in counts))


@dataclass(frozen=True, slots=True)
class Quantile:
    """A number of at least one record, with the counts of records at or below it, and at or above it."""

    value: float
    count_at_or_below: int
    count_at_or_above: int


@dataclass(frozen=True, slots=True)
class DimensionCounts:
    """The buckets of one dimension, and its quantiles by per cent if it has numbers.

    If `max_values_per_record` is above 1, the buckets may sum to more than the number of records.
    """

    buckets: tuple[BucketCount, ...]
    max_values_per_record: int
    number_count: int
    quantiles: Mapping[int, Quantile]


@dataclass(frozen=True, slots=True)
class Breakdown:
    """A population's size and its dimensions, all from one scan."""

    size: int
    read_at: datetime
    dimensions: tuple[DimensionCounts, ...]
