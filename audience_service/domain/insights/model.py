"""A population as the database breaks it down: how many records have each value of each dimension."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

PERCENTS = (0, 10, 25, 50, 75, 90, 100)
"""Of quantiles; 0 and 100 are the least and the greatest."""


class BucketKind(StrEnum):
    """What a cell counts: a value of the records, or those of which there is none to name."""

    VALUE = "value"
    MISSING = "missing"
    """Nothing is there, null, blank text or an empty list."""
    INVALID = "invalid"
    """Something is there that the dimension cannot be read from."""
    OTHER = "other"
    """Values past the number that is told one by one."""
    SUPPRESSED = "suppressed"
    """Values that few records have, and what would tell how few."""


@dataclass(frozen=True, slots=True)
class BucketCount:
    """How many records have a value; of `other` and `suppressed` how many have one of `values` values."""

    kind: BucketKind
    label: str
    count: int
    values: int = 1

    @property
    def key(self) -> tuple[BucketKind, str]:
        """What two breakdowns of the same dimension have in common; text may look like a kind's name."""
        return self.kind, self.label


def merge(kind: BucketKind, buckets: Iterable[BucketCount]) -> BucketCount:
    """Several cells as one."""
    counts = [(bucket.count, bucket.values) for bucket in buckets]
    return BucketCount(kind, "", sum(count for count, _ in counts), sum(values for _, values in counts))


@dataclass(frozen=True, slots=True)
class Quantile:
    """A number that some record has, and how many have this or less, and this or more."""

    value: float
    count_at_or_below: int
    count_at_or_above: int


@dataclass(frozen=True, slots=True)
class DimensionCounts:
    """One dimension's cells, and its quantiles by percent where it has numbers.

    `several` is the most values that one record has: above 1, cells do not add up to the records.
    """

    buckets: tuple[BucketCount, ...]
    max_values_per_record: int
    number_count: int
    quantiles: Mapping[int, Quantile]


@dataclass(frozen=True, slots=True)
class Breakdown:
    """A population's size and its dimensions, all as of one pass over it."""

    size: int
    read_at: datetime
    dimensions: tuple[DimensionCounts, ...]
