"""One dimension beside the org's."""

from audience_service.domain.breakdown import Cell, CellKind, DimensionCells
from audience_service.domain.comparison import DimensionInsights, compare
from audience_service.domain.dimensions import DIMENSIONS

VALUE, OTHER, MISSING = CellKind.VALUE, CellKind.OTHER, CellKind.MISSING


def cells(*found: Cell, several: int = 1) -> DimensionCells:
    """A dimension without numbers."""
    return DimensionCells(found, several, 0, {})


def compared(ours: DimensionCells, theirs: DimensionCells, limit: int = 10, least: int = 0) -> DimensionInsights:
    """A source's cells beside the org's."""
    size, org_size = (sum(cell.count for cell in found.cells) for found in (ours, theirs))
    return compare(DIMENSIONS["source"], ours, theirs, size, org_size, limit, least)


def told(found: DimensionInsights) -> dict[str, tuple[int, int | None]]:
    """Each bucket's count and the org's."""
    return {
        bucket.cell.label or bucket.cell.kind: (bucket.cell.count, bucket.baseline_count) for bucket in found.buckets
    }


def test_an_index_is_the_share_over_the_orgs() -> None:
    found = compared(cells(Cell(VALUE, "a", 3), Cell(VALUE, "b", 1)), cells(Cell(VALUE, "a", 5), Cell(VALUE, "b", 5)))
    assert [(bucket.share, bucket.baseline_share, bucket.index) for bucket in found.buckets] == [
        (0.75, 0.5, 150.0),
        (0.25, 0.5, 50.0),
    ]


def test_what_the_audience_has_none_of_is_with_the_others_so_that_the_org_adds_up() -> None:
    theirs = cells(Cell(VALUE, "c", 90), Cell(VALUE, "a", 9), Cell(MISSING, "", 1))
    found = compared(cells(Cell(VALUE, "a", 3)), theirs)
    assert told(found) == {"a": (3, 9), "other": (0, 91)}
    assert found.buckets[1].index == 0


def test_values_past_the_limit_are_others() -> None:
    ours = cells(
        Cell(VALUE, "a", 4), Cell(VALUE, "b", 3), Cell(MISSING, "", 2), Cell(VALUE, "c", 2), Cell(OTHER, "", 5, 3)
    )
    found = compared(ours, ours, limit=1)
    assert told(found) == {"a": (4, 4), "other": (10, 10), "missing": (2, 2)}
    assert found.buckets[1].cell.values == 5
    assert found.with_value == 14


def test_a_value_beyond_those_read_of_the_org_has_no_baseline() -> None:
    theirs = cells(Cell(VALUE, "a", 100), Cell(OTHER, "", 900, 4_000))
    found = compared(cells(Cell(VALUE, "a", 8), Cell(VALUE, "rare", 6)), theirs)
    assert told(found) == {"a": (8, 100), "rare": (6, None), "other": (0, None)}
    assert [bucket.index for bucket in found.buckets][1:] == [None, None]


def test_a_record_that_the_org_no_longer_counts_has_no_index() -> None:
    found = compared(cells(Cell(VALUE, "archive", 7)), cells(Cell(VALUE, "a", 10)))
    assert told(found) == {"archive": (7, 0), "other": (0, 10)}
    assert found.buckets[0].index is None


def test_suppressed_cells_have_the_orgs_count_of_the_same_values() -> None:
    ours = cells(Cell(VALUE, "a", 50), Cell(VALUE, "b", 9), Cell(VALUE, "c", 2))
    theirs = cells(Cell(VALUE, "a", 500), Cell(VALUE, "b", 90), Cell(VALUE, "c", 20), Cell(VALUE, "d", 30))
    assert told(compared(ours, theirs, least=5)) == {"a": (50, 500), "suppressed": (11, 110), "other": (0, 30)}
    few = cells(Cell(VALUE, "a", 50), Cell(VALUE, "b", 9), Cell(OTHER, "", 2, 2))
    assert told(compared(few, theirs, least=5)) == {"a": (50, 500), "suppressed": (11, 140)}


def test_a_small_count_of_the_org_is_not_told_nor_the_one_that_would_tell_it() -> None:
    theirs = cells(Cell(VALUE, "a", 500), Cell(VALUE, "b", 90), Cell(VALUE, "c", 2))
    found = compared(cells(Cell(VALUE, "a", 50), Cell(VALUE, "b", 9)), theirs, least=5)
    assert told(found) == {"a": (50, 500), "b": (9, None), "other": (0, None)}


def test_how_many_have_a_value_is_not_told_where_it_tells_how_many_have_none() -> None:
    ours = cells(Cell(VALUE, "a", 50), Cell(VALUE, "b", 9), Cell(MISSING, "", 2))
    assert compared(ours, ours, least=5).with_value is None
    assert compared(ours, ours, least=0).with_value == 59
    assert compared(cells(Cell(VALUE, "a", 2)), ours, least=5).with_value is None
