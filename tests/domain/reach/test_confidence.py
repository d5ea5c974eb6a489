"""The interval around a sampled share, compared with the binomial distribution in integers."""

import math
import random
from fractions import Fraction

import pytest

from audience_service.domain.reach.confidence import clopper_pearson


def binomial_tail(hits: int, draws: int, share: Fraction) -> float:
    """The chance of that many hits or more, exactly."""
    return float(sum(math.comb(draws, n) * share**n * (1 - share) ** (draws - n) for n in range(hits, draws + 1)))


@pytest.mark.parametrize(("hits", "drawn"), [(1, 10), (5, 10), (9, 10), (1, 200), (37, 200), (199, 200)])
@pytest.mark.slow
def test_each_bound_has_a_tail_probability_of_one_fortieth(hits: int, drawn: int) -> None:
    lower, upper = clopper_pearson(hits, drawn)
    assert binomial_tail(hits, drawn, Fraction(lower)) == pytest.approx(0.025, abs=1e-9)
    assert 1 - binomial_tail(hits + 1, drawn, Fraction(upper)) == pytest.approx(0.025, abs=1e-9)


@pytest.mark.parametrize("drawn", [1, 30, 4_000])
def test_zero_and_full_hits_have_open_intervals(drawn: int) -> None:
    most = 1 - 0.025 ** (1 / drawn)
    assert clopper_pearson(0, drawn) == pytest.approx((0, most))
    assert clopper_pearson(drawn, drawn) == pytest.approx((1 - most, 1))


def test_more_confidence_takes_a_wider_interval() -> None:
    bounds = [clopper_pearson(20, 400, confidence) for confidence in (0.8, 0.95, 0.99)]
    assert bounds[2][0] < bounds[1][0] < bounds[0][0] < 20 / 400 < bounds[0][1] < bounds[1][1] < bounds[2][1]


@pytest.mark.parametrize(("hits", "drawn"), [(-1, 10), (11, 10)])
def test_more_hits_than_draws_raise(hits: int, drawn: int) -> None:
    with pytest.raises(ValueError, match="hits"):
        clopper_pearson(hits, drawn)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0005, 0.01, 0.2, 0.5, 0.97, 1.0])
def test_the_true_share_lies_within_in_95_of_100_cases(share: float) -> None:
    rng = random.Random(11)
    hit_count = 0
    for _ in range(400):
        lower, upper = clopper_pearson(sum(rng.random() < share for _ in range(500)), 500)
        hit_count += lower <= share <= upper
    assert hit_count >= 0.93 * 400
