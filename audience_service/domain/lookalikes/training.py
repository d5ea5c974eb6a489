"""Training of a model: the database commands in order, and the weights from their results.

Records are scored twice, for the histogram and for the list. The cutoff is unknown before all are scored, and storing
every score would write a row for each record of the org.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.jobs import Report, ignore_progress
from audience_service.domain.custom_audiences.errors import SeedTooSmall
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.population import Population
from audience_service.domain.lookalikes.counts import FeatureStats, ScoredFeature, SeedCounts, ValueCount
from audience_service.domain.lookalikes.decorrelation import decorrelation_weights
from audience_service.domain.lookalikes.features import Feature
from audience_service.domain.lookalikes.model import UNIT, Factor, FieldModel
from audience_service.domain.lookalikes.repository import LookalikeRepository
from audience_service.domain.lookalikes.weights import FeatureRatios, Ratio, ratios

MIN_SEED_SIZE = 100
_MAX_VALUES = 200
"""The most values of a field that may become factors: the org's most frequent ones."""
_STATS_READ, _SEED_COUNTED = 35, 45
"""The progress of a lookalike after these steps, in per cent."""


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model before scoring: `fields` is the form for callers, `scored_features` the form that scores records."""

    stats: FeatureStats
    seed_counts: SeedCounts
    fields: tuple[FieldModel, ...]
    scored_features: tuple[ScoredFeature, ...]


def train(
    repository: LookalikeRepository,
    org: str,
    seed: Population,
    everyone: CompiledFilter,
    fields: Sequence[Feature],
    as_of: datetime,
    min_bucket_size: int,
    deadline: Deadline,
    report: Report = ignore_progress,
) -> TrainedModel:
    """A model of the difference between the seed and the other records of `everyone`.

    Bins of dates are as of `as_of`. Values of fewer than `min_bucket_size` records are not disclosed. Raises
    SeedTooSmall.
    """
    stats = repository.feature_stats(org, everyone, fields, as_of, _MAX_VALUES, min_bucket_size, deadline)
    report(_STATS_READ)
    stats = _recount_list_bins(repository, org, everyone, stats, deadline)
    seed_counts = repository.seed_counts(org, seed, everyone, stats, deadline)
    report(_SEED_COUNTED)
    check_seed(seed_counts.size)
    field_ratios = ratios(stats, seed_counts, min_bucket_size)
    unweighted = [_scored_feature(field, as_of, 1.0) for field in field_ratios]
    moment_sums = repository.moment_sums(org, everyone, max(stats.size, 1), unweighted, deadline)
    covariance = [[value / UNIT**2 for value in row] for row in moment_sums.covariance()]
    seed_fraction = seed_counts.training_size / (seed_counts.training_size + max(stats.size - seed_counts.size, 1))
    multipliers = decorrelation_weights(covariance, [field.information_value for field in field_ratios], seed_fraction)
    pairs = sorted(
        zip(field_ratios, multipliers, strict=True),
        key=lambda pair: (-pair[0].information_value, pair[0].values.feature.path),
    )
    return TrainedModel(
        stats=stats,
        seed_counts=seed_counts,
        fields=tuple(_field_model(field, multiplier) for field, multiplier in pairs),
        scored_features=tuple(
            _scored_feature(field, as_of, multiplier) for field, multiplier in pairs if multiplier > 0
        ),
    )


def _recount_list_bins(
    repository: LookalikeRepository, org: str, everyone: CompiledFilter, stats: FeatureStats, deadline: Deadline
) -> FeatureStats:
    """The stats, with a second count of lists of numbers.

    The first count was per number, because the bins were unknown. This one counts a record once per bin.
    """
    lists = tuple(found for found in stats.fields if found.bin_edges and found.multi_valued)
    if not lists:
        return stats
    counted = repository.seed_counts(org, everyone, everyone, replace(stats, fields=lists), deadline).counts
    corrected = {
        found.feature: replace(
            found,
            values=tuple(ValueCount(each.value, n) for each, (n, _) in zip(found.values, counts, strict=True)),
        )
        for found, counts in zip(lists, counted, strict=True)
    }
    return replace(stats, fields=tuple(corrected.get(found.feature, found) for found in stats.fields))


def check_seed(count: int) -> None:
    """Raise SeedTooSmall if a seed of `count` members is below MIN_SEED_SIZE."""
    if count < MIN_SEED_SIZE:
        raise SeedTooSmall(
            f"the source has {count:,} members in the requested countries; a lookalike needs at least {MIN_SEED_SIZE}",
            metadata={"count": str(count), "minimum": str(MIN_SEED_SIZE)},
        )


def _weight(ratio: Ratio | None, decorrelation: float) -> int:
    return 0 if ratio is None else round(ratio.log * decorrelation * UNIT)


def _scored_feature(field: FeatureRatios, as_of: datetime, decorrelation: float) -> ScoredFeature:
    weights = tuple((ratio.value, _weight(ratio, decorrelation)) for ratio in field.ratios)
    values = field.values
    return ScoredFeature(
        values.feature, as_of, values.bin_edges, weights, _weight(field.other, decorrelation), values.has_lists
    )


def _field_model(field: FeatureRatios, decorrelation: float) -> FieldModel:
    # The ratio of all other values is empty if every record has a disclosed value.
    disclosed = [ratio for ratio in field.all if (ratio.seed_count, ratio.baseline_count) != (0, 0)]
    factors = [
        Factor(ratio.label, _weight(ratio, decorrelation), ratio.seed_count, ratio.baseline_count)
        for ratio in disclosed
    ]
    return FieldModel(
        path=field.values.feature.path,
        information_value=field.information_value,
        decorrelation=decorrelation,
        factors=tuple(sorted(factors, key=lambda factor: (-abs(factor.weight), factor.value))),
        multi_valued=field.values.multi_valued,
    )
