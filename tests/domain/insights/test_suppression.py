"""What is hidden of small cells, for whatever counts."""

from hypothesis import example, given
from hypothesis import strategies as st

from audience_service.domain.insights.model import BucketCount, BucketKind, Quantile
from audience_service.domain.insights.suppression import cells_to_suppress, disclosed_quantiles, suppress_small

COUNTS = st.lists(st.integers(0, 30) | st.integers(0, 1_000_000), max_size=20)


@given(COUNTS, st.integers(0, 20))
@example([1, 9, 20], 5)
@example([4, 9, 20], 5)
def test_small_counts_are_suppressed_and_cannot_be_inferred(counts: list[int], least: int) -> None:
    hidden = cells_to_suppress(counts, least)
    assert {position for position, count in enumerate(counts) if 0 < count < least} <= hidden
    assert all(counts[position] for position in hidden), "a count of 0 discloses no one"
    positions = {position for position, count in enumerate(counts) if count}
    if hidden and hidden != positions:
        assert len(hidden) > 1
        assert sum(counts[position] for position in hidden) >= least


@given(COUNTS, st.integers(2, 20))
@example([2, 3, 5, 9], 5)
@example([2, 2, 5, 9], 5)
def test_suppression_is_minimal(counts: list[int], least: int) -> None:
    hidden = cells_to_suppress(counts, least)
    greater = sorted(counts[position] for position in hidden if counts[position] >= least)
    small = sum(count for count in counts if 0 < count < least)
    enough = [count for count in counts if count >= least]
    assert greater == (sorted(enough)[:1] if 0 < small < least else []), "the next greater one, where it takes one"


@given(COUNTS, st.integers(0, 20))
def test_the_cells_still_add_up(counts: list[int], least: int) -> None:
    cells = [BucketCount(BucketKind.VALUE, str(position), count) for position, count in enumerate(counts)]
    shown, hidden = suppress_small(cells, sum(counts), least)
    assert sum(cell.count for cell in shown) == sum(counts)
    assert {cells[position] for position in cells_to_suppress(counts, least)} <= set(hidden)
    assert all(cell in hidden for cell in cells if hidden and not cell.count), "an empty band narrows the others"
    assert [cell.kind for cell in shown].count(BucketKind.SUPPRESSED) == bool(hidden)
    assert [cell for cell in cells if cell not in hidden] == [c for c in shown if c.kind is BucketKind.VALUE]


def test_a_quantile_needs_enough_on_either_side() -> None:
    quantiles = {0: Quantile(1, 4, 100), 10: Quantile(2, 5, 96), 50: Quantile(5, 50, 60), 100: Quantile(9, 100, 5)}
    assert disclosed_quantiles(quantiles, 5) == {10: 2, 50: 5, 100: 9}
    assert disclosed_quantiles(quantiles, 0) == {0: 1, 10: 2, 50: 5, 100: 9}
