"""What is hidden of small cells, for whatever counts."""

from hypothesis import example, given
from hypothesis import strategies as st

from audience_service.domain.insights.breakdown import Cell, CellKind, Quantile
from audience_service.domain.insights.suppression import suppressed, to_hide, told_quantiles

COUNTS = st.lists(st.integers(0, 30) | st.integers(0, 1_000_000), max_size=20)


@given(COUNTS, st.integers(0, 20))
@example([1, 9, 20], 5)
@example([4, 9, 20], 5)
def test_no_small_count_is_told_nor_can_be_computed(counts: list[int], least: int) -> None:
    hidden = to_hide(counts, least)
    assert {position for position, count in enumerate(counts) if 0 < count < least} <= hidden
    assert all(counts[position] for position in hidden), "nobody is nobody's secret"
    everyone = {position for position, count in enumerate(counts) if count}
    if hidden and hidden != everyone:
        assert len(hidden) > 1
        assert sum(counts[position] for position in hidden) >= least


@given(COUNTS, st.integers(2, 20))
@example([2, 3, 5, 9], 5)
@example([2, 2, 5, 9], 5)
def test_no_more_is_hidden_than_it_takes(counts: list[int], least: int) -> None:
    hidden = to_hide(counts, least)
    greater = sorted(counts[position] for position in hidden if counts[position] >= least)
    small = sum(count for count in counts if 0 < count < least)
    enough = [count for count in counts if count >= least]
    assert greater == (sorted(enough)[:1] if 0 < small < least else []), "the next greater one, where it takes one"


@given(COUNTS, st.integers(0, 20))
def test_the_cells_still_add_up(counts: list[int], least: int) -> None:
    cells = [Cell(CellKind.VALUE, str(position), count) for position, count in enumerate(counts)]
    shown, hidden = suppressed(cells, least)
    assert sum(cell.count for cell in shown) == sum(counts)
    assert sum(cell.values for cell in shown) == len(cells)
    assert hidden == [cells[position] for position in sorted(to_hide(counts, least))]
    assert [cell.kind for cell in shown].count(CellKind.SUPPRESSED) == bool(hidden)
    assert [cell for cell in cells if cell not in hidden] == [c for c in shown if c.kind is CellKind.VALUE]


def test_a_quantile_needs_enough_on_either_side() -> None:
    quantiles = {0: Quantile(1, 4, 100), 10: Quantile(2, 5, 96), 50: Quantile(5, 50, 60), 100: Quantile(9, 100, 5)}
    assert told_quantiles(quantiles, 5) == {10: 2, 50: 5, 100: 9}
    assert told_quantiles(quantiles, 0) == {0: 1, 10: 2, 50: 5, 100: 9}
