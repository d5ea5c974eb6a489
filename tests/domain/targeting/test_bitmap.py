"""Sets of numbers as bits."""

from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.targeting.bitmap import bitmap, members

NUMBERS = st.frozensets(st.integers(0, 300), max_size=40)


@given(NUMBERS, st.integers(-1, 400))
def test_members_are_ordered_from_any_start(numbers: frozenset[int], after: int) -> None:
    assert list(members(bitmap(numbers), after)) == sorted(number for number in numbers if number > after)


@given(NUMBERS, NUMBERS)
def test_bits_meet_as_sets_do(some: frozenset[int], others: frozenset[int]) -> None:
    assert bitmap(some) & bitmap(others) == bitmap(some & others)
    assert bitmap(some) | bitmap(others) == bitmap(some | others)
    assert bitmap(some).bit_count() == len(some)
