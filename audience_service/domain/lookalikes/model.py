"""A lookalike's model: factors with weights, and how well it finds those that it was not made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from audience_service.domain.lookalikes.protected_fields import is_protected

MISSING_LABEL, OTHER_LABEL = "(missing)", "(other)"

UNIT = 1000
"""Weights and scores are whole thousandths, whose sums are exact: the same data give the same members."""


@dataclass(frozen=True, slots=True)
class Factor:
    """One value of a field, `(missing)` or `(other)`, and what having it counts for, in thousandths.

    Counts are None where few have it.
    """

    value: str
    weight: int
    seed_count: int | None
    baseline_count: int | None


@dataclass(frozen=True, slots=True)
class FieldModel:
    """One field and its factors, the heaviest first.

    `damping` is what the logarithms have been multiplied by, since fields tell in part the same. `several` says that a
    record may have more than one of the values; then those that are no factors count for nothing.
    """

    path: str
    information_value: float
    decorrelation: float
    factors: tuple[Factor, ...]
    multi_valued: bool

    @property
    def is_protected(self) -> bool:
        """Whether it is one of those that are left out unless a request names them."""
        return is_protected(self.path)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Candidates with the highest scores: for what share of the records, how many, the lowest score, what they find."""

    share: float
    count: int
    min_score: int
    similarity: float
    recall: float


@dataclass(frozen=True, slots=True)
class LookalikeModel:
    """All that the members of a lookalike were chosen by. Scores are in thousandths.

    `source_fields` are those that the source's own filter asks about, whether they are used or not.
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
    """The lowest and the highest score that the fields can give."""
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
