"""From how many records have each score to the curve, the cutoff, recall and AUC."""

import math
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal

from audience_service.domain.lookalikes.counts import Scores
from audience_service.domain.lookalikes.model import CurvePoint

SHARES = (0.01, 0.02, 0.03, 0.05, *(tenth / 10 for tenth in range(1, 11)))
MIN_HOLDOUT = 20


def subtract(scores: Scores, others: Scores) -> dict[int, int]:
    """The scores of some records less those of some among them; what was written meanwhile makes none negative."""
    remaining = Counter(scores)
    remaining.subtract(others)
    return {score: count for score, count in remaining.items() if count > 0}


def curve(candidates: Scores, everyone: int, holdout: Scores, min_score: int, max_score: int) -> tuple[CurvePoint, ...]:
    """A point for each of SHARES of everyone, as many candidates as there are at most; none where there is none.

    `lowest` and `highest` are what scores can be.
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
    """A share of some records, rounded down, one at least where there is any. 0.29 of 100 is 29."""
    return min(total, max(1, math.floor(Decimal(str(share)) * total)))


def score_at(scores: Scores, rank: int) -> int:
    """The score of the record at a rank from 1 on, the highest first; the lowest of all past the end."""
    count_so_far = 0
    for score in sorted(scores, reverse=True):
        count_so_far += scores[score]
        if count_so_far >= rank:
            break
    return score


def recall(holdout: Scores, min_score: int) -> float:
    """The part of the held-out whose score is at least so high; 0 where nobody was held out."""
    total = sum(holdout.values())
    return sum(count for score, count in holdout.items() if score >= min_score) / total if total else 0.0


def auc(holdout: Scores, baseline: Scores) -> float | None:
    """The chance that one held out scores above one of the baseline, ties counted half; None of fewer than 20."""
    holdout_total, baseline_total = sum(holdout.values()), sum(baseline.values())
    if holdout_total < MIN_HOLDOUT or not baseline_total:
        return None
    above = below = 0
    for score in sorted(holdout.keys() | baseline.keys()):
        here = baseline.get(score, 0)
        above += holdout.get(score, 0) * (2 * below + here)
        below += here
    return above / (2 * holdout_total * baseline_total)


def count_positive(scores: Mapping[int, int]) -> int:
    """How many have a score above 0."""
    return sum(count for score, count in scores.items() if score > 0)
