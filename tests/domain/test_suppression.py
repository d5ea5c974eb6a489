"""What is hidden of small cells, for whatever counts."""

from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.breakdown import Cell, CellKind, Quantile
from audience_service.domain.suppression import suppressed, to_hide, told_quantiles

COUNTS = st.lists(st.integers(0, 30) | st.integers(0, 1_000_000), max_size=20)


@given(COUNTS, st.integers(0, 20))
def test_no_small_count_is_told_nor_can_be_computed(counts: list[int], least: int) -> None:
    hidden = to_hide(counts, least)
    assert {position for position, count in enumerate(counts) if 0 < count < least} <= hidden
    assert all(counts[position] for position in hidden), "nobody is nobody's secret"
    everyone = {position for position, count in enumerate(counts) if count}
    if hidden and hidden != everyone:
        assert len(hidden) > 1
        assert sum(counts[position] for position in hidden) >= least


@given(COUNTS, st.integers(2, 20))
def test_no_more_is_hidden_than_it_takes(counts: list[int], least: int) -> None:
    hidden = to_hide(counts, least)
    greater = sorted(counts[position] for position in hidden if counts[position] >= least)
    small = sum(count for count in counts if 0 < count < least)
    assert len(greater) <= 1 or (len(greater) == 2 and not small)
    if greater:
        assert greater[0] == min(count for count in counts if count >= least), "the next greater one"


@given(COUNTS, st.integers(0, 20))
def test_the_cells_still_add_up(counts: list[int], least: int) -> None:
    cells = [Cell(CellKind.VALUE, str(position), count) for position, count in enumerate(counts)]
    shown, hidden = suppressed(cells, least)
    assert sum(cell.count for cell in shown) == sum(counts)
    assert sum(cell.values for cell in shown) == len(cells)
    assert [cell for cell in cells if cell not in hidden] == [c for c in shown if c.kind is CellKind.VALUE]


def test_a_quantile_needs_enough_on_either_side() -> None:
    quantiles = {0: Quantile(1, 4, 100), 50: Quantile(5, 50, 60), 100: Quantile(9, 100, 5)}
    assert told_quantiles(quantiles, 5) == {50: 5, 100: 9}
    assert told_quantiles(quantiles, 0) == {0: 1, 50: 5, 100: 9}
