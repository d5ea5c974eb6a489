"""From counts to factors: the smoothed logarithm of how much more frequent a value is in the seed than elsewhere."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from audience_service.domain.insights.suppression import cells_to_suppress
from audience_service.domain.lookalikes.counts import FeatureStats, FeatureValues, SeedCounts
from audience_service.domain.lookalikes.model import MISSING_LABEL, OTHER_LABEL

SMOOTHING = 5
"""Added to how many of the seed have a value, and to how many would have it if the seed were as the baseline."""

MAX_FACTORS = 50

EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
"""What stands for the start of a band that has none."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """One value: the logarithm of how much more frequent it is in the seed, and the counts, None where few have it.

    `seed_share` and `baseline_share` are what part of each has it, by the counts that the logarithm is made of.
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
    """One field: the values that tell most, and what all others tell together; None of a field of several values."""

    values: FeatureValues
    ratios: tuple[Ratio, ...]
    other: Ratio | None

    @property
    def all(self) -> tuple[Ratio, ...]:
        """The values, and the others as one of them."""
        return (*self.ratios, *([self.other] if self.other else []))

    @property
    def information_value(self) -> float:
        """The divergence of the seed's values from the baseline's and back, in nats (Jeffreys): 0 tells nothing."""
        return sum(map(_divergence, self.all))


@dataclass(frozen=True, slots=True)
class _Count:
    label: str
    value: Any
    seed: int
    baseline: int


def ratios(stats: FeatureStats, seed_counts: SeedCounts, min_bucket_size: int) -> tuple[FeatureRatios, ...]:
    """What each field's values tell. Those that fewer than `least` have are told with others, or not at all."""
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
    # Of one value a record, what all others have is told by the sizes: it is a count like the rest.
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
    """Those of the counts that are no small cells, nor what would give small ones away, nor of nobody.

    Spare ones are never told.
    """
    cells = [*counted, *remainder]
    suppressed = cells_to_suppress([cell.seed for cell in cells], min_bucket_size) | cells_to_suppress(
        [cell.baseline for cell in cells], min_bucket_size
    )
    return [cell for position, cell in enumerate(counted) if position not in suppressed and cell.seed + cell.baseline]


def _divergence(ratio: Ratio) -> float:
    """A value's part of the divergence."""
    return (ratio.seed_share - ratio.baseline_share) * ratio.log


def _ratio(count: _Count, seed_size: int, baseline_size: int, min_bucket_size: int) -> Ratio:
    """The smoothed logarithm. Where so few have a value that it is not told how many, the logarithm tells 0."""
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
    """A number without needless decimals."""
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
