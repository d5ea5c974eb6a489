"""One dimension of an audience beside the org's: shares, the baseline's, and their index."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeAlias

from audience_service.domain.insights.breakdown import Cell, CellKind, DimensionCells, together
from audience_service.domain.insights.dimensions import Dimension, Kind
from audience_service.domain.insights.suppression import suppressed, to_hide, told_quantiles

Key: TypeAlias = tuple[CellKind, str]
_Group: TypeAlias = tuple[Cell, Sequence[Cell]]
"""A bucket, and the cells that it is made of."""


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
    """An audience's cells beside the org's: `limit` values one by one, none of fewer records than `least`.

    What is hidden does not depend on the limit: two answers of different limits would tell it by what differs.
    """
    cells, hidden = suppressed(ours.cells, least)
    groups = _groups(cells, hidden, len(cells) if dimension.is_banded else limit)
    buckets = [
        _bucket(cell, count, size, baseline_size)
        for cell, count in _beside(groups, theirs, least)
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


def _groups(cells: Sequence[Cell], hidden: Sequence[Cell], limit: int) -> list[_Group]:
    """The first `limit` values, all others as one, what has no value, and what is hidden."""
    values = [cell for cell in cells if cell.kind is CellKind.VALUE]
    others = [*values[limit:], *(cell for cell in cells if cell.kind is CellKind.OTHER)]
    nameless = [cell for cell in cells if cell.kind in (CellKind.INVALID, CellKind.MISSING)]
    return [
        *((cell, [cell]) for cell in values[:limit]),
        *([(together(CellKind.OTHER, others), others)] if others else []),
        *((cell, [cell]) for cell in nameless),
        *((cell, hidden) for cell in cells if cell.kind is CellKind.SUPPRESSED),
    ]


def _beside(groups: list[_Group], theirs: DimensionCells, least: int) -> list[tuple[Cell, int | None]]:
    """Each bucket with the org's count, None where that is not known or not told.

    All values of the org that are not named here are among the others, so that the org's counts add up too.
    """
    known = {cell.key: cell.count for cell in theirs.cells}
    secret = {theirs.cells[position].key for position in to_hide([cell.count for cell in theirs.cells], least)}
    is_whole = not any(cell.kind is CellKind.OTHER for cell in theirs.cells)
    open_ended = [any(cell.kind is CellKind.OTHER for cell in sources) for _, sources in groups]
    if not any(open_ended):
        open_ended = [cell.kind is CellKind.OTHER for cell, _ in groups]
    if not any(open_ended):
        groups, open_ended = [*groups, (Cell(CellKind.OTHER, "", 0, 0), [])], [*open_ended, True]

    def count(cell: Cell) -> int | None:
        return known.get(cell.key, 0 if is_whole or cell.kind is not CellKind.VALUE else None)

    def told(keys: Set[Key], total: int | None) -> int | None:
        """Small counts are told all together or not at all."""
        return total if not keys & secret or secret <= keys else None

    named = [{cell.key for cell in sources} for _, sources in groups]
    totals = [_sum([count(cell) for cell in sources]) for _, sources in groups]
    elsewhere = [place for place, is_rest in enumerate(open_ended) if not is_rest]
    rest = known.keys() - set[Key]().union(*(named[place] for place in elsewhere))
    apart = _sum([totals[place] for place in elsewhere])
    of_rest = told(rest, None if apart is None else sum(known.values()) - apart)
    return [
        (cell, of_rest if open_ended[place] else told(named[place], totals[place]))
        for place, (cell, _) in enumerate(groups)
    ]


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


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
    return told_quantiles(cells.quantiles, least) if cells.numbers * 2 >= size - missing else {}
