"""Small cells: counts of so few people that they might be recognised are not told, nor what would give them away."""

from collections.abc import Mapping, Sequence

from audience_service.domain.insights.model import BucketCount, BucketKind, Quantile, merge


def cells_to_suppress(counts: Sequence[int], min_bucket_size: int) -> set[int]:
    """The positions of the counts of 1 to `least` - 1, and of as many of the next greater as it takes to hide them.

    A single one could be computed from the total, and so could all of them if they came to less than `least`: they come
    to that much together, for which it takes two at least, or all are hidden.
    """
    suppressed = [position for position, count in enumerate(counts) if 0 < count < min_bucket_size]
    if not suppressed:
        return set()
    rest = sorted((count, position) for position, count in enumerate(counts) if count >= min_bucket_size)
    for _, position in rest:
        if sum(counts[position] for position in suppressed) >= min_bucket_size:
            break
        suppressed.append(position)
    return set(suppressed)


def suppress_small(cells: Sequence[BucketCount], min_bucket_size: int) -> tuple[list[BucketCount], list[BucketCount]]:
    """The cells with those to hide made one, behind the others, and the hidden ones."""
    suppressed_positions = cells_to_suppress([cell.count for cell in cells], min_bucket_size)
    if not suppressed_positions:
        return list(cells), []
    suppressed = [cell for position, cell in enumerate(cells) if position in suppressed_positions]
    disclosed = [cell for position, cell in enumerate(cells) if position not in suppressed_positions]
    return [*disclosed, merge(BucketKind.SUPPRESSED, suppressed)], suppressed


def disclosed_quantiles(quantiles: Mapping[int, Quantile], min_bucket_size: int) -> dict[int, float]:
    """The quantiles that at least `least` records are at or below, and as many at or above."""
    return {
        percent: quantile.value
        for percent, quantile in quantiles.items()
        if quantile.count_at_or_below >= min_bucket_size and quantile.count_at_or_above >= min_bucket_size
    }
