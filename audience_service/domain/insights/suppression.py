"""Suppression of small buckets, in which people might be recognised, and of the counts that would disclose them.

At least two small buckets are combined, with at least the minimum size in total: a single one would equal the total
minus the rest. The choice does not depend on the number of buckets shown. Otherwise the difference of two responses
with different limits would disclose a bucket.
"""

from collections.abc import Mapping, Sequence

from audience_service.domain.insights.model import BucketCount, BucketKind, Quantile, merge


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


def suppress_small(buckets: Sequence[BucketCount], min_bucket_size: int) -> tuple[list[BucketCount], list[BucketCount]]:
    """The disclosed buckets, then one that merges the suppressed ones; and the suppressed ones."""
    suppressed_positions = cells_to_suppress([bucket.count for bucket in buckets], min_bucket_size)
    if not suppressed_positions:
        return list(buckets), []
    suppressed = [bucket for position, bucket in enumerate(buckets) if position in suppressed_positions]
    disclosed = [bucket for position, bucket in enumerate(buckets) if position not in suppressed_positions]
    return [*disclosed, merge(BucketKind.SUPPRESSED, suppressed)], suppressed


def disclosed_quantiles(quantiles: Mapping[int, Quantile], min_bucket_size: int) -> dict[int, float]:
    """The quantiles with at least `min_bucket_size` records at or below them, and as many at or above."""
    return {
        percent: quantile.value
        for percent, quantile in quantiles.items()
        if quantile.count_at_or_below >= min_bucket_size and quantile.count_at_or_above >= min_bucket_size
    }
