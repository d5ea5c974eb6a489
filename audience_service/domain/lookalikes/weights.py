"""From counts to factors: the smoothed logarithm of how much more frequent a value is in the seed than elsewhere."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from audience_service.domain.insights.suppression import to_hide
from audience_service.domain.lookalikes.model import MISSING_LABEL, OTHER_LABEL
from audience_service.domain.lookalikes.tally import FieldValues, SeedTally, Survey

SMOOTHING = 5
"""Added to how many of the seed have a value, and to how many would have it if the seed were as the baseline."""

MOST_FACTORS = 50

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
class FieldRatios:
    """One field: the values that tell most, and what all others tell together; None of a field of several values."""

    values: FieldValues
    ratios: tuple[Ratio, ...]
    other: Ratio | None

    @property
    def all(self) -> tuple[Ratio, ...]:
        """The values, and the others as one of them."""
        return (*self.ratios, *([self.other] if self.other else []))

    @property
    def information(self) -> float:
        """The divergence of the seed's values from the baseline's and back, in nats (Jeffreys): 0 tells nothing."""
        return sum(map(_tells, self.all))


@dataclass(frozen=True, slots=True)
class _Count:
    label: str
    value: Any
    seed: int
    baseline: int


def ratios(survey: Survey, tally: SeedTally, least: int) -> tuple[FieldRatios, ...]:
    """What each field's values tell. Those that fewer than `least` have are told with others, or not at all."""
    baseline_size = max(survey.size - tally.size, 1)
    return tuple(
        _field(found, counts, tally.learnt, baseline_size, survey.moment, least)
        for found, counts in zip(survey.fields, tally.counts, strict=True)
    )


def _field(
    found: FieldValues,
    counts: Sequence[tuple[int, int]],
    seed_size: int,
    baseline_size: int,
    moment: datetime,
    least: int,
) -> FieldRatios:
    labels = _labels(found, moment)
    every = [
        _Count(label, value.value, learnt, max(value.count - whole, 0))
        for label, value, (whole, learnt) in zip(labels, found.values, counts, strict=True)
    ]
    # Of one value a record, what all others have is told by the sizes: it is a count like the rest.
    spare = _Count("", None, seed_size - sum(c.seed for c in every), baseline_size - sum(c.baseline for c in every))
    told = _told([] if found.several else [spare], every, least)
    ratio = [(_ratio(count, seed_size, baseline_size, least), count) for count in told]
    heaviest = sorted(ratio, key=lambda pair: (-_tells(pair[0]), pair[0].label, type(pair[0].value).__name__))
    chosen = heaviest[:MOST_FACTORS]
    kept = tuple(ratio for ratio, _ in chosen)
    if found.several:
        return FieldRatios(found, kept, None)
    seed = seed_size - sum(count.seed for _, count in chosen)
    baseline = baseline_size - sum(count.baseline for _, count in chosen)
    others = _Count(OTHER_LABEL, None, max(seed, 0), max(baseline, 0))
    return FieldRatios(found, kept, _ratio(others, seed_size, baseline_size, least))


def _told(spare: list[_Count], every: list[_Count], least: int) -> list[_Count]:
    """Those of the counts that are no small cells, nor what would give small ones away, nor of nobody.

    Spare ones are never told.
    """
    cells = [*every, *spare]
    hidden = to_hide([cell.seed for cell in cells], least) | to_hide([cell.baseline for cell in cells], least)
    return [cell for place, cell in enumerate(every) if place not in hidden and cell.seed + cell.baseline]


def _tells(ratio: Ratio) -> float:
    """A value's part of the divergence."""
    return (ratio.seed_share - ratio.baseline_share) * ratio.log


def _ratio(count: _Count, seed_size: int, baseline_size: int, least: int) -> Ratio:
    """The smoothed logarithm. Where so few have a value that it is not told how many, the logarithm tells 0."""
    expected = seed_size * count.baseline / baseline_size
    few_of_seed, few_of_baseline = 0 < count.seed < least, 0 < count.baseline < least
    log = 0.0 if few_of_seed or few_of_baseline else math.log((count.seed + SMOOTHING) / (expected + SMOOTHING))
    return Ratio(
        label=count.label,
        value=count.value,
        log=log,
        seed_share=count.seed / seed_size,
        baseline_share=count.baseline / baseline_size,
        seed_count=None if few_of_seed else count.seed,
        baseline_count=None if few_of_baseline else count.baseline,
    )


def _labels(found: FieldValues, moment: datetime) -> list[str]:
    dates = {band.start or EARLIEST: band.label or "in the future" for band in found.field.bands(moment)}
    numbers = {cut: f"{plain(cut)} to {plain(top)}" for cut, top in zip(found.cuts, found.tops, strict=True)}
    return [_label(value.value, dates, numbers) for value in found.values]


def _label(value: Any, dates: Mapping[datetime, str], numbers: Mapping[float, str]) -> str:
    match value:
        case None:
            return MISSING_LABEL
        case bool():
            return str(value).lower()
        case int() | float():
            return numbers.get(float(value), plain(float(value)))
        case datetime():
            return dates[value]
    return str(value)


def plain(number: float) -> str:
    """A number without needless decimals."""
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
