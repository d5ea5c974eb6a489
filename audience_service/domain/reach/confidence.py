"""Confidence intervals for a share that is estimated from a sample.

The intervals are those of Clopper and Pearson, which use the binomial distribution itself. They contain the true share
at least as often as the confidence states, even if none or all of the sample are hits.
Source: C. J. Clopper and E. S. Pearson, Biometrika 26 (1934).
"""

import math
from collections.abc import Callable
from functools import partial

_CONFIDENCE = 0.95
_BISECTION_STEPS = 60
"""Halvings of the unit interval: the precision of a double."""
_TINY = 1e-300


def clopper_pearson(hits: int, draws: int, confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """The lower and the upper bound, from 0 to 1, of the share of which a sample has `hits` in `draws`.

    Raises ValueError unless `hits` is from 0 to `draws`.
    """
    if not 0 <= hits <= draws:
        raise ValueError(f"hits: {hits} is not from 0 to the {draws} draws")
    tail = (1 - confidence) / 2
    lower = 0.0 if hits == 0 else _bisect(partial(_regularized_beta, hits, draws - hits + 1), tail)
    upper = 1.0 if hits == draws else _bisect(partial(_regularized_beta, hits + 1, draws - hits), 1 - tail)
    return lower, upper


def _bisect(increasing: Callable[[float], float], target: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(_BISECTION_STEPS):
        middle = (low + high) / 2
        if increasing(middle) < target:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _regularized_beta(a: int, b: int, x: float) -> float:
    """The regularised incomplete beta function: I_x(a, b).

    It is the chance of at least a successes in a + b - 1 trials, each of chance x.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    log = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    front = math.exp(log)
    if x < (a + 1) / (a + b + 2):  # on this side the fraction converges fast
        return front * _continued_fraction(a, b, x) / a
    return 1 - front * _continued_fraction(b, a, 1 - x) / b


def _continued_fraction(a: int, b: int, x: float) -> float:
    """The continued fraction of the incomplete beta function, by Lentz's method (DLMF 8.17.22)."""
    c, d = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for step in (even, odd):
            d = 1 / _nonzero(1 + step * d)
            c = _nonzero(1 + step / c)
            value *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return value


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
