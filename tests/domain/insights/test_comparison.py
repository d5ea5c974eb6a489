"""One dimension beside the org's."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.insights.breakdown import Cell, CellKind, DimensionCells, Quantile
from audience_service.domain.insights.comparison import DimensionInsights, compare
from audience_service.domain.insights.dimensions import DIMENSIONS

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


COUNTS = st.lists(st.integers(0, 12) | st.integers(0, 60), min_size=1, max_size=6)


@given(st.data(), COUNTS, st.integers(2, 8))
def test_nothing_small_can_be_computed_from_answers_of_all_limits(
    data: st.DataObject, orgs: list[int], least: int
) -> None:
    """Each count that is told is the sum of some cells; none that is hidden follows from these sums."""
    ours = [data.draw(st.integers(0, count)) for count in orgs]
    kinds = [*([(VALUE, str(place)) for place in range(len(orgs) - 1)]), (MISSING, "")]
    audience, org = (
        cells(*sorted((Cell(*kind, count) for kind, count in zip(kinds, found, strict=True) if count), key=_order))
        for found in (ours, orgs)
    )
    whole = compared(audience, org, limit=len(orgs), least=least).buckets
    hidden = {cell.key for cell in audience.cells} - {bucket.cell.key for bucket in whole}
    members, everyone = [[1] * len(orgs)], [[1] * len(orgs)]
    for limit in range(1, len(orgs) + 1):
        buckets = compared(audience, org, limit=limit, least=least).buckets
        named = {bucket.cell.key for bucket in buckets}
        is_hiding = (CellKind.SUPPRESSED, "") in named
        for bucket in buckets:
            if bucket.cell.kind is CellKind.SUPPRESSED:
                covered = hidden
            elif bucket.cell.kind is OTHER:
                covered = set(kinds) - named - (hidden if is_hiding else set())
            else:
                covered = {bucket.cell.key}
            row = [int(kind in covered) for kind in kinds]
            members.append(row)
            if bucket.baseline_count is not None:
                everyone.append(row)
    for counts, rows in ((ours, members), (orgs, everyone)):
        if sum(count > 0 for count in counts) > 1:
            small = [place for place, count in enumerate(counts) if 0 < count < least]
            assert not [place for place in small if _follows(place, counts, rows)]


def _order(cell: Cell) -> tuple[bool, int]:
    return cell.kind is MISSING, -cell.count


def _follows(place: int, counts: list[int], rows: list[list[int]]) -> bool:
    """Whether the count at the place is a combination of sums, of those whom it is known that there are any."""
    there = [at for at, count in enumerate(counts) if count]
    wanted = [int(at == place) for at in there]
    some = [[row[at] for at in there] for row in rows]
    return _rank(some) == _rank([*some, wanted])


def _rank(rows: list[list[int]]) -> int:
    left, rank = [[Fraction(number) for number in row] for row in rows], 0
    for column in range(len(rows[0])):
        pivot = next((row for row in left if row[column]), None)
        if pivot is None:
            continue
        rank += 1
        left = [
            [a - b * row[column] / pivot[column] for a, b in zip(row, pivot, strict=True)]
            for row in left
            if row is not pivot
        ]
    return rank


def test_nobody_has_a_share_of_0_and_nobody_with_a_value_is_told() -> None:
    nobody = compared(cells(), cells(Cell(VALUE, "a", 9)))
    assert [(bucket.share, bucket.index) for bucket in nobody.buckets] == [(0.0, 0.0)]
    without = cells(Cell(MISSING, "", 9))
    assert compared(without, without, least=5).with_value == 0


def test_several_values_of_a_member_or_of_another_of_the_org_are_said() -> None:
    one, two = cells(Cell(VALUE, "a", 9)), cells(Cell(VALUE, "a", 9), several=2)
    assert [compared(*both).multi_valued for both in ((one, one), (two, one), (one, two))] == [False, True, True]
    assert compare(DIMENSIONS["tags"], one, one, 9, 9, 10, 0).multi_valued, "tags are a list always"


def test_quantiles_are_told_where_half_of_the_values_at_least_are_numbers() -> None:
    def of(numbers: int) -> DimensionCells:
        found = Cell(VALUE, "a", 4), Cell(CellKind.INVALID, "", 2), Cell(MISSING, "", 10)
        return DimensionCells(found, 1, numbers, {50: Quantile(7.0, 3, 3)})

    both = compared(of(3), of(2))
    assert (both.quantiles, both.baseline_quantiles) == ({50: 7.0}, {})
    assert compared(of(3), of(3), least=4).quantiles == {}
