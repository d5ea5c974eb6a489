"""How many different rows there are."""

from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.identifiers.digests import Digests

rows = st.lists(st.tuples(st.text(max_size=2), st.text(max_size=2)))


@given(first=rows, then=rows, others=rows)
def test_each_different_row_counts_once_and_is_found(
    first: list[tuple[str, str]], then: list[tuple[str, str]], others: list[tuple[str, str]]
) -> None:
    digests = Digests(max_rows=1_000)
    for part in (first, then):
        for row in part:
            digests.add(row)
        assert len(digests) == len(set(first if part is first else first + then))
    assert [row in digests for row in others] == [row in {*first, *then} for row in others]
    assert not digests.is_full


def test_past_its_room_it_says_that_it_is_full() -> None:
    digests = Digests(max_rows=2)
    for row in ("a", "b", "c"):
        assert not digests.is_full
        digests.add([row])
    assert digests.is_full
    assert len(digests) == 2
