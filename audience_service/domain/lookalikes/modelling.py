"""Making a model: what is asked of the database, in order, and what becomes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from audience_service.domain.caller import Deadline
from audience_service.domain.custom.errors import SeedTooSmall
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.jobs import Report, ignore_progress
from audience_service.domain.lookalikes.damping import dampings
from audience_service.domain.lookalikes.fields import LikenessField
from audience_service.domain.lookalikes.model import UNIT, Factor, FieldModel
from audience_service.domain.lookalikes.ports import LookalikeRepository
from audience_service.domain.lookalikes.tally import SeedTally, Survey, ValueCount, Weighed
from audience_service.domain.lookalikes.weights import FieldRatios, Ratio, ratios
from audience_service.domain.ports import Population

LEAST_SEED = 100
_MOST_VALUES = 200
"""Values of a field that may be factors: the org's most frequent."""
_SURVEYED, _TALLIED = 35, 45
"""The progress of a lookalike after these steps, in per cent."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """A model before anybody is scored: its fields, as they are shown and as records are scored by them."""

    survey: Survey
    tally: SeedTally
    fields: tuple[FieldModel, ...]
    weighed: tuple[Weighed, ...]


def learn(
    repository: LookalikeRepository,
    org: str,
    seed: Population,
    everyone: CompiledFilter,
    fields: Sequence[LikenessField],
    moment: datetime,
    least: int,
    deadline: Deadline,
    report: Report = ignore_progress,
) -> Learnt:
    """A model of what the seed has that the rest of everyone has not, dates as of `moment`.

    Values that fewer than `least` have are not told by themselves. Raises SeedTooSmall.
    """
    survey = repository.survey(org, everyone, fields, moment, _MOST_VALUES, least, deadline)
    report(_SURVEYED)
    survey = _with_bands_counted(repository, org, everyone, survey, deadline)
    tally = repository.tally(org, seed, everyone, survey, deadline)
    report(_TALLIED)
    check_seed(tally.size)
    found = ratios(survey, tally, least)
    plain = [_weighed(field, moment, 1.0) for field in found]
    moments = repository.moments(org, everyone, max(survey.size, 1), plain, deadline)
    covariance = [[value / UNIT**2 for value in row] for row in moments.covariance()]
    part = tally.learnt / (tally.learnt + max(survey.size - tally.size, 1))
    damped = dampings(covariance, [field.information for field in found], part)
    pairs = sorted(zip(found, damped, strict=True), key=lambda pair: (-pair[0].information, pair[0].values.field.path))
    return Learnt(
        survey=survey,
        tally=tally,
        fields=tuple(_field_model(field, damping) for field, damping in pairs),
        weighed=tuple(_weighed(field, moment, damping) for field, damping in pairs if damping > 0),
    )


def _with_bands_counted(
    repository: LookalikeRepository, org: str, everyone: CompiledFilter, survey: Survey, deadline: Deadline
) -> Survey:
    """The survey, lists of numbers counted anew, now that bands are known: a record was counted for each number."""
    lists = tuple(found for found in survey.fields if found.cuts and found.several)
    if not lists:
        return survey
    counted = repository.tally(org, everyone, everyone, replace(survey, fields=lists), deadline).counts
    right = {
        found.field: replace(
            found,
            values=tuple(ValueCount(each.value, n) for each, (n, _) in zip(found.values, counts, strict=True)),
        )
        for found, counts in zip(lists, counted, strict=True)
    }
    return replace(survey, fields=tuple(right.get(found.field, found) for found in survey.fields))


def check_seed(count: int) -> None:
    """Raise SeedTooSmall where a seed has too few members."""
    if count < LEAST_SEED:
        raise SeedTooSmall(
            f"the source has {count:,} members in use, of the countries asked for; it takes {LEAST_SEED} to tell whom"
            " they are like",
            metadata={"count": str(count), "minimum": str(LEAST_SEED)},
        )


def _weight(ratio: Ratio | None, damping: float) -> int:
    return 0 if ratio is None else round(ratio.log * damping * UNIT)


def _weighed(field: FieldRatios, moment: datetime, damping: float) -> Weighed:
    weights = tuple((ratio.value, _weight(ratio, damping)) for ratio in field.ratios)
    values = field.values
    return Weighed(values.field, moment, values.cuts, weights, _weight(field.other, damping), values.listed)


def _field_model(field: FieldRatios, damping: float) -> FieldModel:
    # Where all have a value that is told, there are no others to tell of.
    there = [ratio for ratio in field.all if (ratio.seed_count, ratio.baseline_count) != (0, 0)]
    factors = [Factor(ratio.label, _weight(ratio, damping), ratio.seed_count, ratio.baseline_count) for ratio in there]
    return FieldModel(
        path=field.values.field.path,
        information=field.information,
        damping=damping,
        factors=tuple(sorted(factors, key=lambda factor: (-abs(factor.weight), factor.value))),
        several=field.values.several,
    )
