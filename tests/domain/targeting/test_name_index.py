"""What a query finds among names, the first time and from what is kept of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.targeting.bitmap import members
from audience_service.domain.targeting.name_index import NameIndex

WORDS = st.text("abé", min_size=1, max_size=3)
NAMES = st.dictionaries(
    st.lists(WORDS, min_size=1, max_size=3).map(" ".join), st.frozensets(st.integers(0, 40), min_size=1)
)
QUERIES = st.text("abé ", max_size=4).map(lambda text: " ".join(text.split()))


def index(names: dict[str, frozenset[int]], min_cached_lines: int) -> NameIndex:
    """The index of these names, as scripts/taxonomies builds it."""
    later: dict[str, frozenset[int]] = {}
    for name, numbers in names.items():
        parts = name.split(" ")
        for start in range(1, len(parts)):
            rest = " ".join(parts[start:])
            later[rest] = later.get(rest, frozenset()) | numbers
    return NameIndex(_text(names), _text(later), min_cached_lines)


def _text(lines: dict[str, frozenset[int]]) -> bytes:
    rows = (f"{name}\t{' '.join(map(str, sorted(numbers)))}".encode() for name, numbers in lines.items())
    return b"\n".join(sorted(rows))


@pytest.mark.parametrize("many", [1, 3, 256])
@given(names=NAMES, query=QUERIES)
def test_a_query_finds_exact_names_then_prefixes_then_later_words(
    many: int, names: dict[str, frozenset[int]], query: str
) -> None:
    searched = index(names, many)
    for _ in range(2):
        found = searched.find(query)
        exact = set(names.get(query, ()))
        beginning = {n for name, numbers in names.items() if query and name.startswith(query) for n in numbers}
        within = {n for name, numbers in names.items() if query and f" {query}" in name for n in numbers}
        assert set(members(found.exact)) == exact == searched.find_exact(query)
        assert set(members(found.prefix)) == beginning - exact
        assert set(members(found.word_prefix)) == within - beginning - exact
