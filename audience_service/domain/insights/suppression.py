"""Suppression of small buckets, in which people might be recognised, and of the counts that would disclose them.

1. At least two small buckets are combined, with at least the minimum size in total: a single one would equal the total
   minus the rest.
2. If anything is suppressed, bands without records and the number of combined values are suppressed too: five records
   in five known bands are one in each.
3. A population below the minimum size shows its size alone. Its only value would be the one that is not shown.
4. The choice does not depend on the number of buckets shown. Otherwise the difference of two responses with different
   limits would disclose a bucket.
"""

from collections.abc import Mapping, Sequence

from audience_service.domain.insights.model import BucketCount, BucketKind, Quantile


def cells_to_suppress(counts: Sequence[int], min_bucket_size: int) -> set[int]:
    """The positions of the counts to suppress: those of 1 to `min_bucket_size` - 1, and enough others to hide them.

    The total minus the disclosed counts gives the sum of the suppressed ones. The next greater counts are therefore
    suppressed too, until that sum is at least `min_bucket_size`, or until all counts are suppressed. Unless all are
    suppressed, the sum has at least two counts.
    """
    suppressed = [position for position, count in enumerate(counts) if 0 < count < min_bucket_size]
    if not suppressed:
        return set()
    larger = sorted((count, position) for position, count in enumerate(counts) if count >= min_bucket_size)
    for _, position in larger:
        if sum(counts[position] for position in suppressed) >= min_bucket_size:
            break
        suppressed.append(position)
    return set(suppressed)


def suppressed_positions(buckets: Sequence[BucketCount], size: int, min_bucket_size: int) -> set[int]:
    """The positions of the buckets of a population of `size` records to suppress, with empty ones if there are any.

    All are suppressed if the population is small, or its part that has a value: each value has at most as many records.
    """
    counts = [bucket.count for bucket in buckets]
    without_value = sum(bucket.count for bucket in buckets if bucket.kind in (BucketKind.MISSING, BucketKind.INVALID))
    if 0 < size < min_bucket_size or 0 < size - without_value < min_bucket_size:
        return set(range(len(buckets)))
    suppressed = cells_to_suppress(counts, min_bucket_size)
    return suppressed | {position for position, count in enumerate(counts) if suppressed and not count}


def suppress_small(
    buckets: Sequence[BucketCount], size: int, min_bucket_size: int
) -> tuple[list[BucketCount], list[BucketCount]]:
    """The disclosed buckets, then one that merges the suppressed ones; and the suppressed ones.

    The merged bucket does not disclose its number of values. In a small population, its count is the population's size.
    """
    positions = suppressed_positions(buckets, size, min_bucket_size)
    if not positions:
        return list(buckets), []
    suppressed = [bucket for position, bucket in enumerate(buckets) if position in positions]
    disclosed = [bucket for position, bucket in enumerate(buckets) if position not in positions]
    count = size if 0 < size < min_bucket_size else sum(bucket.count for bucket in suppressed)
    return [*disclosed, BucketCount(BucketKind.SUPPRESSED, "", count, 0)], suppressed


def disclosed_quantiles(quantiles: Mapping[int, Quantile], min_bucket_size: int) -> dict[int, float]:
    """The quantiles with at least `min_bucket_size` records at or below them, and as many at or above."""
    return {
        percent: quantile.value
        for percent, quantile in quantiles.items()
        if quantile.count_at_or_below >= min_bucket_size and quantile.count_at_or_above >= min_bucket_size
    }
