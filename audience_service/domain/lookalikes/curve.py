"""The curve, the cutoff, recall and AUC of a model, from the number of records per score."""

import math
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal

from audience_service.domain.lookalikes.counts import Scores
from audience_service.domain.lookalikes.model import CurvePoint

SHARES = (0.01, 0.02, 0.03, 0.05, *(tenth / 10 for tenth in range(1, 11)))
MIN_HOLDOUT = 20


def subtract(scores: Scores, others: Scores) -> dict[int, int]:
    """The scores of some records minus those of a subset. Concurrent writes never make a count negative."""
    remaining = Counter(scores)
    remaining.subtract(others)
    return {score: count for score, count in remaining.items() if count > 0}


def curve(candidates: Scores, everyone: int, holdout: Scores, min_score: int, max_score: int) -> tuple[CurvePoint, ...]:
    """A point per share in SHARES of `everyone`, with at most all candidates; empty if there are no candidates.

    `min_score` and `max_score` are the lowest and the highest possible score.
    """
    total = sum(candidates.values())
    if not total:
        return ()
    counts = [min(share_of(everyone, share), total) for share in SHARES]
    scores = [score_at(candidates, count) for count in counts]
    span = max(max_score - min_score, 1)
    return tuple(
        CurvePoint(share, count, score, min(max((score - min_score) / span, 0.0), 1.0), recall(holdout, score))
        for share, count, score in zip(SHARES, counts, scores, strict=True)
    )


def share_of(total: int, share: float) -> int:
    """A share of `total`, rounded down, but at least 1 unless `total` is 0. Exact in decimals: 0.29 of 100 is 29."""
    return min(total, max(1, math.floor(Decimal(str(share)) * total)))


def score_at(scores: Scores, rank: int) -> int:
    """The score at a rank, which counts from 1 for the highest score; the lowest score after the last rank."""
    count_so_far = 0
    for score in sorted(scores, reverse=True):
        count_so_far += scores[score]
        if count_so_far >= rank:
            break
    return score


def recall(holdout: Scores, min_score: int) -> float:
    """The share of the holdout with a score of at least `min_score`; 0 if the holdout is empty."""
    total = sum(holdout.values())
    return sum(count for score, count in holdout.items() if score >= min_score) / total if total else 0.0


def auc(holdout: Scores, baseline: Scores) -> float | None:
    """The chance that a record of the holdout scores above one of the baseline, with ties as half.

    None if the holdout has fewer than MIN_HOLDOUT records, or the baseline none.
    """
    holdout_total, baseline_total = sum(holdout.values()), sum(baseline.values())
    if holdout_total < MIN_HOLDOUT or not baseline_total:
        return None
    above = below = 0
    for score in sorted(holdout.keys() | baseline.keys()):
        tied = baseline.get(score, 0)
        above += holdout.get(score, 0) * (2 * below + tied)
        below += tied
    return above / (2 * holdout_total * baseline_total)


def count_positive(scores: Mapping[int, int]) -> int:
    """The number of records with a score above 0."""
    return sum(count for score, count in scores.items() if score > 0)
