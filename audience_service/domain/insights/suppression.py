"""Small cells: counts of so few people that they might be recognised are not told, nor what would give them away."""

from collections.abc import Mapping, Sequence

from audience_service.domain.insights.breakdown import Cell, CellKind, Quantile, together


def to_hide(counts: Sequence[int], least: int) -> set[int]:
    """The positions of the counts of 1 to `least` - 1, and of as many of the next greater as it takes to hide them.

    A single one could be computed from the total, and so could all of them if they came to less than `least`: they come
    to that much together, for which it takes two at least, or all are hidden.
    """
    hidden = [position for position, count in enumerate(counts) if 0 < count < least]
    if not hidden:
        return set()
    rest = sorted((count, position) for position, count in enumerate(counts) if count >= least)
    for _, position in rest:
        if sum(counts[position] for position in hidden) >= least:
            break
        hidden.append(position)
    return set(hidden)


def suppressed(cells: Sequence[Cell], least: int) -> tuple[list[Cell], list[Cell]]:
    """The cells with those to hide made one, behind the others, and the hidden ones."""
    hide = to_hide([cell.count for cell in cells], least)
    if not hide:
        return list(cells), []
    hidden = [cell for position, cell in enumerate(cells) if position in hide]
    shown = [cell for position, cell in enumerate(cells) if position not in hide]
    return [*shown, together(CellKind.SUPPRESSED, hidden)], hidden


def told_quantiles(quantiles: Mapping[int, Quantile], least: int) -> dict[int, float]:
    """The quantiles that at least `least` records are at or below, and as many at or above."""
    return {
        percent: quantile.value
        for percent, quantile in quantiles.items()
        if quantile.at_most >= least and quantile.at_least >= least
    }
