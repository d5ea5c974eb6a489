"""Weights of values: the smoothed logarithm of a value's frequency in the seed, relative to the baseline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from audience_service.domain.insights.suppression import cells_to_suppress
from audience_service.domain.lookalikes.counts import FeatureStats, FeatureValues, SeedCounts
from audience_service.domain.lookalikes.model import MISSING_LABEL, OTHER_LABEL

SMOOTHING = 5
"""Added to a value's count in the seed, and to its expected count if the seed were like the baseline."""

MAX_FACTORS = 50

EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
"""The start of the bin that has no start."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """One value: the logarithm of its relative frequency in the seed, and its counts. A count is None if it is small.

    `seed_share` and `baseline_share` are its shares of the seed and the baseline, from the counts for the logarithm.
    """

    label: str
    value: Any
    log: float
    seed_share: float
    baseline_share: float
    seed_count: int | None
    baseline_count: int | None


@dataclass(frozen=True, slots=True)
class FeatureRatios:
    """One field: the most informative values, and all others together. `other` is None if the field is multi-valued."""

    values: FeatureValues
    ratios: tuple[Ratio, ...]
    other: Ratio | None

    @property
    def all(self) -> tuple[Ratio, ...]:
        """The values, and `other` as a further one."""
        return (*self.ratios, *([self.other] if self.other else []))

    @property
    def information_value(self) -> float:
        """The Jeffreys divergence of the seed's values and the baseline's, in nats; 0 if the field is uninformative."""
        return sum(map(_divergence, self.all))


@dataclass(frozen=True, slots=True)
class _Count:
    label: str
    value: Any
    seed: int
    baseline: int


def ratios(stats: FeatureStats, seed_counts: SeedCounts, min_bucket_size: int) -> tuple[FeatureRatios, ...]:
    """The ratios of each field's values.

    A value of fewer than `min_bucket_size` records is part of `other`, or left out if the field is multi-valued.
    """
    baseline_size = max(stats.size - seed_counts.size, 1)
    return tuple(
        _field(found, counts, seed_counts.training_size, baseline_size, stats.as_of, min_bucket_size)
        for found, counts in zip(stats.fields, seed_counts.counts, strict=True)
    )


def _field(
    found: FeatureValues,
    counts: Sequence[tuple[int, int]],
    seed_size: int,
    baseline_size: int,
    as_of: datetime,
    min_bucket_size: int,
) -> FeatureRatios:
    labels = _labels(found, as_of)
    counted = [
        _Count(label, value.value, training_count, max(value.count - seed_count, 0))
        for label, value, (seed_count, training_count) in zip(labels, found.values, counts, strict=True)
    ]
    # With one value per record, the sizes disclose the count of all other values. It thus needs suppression too.
    remainder = _Count(
        "", None, seed_size - sum(c.seed for c in counted), baseline_size - sum(c.baseline for c in counted)
    )
    disclosed = _disclosed([] if found.multi_valued else [remainder], counted, min_bucket_size)
    ratio_pairs = [(_ratio(count, seed_size, baseline_size, min_bucket_size), count) for count in disclosed]
    heaviest = sorted(
        ratio_pairs, key=lambda pair: (-_divergence(pair[0]), pair[0].label, type(pair[0].value).__name__)
    )
    top = heaviest[:MAX_FACTORS]
    top_ratios = tuple(ratio for ratio, _ in top)
    if found.multi_valued:
        return FeatureRatios(found, top_ratios, None)
    seed = seed_size - sum(count.seed for _, count in top)
    baseline = baseline_size - sum(count.baseline for _, count in top)
    others = _Count(OTHER_LABEL, None, max(seed, 0), max(baseline, 0))
    return FeatureRatios(found, top_ratios, _ratio(others, seed_size, baseline_size, min_bucket_size))


def _disclosed(remainder: list[_Count], counted: list[_Count], min_bucket_size: int) -> list[_Count]:
    """The counts that are neither empty nor suppressed, because they are small or would disclose small ones.

    The remainder takes part in the suppression but is never disclosed.
    """
    counts = [*counted, *remainder]
    suppressed = cells_to_suppress([count.seed for count in counts], min_bucket_size) | cells_to_suppress(
        [count.baseline for count in counts], min_bucket_size
    )
    return [
        count for position, count in enumerate(counted) if position not in suppressed and count.seed + count.baseline
    ]


def _divergence(ratio: Ratio) -> float:
    """A value's contribution to the information value."""
    return (ratio.seed_share - ratio.baseline_share) * ratio.log


def _ratio(count: _Count, seed_size: int, baseline_size: int, min_bucket_size: int) -> Ratio:
    """The ratio of a value. If one of its counts is too small to disclose, the logarithm is 0."""
    expected = seed_size * count.baseline / baseline_size
    is_seed_small, is_baseline_small = 0 < count.seed < min_bucket_size, 0 < count.baseline < min_bucket_size
    log = 0.0 if is_seed_small or is_baseline_small else math.log((count.seed + SMOOTHING) / (expected + SMOOTHING))
    return Ratio(
        label=count.label,
        value=count.value,
        log=log,
        seed_share=count.seed / seed_size,
        baseline_share=count.baseline / baseline_size,
        seed_count=None if is_seed_small else count.seed,
        baseline_count=None if is_baseline_small else count.baseline,
    )


def _labels(found: FeatureValues, as_of: datetime) -> list[str]:
    dates = {band.start or EARLIEST: band.label or "in the future" for band in found.feature.bins(as_of)}
    ranges = {
        edge: f"{format_number(edge)} to {format_number(maximum)}"
        for edge, maximum in zip(found.bin_edges, found.bin_maxima, strict=True)
    }
    return [_label(value.value, dates, ranges) for value in found.values]


def _label(value: Any, dates: Mapping[datetime, str], ranges: Mapping[float, str]) -> str:
    match value:
        case None:
            return MISSING_LABEL
        case bool():
            return str(value).lower()
        case int() | float():
            return ranges.get(float(value), format_number(float(value)))
        case datetime():
            return dates[value]
    return str(value)


def format_number(number: float) -> str:
    """The number as text, without decimals if it is an integer."""
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
