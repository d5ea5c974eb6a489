"""One dimension of an audience beside the org's: shares, the baseline's, and their index."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeAlias

from audience_service.domain.insights.dimensions import Dimension, DimensionKind
from audience_service.domain.insights.model import BucketCount, BucketKind, DimensionCounts, merge
from audience_service.domain.insights.suppression import cells_to_suppress, disclosed_quantiles, suppress_small

Key: TypeAlias = tuple[BucketKind, str]
_Group: TypeAlias = tuple[BucketCount, Sequence[BucketCount]]
"""A bucket, and the cells that it is made of."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A cell beside the org's.

    The baseline's count is None where it is small, or the value is not among those that were read of the org. `index`
    is 100 where the share is as in the org, None where the org has nobody or is not told.
    """

    bucket_count: BucketCount
    share: float
    baseline_count: int | None
    baseline_share: float | None
    index: float | None


@dataclass(frozen=True, slots=True)
class DimensionInsights:
    """One dimension. `with_value` is how many members have one at least, None where that would tell a small cell.

    Quantiles are by percent, none where hardly a value is a number.
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
    """An audience's cells beside the org's: `limit` values one by one, none of fewer records than `least`.

    What is hidden does not depend on the limit: two answers of different limits would tell it by what differs.
    """
    cells, suppressed_cells = suppress_small(audience.buckets, min_bucket_size)
    groups = _groups(cells, suppressed_cells, len(cells) if dimension.is_banded else limit)
    buckets = [
        _bucket(cell, count, size, baseline_size)
        for cell, count in _with_baseline_counts(groups, baseline, min_bucket_size)
        if cell.count or count != 0
    ]
    return DimensionInsights(
        dimension=dimension,
        multi_valued=dimension.kind is DimensionKind.LIST
        or audience.max_values_per_record > 1
        or baseline.max_values_per_record > 1,
        with_value=_with_value(audience, suppressed_cells, size, min_bucket_size),
        buckets=tuple(buckets),
        quantiles=_quantiles(audience, size, min_bucket_size),
        baseline_quantiles=_quantiles(baseline, baseline_size, min_bucket_size),
    )


def _groups(cells: Sequence[BucketCount], suppressed: Sequence[BucketCount], limit: int) -> list[_Group]:
    """The first `limit` values, all others as one, what has no value, and what is hidden."""
    values = [cell for cell in cells if cell.kind is BucketKind.VALUE]
    others = [*values[limit:], *(cell for cell in cells if cell.kind is BucketKind.OTHER)]
    unlabelled = [cell for cell in cells if cell.kind in (BucketKind.INVALID, BucketKind.MISSING)]
    return [
        *((cell, [cell]) for cell in values[:limit]),
        *([(merge(BucketKind.OTHER, others), others)] if others else []),
        *((cell, [cell]) for cell in unlabelled),
        *((cell, suppressed) for cell in cells if cell.kind is BucketKind.SUPPRESSED),
    ]


def _with_baseline_counts(
    groups: list[_Group], baseline: DimensionCounts, min_bucket_size: int
) -> list[tuple[BucketCount, int | None]]:
    """Each bucket with the org's count, None where that is not known or not told.

    All values of the org that are not named here are among the others, so that the org's counts add up too.
    """
    baseline_counts = {cell.key: cell.count for cell in baseline.buckets}
    suppressed_keys = {
        baseline.buckets[position].key
        for position in cells_to_suppress([cell.count for cell in baseline.buckets], min_bucket_size)
    }
    is_complete = not any(cell.kind is BucketKind.OTHER for cell in baseline.buckets)
    open_ended = [any(cell.kind is BucketKind.OTHER for cell in sources) for _, sources in groups]
    if not any(open_ended):
        open_ended = [cell.kind is BucketKind.OTHER for cell, _ in groups]
    if not any(open_ended):
        groups, open_ended = [*groups, (BucketCount(BucketKind.OTHER, "", 0, 0), [])], [*open_ended, True]

    def count(cell: BucketCount) -> int | None:
        return baseline_counts.get(cell.key, 0 if is_complete or cell.kind is not BucketKind.VALUE else None)

    def disclose(keys: Set[Key], total: int | None) -> int | None:
        """Small counts are told all together or not at all."""
        return total if not keys & suppressed_keys or suppressed_keys <= keys else None

    keys_by_group = [{cell.key for cell in sources} for _, sources in groups]
    totals = [_sum([count(cell) for cell in sources]) for _, sources in groups]
    closed_positions = [index for index, is_rest in enumerate(open_ended) if not is_rest]
    rest_keys = baseline_counts.keys() - set[Key]().union(*(keys_by_group[place] for place in closed_positions))
    closed_total = _sum([totals[place] for place in closed_positions])
    rest_count = disclose(rest_keys, None if closed_total is None else sum(baseline_counts.values()) - closed_total)
    return [
        (cell, rest_count if open_ended[place] else disclose(keys_by_group[place], totals[place]))
        for place, (cell, _) in enumerate(groups)
    ]


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _bucket(cell: BucketCount, baseline_count: int | None, size: int, baseline_size: int) -> Bucket:
    share = cell.count / size if size else 0.0
    if baseline_count is None or not baseline_size:
        return Bucket(cell, share, baseline_count, None, None)
    baseline_share = baseline_count / baseline_size
    return Bucket(cell, share, baseline_count, baseline_share, share / baseline_share * 100 if baseline_share else None)


def _with_value(
    audience: DimensionCounts, suppressed: Sequence[BucketCount], size: int, min_bucket_size: int
) -> int | None:
    unlabelled = (BucketKind.MISSING, BucketKind.INVALID)
    count = size - sum(cell.count for cell in audience.buckets if cell.kind in unlabelled)
    if 0 < count < min_bucket_size or any(cell.kind in unlabelled for cell in suppressed):
        return None
    return count


def _quantiles(cells: DimensionCounts, size: int, min_bucket_size: int) -> dict[int, float]:
    missing = sum(cell.count for cell in cells.buckets if cell.kind is BucketKind.MISSING)
    return disclosed_quantiles(cells.quantiles, min_bucket_size) if cells.number_count * 2 >= size - missing else {}
