"""Multipliers that lower the weights of redundant fields, such as city next to country.

The multipliers are those of Fisher's linear discriminant over the fields' scores. For normal scores of equal
covariance, the sum of the multiplied scores is the logarithm of the odds. The method needs one covariance matrix from
the database and no iterative fitting.

1. T is the covariance matrix of the scores of all records.
2. d is the seed's mean scores minus the baseline's.
3. p is the seed's share of all records.
4. The covariance within the two groups is W = T - p (1 - p) d d'.
5. By Sherman and Morrison, W⁻¹ d = T⁻¹ d / (1 - p (1 - p) d' T⁻¹ d).
"""

from collections.abc import Sequence

Matrix = Sequence[Sequence[float]]

_RIDGE = 0.01
"""Increases the diagonal by this share: two equal fields then get equal multipliers."""
_DIGITS = 3


def decorrelation_weights(covariance: Matrix, differences: Sequence[float], seed_fraction: float) -> tuple[float, ...]:
    """A multiplier from 0 to 1 for each field; 0 if its scores are constant or other fields replace it.

    While a multiplier is negative, the field with the most negative one is left out and the others are solved again.
    """
    active = [position for position, row in enumerate(covariance) if row[position] > 0]
    multipliers: dict[int, float] = {}
    while active:
        solved = _multipliers(covariance, differences, active, seed_fraction)
        multipliers = dict(zip(active, solved, strict=True))
        lowest = min(active, key=lambda position: multipliers[position])
        if multipliers[lowest] >= 0:
            break
        active.remove(lowest)
        multipliers = {}
    return tuple(round(min(max(multipliers.get(index, 0.0), 0.0), 1.0), _DIGITS) for index in range(len(differences)))


def _multipliers(
    covariance: Matrix, differences: Sequence[float], active: Sequence[int], seed_fraction: float
) -> Sequence[float]:
    rows = [[covariance[i][j] * (1 + _RIDGE if i == j else 1) for j in active] for i in active]
    target = [differences[i] for i in active]
    direction = solve(rows, target)
    between = seed_fraction * (1 - seed_fraction) * sum(a * b for a, b in zip(direction, target, strict=True))
    # If the fields identify the seed almost surely, the divisor nears 0. The caller limits the multipliers to 1.
    return [part / max(1 - between, 0.05) for part in direction]


def solve(rows: Matrix, target: Sequence[float]) -> list[float]:
    """Return x of A x = b, by Gaussian elimination with pivots. A must not be singular."""
    size = len(target)
    system = [[*row, value] for row, value in zip(rows, target, strict=True)]
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(system[row][column]))
        system[column], system[pivot] = system[pivot], system[column]
        for row in range(column + 1, size):
            factor = system[row][column] / system[column][column]
            for entry in range(column, size + 1):
                system[row][entry] -= factor * system[column][entry]
    solution = [0.0] * size
    for row in reversed(range(size)):
        known = sum(system[row][column] * solution[column] for column in range(row + 1, size))
        solution[row] = (system[row][size] - known) / system[row][row]
    return solution
