"""The interval around a sampled share, held to the binomial distribution in whole numbers."""

import math
import random
from fractions import Fraction

import pytest

from audience_service.domain.reach.intervals import share_bounds


def at_least(hits: int, drawn: int, share: Fraction) -> float:
    """The chance of that many hits or more, exactly."""
    return float(sum(math.comb(drawn, n) * share**n * (1 - share) ** (drawn - n) for n in range(hits, drawn + 1)))


@pytest.mark.parametrize(("hits", "drawn"), [(1, 10), (5, 10), (9, 10), (1, 200), (37, 200), (199, 200)])
def test_each_bound_makes_what_was_seen_a_case_in_forty(hits: int, drawn: int) -> None:
    lower, upper = share_bounds(hits, drawn)
    assert at_least(hits, drawn, Fraction(lower)) == pytest.approx(0.025, abs=1e-9)
    assert 1 - at_least(hits + 1, drawn, Fraction(upper)) == pytest.approx(0.025, abs=1e-9)


@pytest.mark.parametrize("drawn", [1, 30, 4_000])
def test_none_and_all_leave_room_for_a_few(drawn: int) -> None:
    most = 1 - 0.025 ** (1 / drawn)
    assert share_bounds(0, drawn) == pytest.approx((0, most))
    assert share_bounds(drawn, drawn) == pytest.approx((1 - most, 1))


def test_more_confidence_takes_a_wider_interval() -> None:
    bounds = [share_bounds(20, 400, confidence) for confidence in (0.8, 0.95, 0.99)]
    assert bounds[2][0] < bounds[1][0] < bounds[0][0] < 20 / 400 < bounds[0][1] < bounds[1][1] < bounds[2][1]


@pytest.mark.parametrize(("hits", "drawn"), [(-1, 10), (11, 10)])
def test_more_hits_than_draws_are_refused(hits: int, drawn: int) -> None:
    with pytest.raises(ValueError, match="hits"):
        share_bounds(hits, drawn)


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.2, 0.5, 0.97, 1.0])
def test_the_true_share_lies_within_in_95_of_100_cases(share: float) -> None:
    chance = random.Random(11)
    held = 0
    for _ in range(400):
        lower, upper = share_bounds(sum(chance.random() < share for _ in range(500)), 500)
        held += lower <= share <= upper
    assert held >= 0.93 * 400
