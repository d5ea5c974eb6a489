"""A lookalike's model: factors with weights, and how well it finds the holdout."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from audience_service.domain.lookalikes.protected_fields import is_protected

MISSING_LABEL, OTHER_LABEL = "(missing)", "(other)"

UNIT = 1000
"""Weights and scores are integers in thousandths. Their sums are exact, so equal data give equal members."""


@dataclass(frozen=True, slots=True)
class Factor:
    """One value of a field, `(missing)` or `(other)`, and its weight in thousandths.

    A count is None if it is below the minimum bucket size.
    """

    value: str
    weight: int
    seed_count: int | None
    baseline_count: int | None


@dataclass(frozen=True, slots=True)
class FieldModel:
    """One field and its factors, by descending absolute weight.

    `decorrelation` is the multiplier of the weights that accounts for redundant fields. If `multi_valued`, a record may
    have more than one of the values. Values that are not factors then have weight 0.
    """

    path: str
    information_value: float
    decorrelation: float
    factors: tuple[Factor, ...]
    multi_valued: bool

    @property
    def is_protected(self) -> bool:
        """Whether the field is left out unless a request names it."""
        return is_protected(self.path)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The candidates with the highest scores, for one share of the records.

    `count` is their number, `min_score` their lowest score in thousandths. `similarity` is that score from 0 to 1 in
    the range of possible scores, `recall` the share of the holdout with at least that score.
    """

    share: float
    count: int
    min_score: int
    similarity: float
    recall: float


@dataclass(frozen=True, slots=True)
class LookalikeModel:
    """The model that selected the members of a lookalike. Scores are in thousandths.

    `source_fields` are the paths that the source's own filter tests, used or not.
    """

    version: int
    created_at: datetime
    seed_count: int
    holdout_count: int
    baseline_count: int
    fields: tuple[FieldModel, ...]
    curve: tuple[CurvePoint, ...]
    auc: float | None
    protected_fields: tuple[str, ...]
    source_fields: tuple[str, ...]
    cutoff_score: int


def score_range(fields: Sequence[FieldModel]) -> tuple[int, int]:
    """The lowest and the highest possible score."""
    min_score = max_score = 0
    for field in fields:
        weights = [factor.weight for factor in field.factors]
        if field.multi_valued:
            min_score += sum(weight for weight in weights if weight < 0)
            max_score += sum(weight for weight in weights if weight > 0)
        else:
            min_score += min(weights)
            max_score += max(weights)
    return min_score, max_score
