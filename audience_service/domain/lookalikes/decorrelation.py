"""How much of each field's weights counts, since fields tell in part the same: a city tells the country, too.

The multipliers are those of Fisher's linear discriminant over the fields' scores: for normal scores of equal covariance
their sum is the logarithm of the odds. They take one matrix from the database, how the scores vary together, and no
fitting in steps. T is that matrix of all records, d by how much the seed's mean scores lie above the baseline's. With
the seed's part p of both, the covariance inside them is W = T - p (1 - p) d d', and by Sherman and Morrison
W⁻¹ d = T⁻¹ d / (1 - p (1 - p) d' T⁻¹ d).
"""

from collections.abc import Sequence

Matrix = Sequence[Sequence[float]]

_RIDGE = 0.01
"""Added to the diagonal, in parts of it: two fields that are the same share what they tell."""
_DIGITS = 3


def decorrelation_weights(covariance: Matrix, differences: Sequence[float], seed_fraction: float) -> tuple[float, ...]:
    """A multiplier from 0 to 1 for each field, 0 for one whose scores do not vary or that others make up for.

    One that would be negative is left out and the rest solved again, the most negative first.
    """
    active = [position for position, row in enumerate(covariance) if row[position] > 0]
    found: dict[int, float] = {}
    while active:
        solved = _multipliers(covariance, differences, active, seed_fraction)
        found = dict(zip(active, solved, strict=True))
        worst = min(active, key=lambda position: found[position])
        if found[worst] >= 0:
            break
        active.remove(worst)
        found = {}
    return tuple(round(min(max(found.get(index, 0.0), 0.0), 1.0), _DIGITS) for index in range(len(differences)))


def _multipliers(
    covariance: Matrix, differences: Sequence[float], active: Sequence[int], seed_fraction: float
) -> Sequence[float]:
    rows = [[covariance[i][j] * (1 + _RIDGE if i == j else 1) for j in active] for i in active]
    target = [differences[i] for i in active]
    direction = solve(rows, target)
    between = seed_fraction * (1 - seed_fraction) * sum(a * b for a, b in zip(direction, target, strict=True))
    # A seed that the fields tell almost surely leaves nothing inside: the multipliers end at 1 anyway.
    return [part / max(1 - between, 0.05) for part in direction]


def solve(rows: Matrix, target: Sequence[float]) -> list[float]:
    """X of A x = b, by Gaussian elimination with pivots; A is not singular."""
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
        known = sum(system[row][place] * solution[place] for place in range(row + 1, size))
        solution[row] = (system[row][size] - known) / system[row][row]
    return solution
