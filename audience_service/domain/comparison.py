"""One dimension of an audience beside the org's: shares, the baseline's, and their index."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audience_service.domain.breakdown import Cell, CellKind, DimensionCells
from audience_service.domain.dimensions import Dimension, Kind
from audience_service.domain.suppression import suppressed, to_hide, told


@dataclass(frozen=True, slots=True)
class Bucket:
    """A cell beside the org's.

    The baseline's count is None where it is small, or the value is not among those that were read of the org. `index`
    is 100 where the share is as in the org, None where the org has nobody or is not told.
    """

    cell: Cell
    share: float
    baseline_count: int | None
    baseline_share: float | None
    index: float | None


@dataclass(frozen=True, slots=True)
class DimensionInsights:
    """One dimension. `with_value` is how many members have one at least, None where that would tell a small cell.

    Quantiles are by percent, none where hardly a value is a number.
    """

    dimension: Dimension
    multi_valued: bool
    with_value: int | None
    buckets: tuple[Bucket, ...]
    quantiles: Mapping[int, float]
    baseline_quantiles: Mapping[int, float]


def compare(
    dimension: Dimension,
    ours: DimensionCells,
    theirs: DimensionCells,
    size: int,
    baseline_size: int,
    limit: int,
    least: int,
) -> DimensionInsights:
    """An audience's cells beside the org's: `limit` values one by one, none of fewer records than `least`."""
    cells, hidden = suppressed(_cut(ours.cells, len(ours.cells) if dimension.is_banded else limit), least)
    counted = _beside(cells, hidden, theirs)
    untold = to_hide([count or 0 for _, count in counted], least)
    buckets = [
        _bucket(cell, None if position in untold else count, size, baseline_size)
        for position, (cell, count) in enumerate(counted)
        if cell.count or count != 0
    ]
    return DimensionInsights(
        dimension=dimension,
        multi_valued=dimension.kind is Kind.LIST or ours.several > 1 or theirs.several > 1,
        with_value=_with_value(ours, hidden, size, least),
        buckets=tuple(buckets),
        quantiles=_quantiles(ours, size, least),
        baseline_quantiles=_quantiles(theirs, baseline_size, least),
    )


def _cut(cells: Sequence[Cell], limit: int) -> list[Cell]:
    """The first `limit` values, all others as one, then what has no value."""
    values = [cell for cell in cells if cell.kind is CellKind.VALUE]
    nameless = [cell for cell in cells if cell.kind in (CellKind.INVALID, CellKind.MISSING)]
    others = [*values[limit:], *(cell for cell in cells if cell.kind is CellKind.OTHER)]
    count, number = sum(cell.count for cell in others), sum(cell.values for cell in others)
    return [*values[:limit], *([Cell(CellKind.OTHER, "", count, number)] if others else []), *nameless]


def _beside(cells: Sequence[Cell], hidden: Sequence[Cell], theirs: DimensionCells) -> list[tuple[Cell, int | None]]:
    """Each cell with the org's count, None where that is not known.

    Among the others are all values of the org that are not named here, so that the org's counts add up too.
    """
    known = {cell.key: cell.count for cell in theirs.cells}
    total = sum(known.values())
    is_whole = not any(cell.kind is CellKind.OTHER for cell in theirs.cells)

    def count(cell: Cell) -> int | None:
        return known.get(cell.key, 0 if is_whole or cell.kind is not CellKind.VALUE else None)

    composed = (CellKind.OTHER, CellKind.SUPPRESSED)
    told_apart = {cell: count(cell) for cell in cells if cell.kind not in composed}
    rest = _difference(total, list(told_apart.values()))
    suppressed_count: int | None = None
    if any(cell.kind is CellKind.OTHER for cell in hidden):
        suppressed_count, rest = rest, 0
    elif hidden:
        folded = [count(cell) for cell in hidden]
        suppressed_count = None if None in folded else sum(number or 0 for number in folded)
        rest = _difference(rest, folded)
    of_composed = {CellKind.OTHER: rest, CellKind.SUPPRESSED: suppressed_count}
    counted = [(cell, of_composed[cell.kind] if cell.kind in composed else told_apart[cell]) for cell in cells]
    if rest != 0 and not any(cell.kind is CellKind.OTHER for cell in cells):
        counted.append((Cell(CellKind.OTHER, "", 0, 0), rest))
    return counted


def _difference(total: int | None, parts: Sequence[int | None]) -> int | None:
    if total is None or None in parts:
        return None
    return total - sum(part or 0 for part in parts)


def _bucket(cell: Cell, baseline_count: int | None, size: int, baseline_size: int) -> Bucket:
    share = cell.count / size if size else 0.0
    if baseline_count is None or not baseline_size:
        return Bucket(cell, share, baseline_count, None, None)
    baseline_share = baseline_count / baseline_size
    return Bucket(cell, share, baseline_count, baseline_share, share / baseline_share * 100 if baseline_share else None)


def _with_value(ours: DimensionCells, hidden: Sequence[Cell], size: int, least: int) -> int | None:
    nameless = (CellKind.MISSING, CellKind.INVALID)
    count = size - sum(cell.count for cell in ours.cells if cell.kind in nameless)
    if 0 < count < least or any(cell.kind in nameless for cell in hidden):
        return None
    return count


def _quantiles(cells: DimensionCells, size: int, least: int) -> dict[int, float]:
    missing = sum(cell.count for cell in cells.cells if cell.kind is CellKind.MISSING)
    return told(cells.quantiles, least) if cells.numbers * 2 >= size - missing else {}
