"""One dimension of an audience compared with the org: shares of both, and their index."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeAlias

from audience_service.domain.insights.dimensions import Dimension, DimensionKind
from audience_service.domain.insights.model import BucketCount, BucketKind, DimensionCounts, merge
from audience_service.domain.insights.suppression import disclosed_quantiles, suppress_small, suppressed_positions

Key: TypeAlias = tuple[BucketKind, str]
_Group: TypeAlias = tuple[BucketCount, Sequence[BucketCount]]
"""A bucket, and the counts that it sums up."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of the audience, compared with the org's.

    `baseline_count` is None if it is suppressed, or if the value is not among those read from the org. `index` is 100
    if the share equals the org's. It is None if the org's share is zero or not disclosed.
    """

    bucket_count: BucketCount
    share: float
    baseline_count: int | None
    baseline_share: float | None
    index: float | None


@dataclass(frozen=True, slots=True)
class DimensionInsights:
    """One dimension of an audience.

    `with_value` is the number of members with at least one value, None if it would disclose a small bucket. Quantiles
    are by per cent. They are empty if fewer than half of the records whose field is not missing have
    a number.
    """

    dimension: Dimension
    multi_valued: bool
    with_value: int | None
    buckets: tuple[Bucket, ...]
    quantiles: Mapping[int, float]
    baseline_quantiles: Mapping[int, float]


def compare(
    dimension: Dimension,
    audience: DimensionCounts,
    baseline: DimensionCounts,
    size: int,
    baseline_size: int,
    limit: int,
    min_bucket_size: int,
) -> DimensionInsights:
    """An audience's buckets compared with the org's: up to `limit` values, and groups for all others.

    Buckets of fewer than `min_bucket_size` records are suppressed, with enough others to hide their counts.
    Suppression does not depend on `limit`. Otherwise the difference of two responses would disclose suppressed counts.
    """
    disclosed, suppressed = suppress_small(audience.buckets, size, min_bucket_size)
    groups = _groups(disclosed, suppressed, len(disclosed) if dimension.is_banded else limit)
    buckets = [
        _bucket(bucket, baseline_count, size, baseline_size)
        for bucket, baseline_count in _with_baseline_counts(groups, baseline, baseline_size, min_bucket_size)
        if bucket.count or baseline_count != 0
    ]
    return DimensionInsights(
        dimension=dimension,
        multi_valued=dimension.kind is DimensionKind.LIST
        or audience.max_values_per_record > 1
        or baseline.max_values_per_record > 1,
        with_value=_with_value(audience, suppressed, size, min_bucket_size),
        buckets=tuple(buckets),
        quantiles=_quantiles(audience, size, min_bucket_size),
        baseline_quantiles=_quantiles(baseline, baseline_size, min_bucket_size),
    )


def _groups(buckets: Sequence[BucketCount], suppressed: Sequence[BucketCount], limit: int) -> list[_Group]:
    """The first `limit` values, all other values as one bucket, then INVALID, MISSING and SUPPRESSED."""
    values = [bucket for bucket in buckets if bucket.kind is BucketKind.VALUE]
    others = [*values[limit:], *(bucket for bucket in buckets if bucket.kind is BucketKind.OTHER)]
    unlabelled = [bucket for bucket in buckets if bucket.kind in (BucketKind.INVALID, BucketKind.MISSING)]
    return [
        *((bucket, [bucket]) for bucket in values[:limit]),
        *([(merge(BucketKind.OTHER, others), others)] if others else []),
        *((bucket, [bucket]) for bucket in unlabelled),
        *((bucket, suppressed) for bucket in buckets if bucket.kind is BucketKind.SUPPRESSED),
    ]


def _with_baseline_counts(
    groups: list[_Group], baseline: DimensionCounts, baseline_size: int, min_bucket_size: int
) -> list[tuple[BucketCount, int | None]]:
    """Each bucket with the org's count, None if that is unknown or suppressed.

    The bucket OTHER includes all of the org's values without a bucket, so that the org's counts add up too. If values
    of the audience are suppressed, the org's count of them is not disclosed, nor that of all others: it would show
    which values are suppressed. An org below the minimum size discloses its size alone.
    """
    has_suppressed = any(bucket.kind is BucketKind.SUPPRESSED for bucket, _ in groups)
    if 0 < baseline_size < min_bucket_size:
        return [(bucket, None) for bucket, _ in groups]
    baseline_counts = {bucket.key: bucket.count for bucket in baseline.buckets}
    suppressed_keys = {
        baseline.buckets[position].key
        for position in suppressed_positions(baseline.buckets, baseline_size, min_bucket_size)
    }
    is_complete = not any(bucket.kind is BucketKind.OTHER for bucket in baseline.buckets)
    open_ended = [any(source.kind is BucketKind.OTHER for source in sources) for _, sources in groups]
    if not any(open_ended):
        open_ended = [bucket.kind is BucketKind.OTHER for bucket, _ in groups]
    if not any(open_ended) and not has_suppressed:
        groups, open_ended = [*groups, (BucketCount(BucketKind.OTHER, "", 0, 0), [])], [*open_ended, True]

    def count(bucket: BucketCount) -> int | None:
        is_zero = not suppressed_keys and (is_complete or bucket.kind is not BucketKind.VALUE)
        return baseline_counts.get(bucket.key, 0 if is_zero else None)

    def disclose(keys: Set[Key], total: int | None) -> int | None:
        """The total, unless it includes some but not all of the suppressed counts."""
        return total if not keys & suppressed_keys or suppressed_keys <= keys else None

    keys_by_group = [{source.key for source in sources} for _, sources in groups]
    totals = [_sum([count(source) for source in sources]) for _, sources in groups]
    closed_positions = [index for index, is_rest in enumerate(open_ended) if not is_rest]
    rest_keys = baseline_counts.keys() - set[Key]().union(*(keys_by_group[position] for position in closed_positions))
    closed_total = _sum([totals[position] for position in closed_positions])
    rest_count = disclose(rest_keys, None if closed_total is None else sum(baseline_counts.values()) - closed_total)

    def baseline_count(position: int, bucket: BucketCount) -> int | None:
        if has_suppressed and (open_ended[position] or bucket.kind is BucketKind.SUPPRESSED):
            return None
        return rest_count if open_ended[position] else disclose(keys_by_group[position], totals[position])

    return [(bucket, baseline_count(position, bucket)) for position, (bucket, _) in enumerate(groups)]


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _bucket(bucket: BucketCount, baseline_count: int | None, size: int, baseline_size: int) -> Bucket:
    share = bucket.count / size if size else 0.0
    if baseline_count is None or not baseline_size:
        return Bucket(bucket, share, baseline_count, None, None)
    baseline_share = baseline_count / baseline_size
    index = share / baseline_share * 100 if baseline_share else None
    return Bucket(bucket, share, baseline_count, baseline_share, index)


def _with_value(
    audience: DimensionCounts, suppressed: Sequence[BucketCount], size: int, min_bucket_size: int
) -> int | None:
    unlabelled = (BucketKind.MISSING, BucketKind.INVALID)
    count = size - sum(bucket.count for bucket in audience.buckets if bucket.kind in unlabelled)
    if 0 < count < min_bucket_size or any(bucket.kind in unlabelled for bucket in suppressed):
        return None
    return count


def _quantiles(counts: DimensionCounts, size: int, min_bucket_size: int) -> dict[int, float]:
    missing = sum(bucket.count for bucket in counts.buckets if bucket.kind is BucketKind.MISSING)
    return disclosed_quantiles(counts.quantiles, min_bucket_size) if counts.number_count * 2 >= size - missing else {}
