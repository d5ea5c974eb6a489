"""The arithmetic of regions, against sets."""

from collections import Counter
from datetime import UTC, datetime
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.reach.venn_regions import VennRegions

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
Members = dict[str, set[int]]
audiences = st.lists(st.sets(st.integers(0, 9)), min_size=2, max_size=8).map(
    lambda sets: {f"segment-{number}": members for number, members in enumerate(sets)}
)


def regions_of(members: Members) -> VennRegions:
    """The regions of audiences with the given members."""
    all_members = set().union(*members.values())
    masks = Counter(sum(1 << i for i, some in enumerate(members.values()) if one in some) for one in all_members)
    return VennRegions(tuple(members), masks, NOON)


@given(audiences)
def test_every_number_follows_from_the_regions(members: Members) -> None:
    regions = regions_of(members)
    assert regions.sizes == [len(some) for some in members.values()]
    assert regions.union == len(set().union(*members.values()))
    shown = regions.largest_first()
    assert [count for _, count in shown] == sorted((count for _, count in shown), reverse=True)
    for name, some in members.items():
        assert sum(count for names, count in shown if name in names) == len(some)
    for pair, (name, other) in zip(regions.pairs(), combinations(members, 2), strict=True):
        both, either = members[name] & members[other], members[name] | members[other]
        assert (pair.audience_id, pair.other_audience_id, pair.count) == (name, other, len(both))
        assert (pair.size, pair.other_size) == (len(members[name]), len(members[other]))
        assert pair.jaccard == (len(both) / len(either) if either else 0)
        assert pair.share_of_audience == (len(both) / len(members[name]) if members[name] else 0)
        assert pair.share_of_other == (len(both) / len(members[other]) if members[other] else 0)


@given(audiences)
def test_duplicates_and_subsets_equal_set_operations(members: Members) -> None:
    regions = regions_of(members)
    same: dict[frozenset[int], list[str]] = {}
    for name, some in members.items():
        if some:
            same.setdefault(frozenset(some), []).append(name)
    assert regions.duplicates() == [names for names in same.values() if len(names) > 1]
    inside = {(a, b) for a, some in members.items() for b, other in members.items() if some and some < other}
    found = regions.subsets()
    assert (set(found), len(found)) == (inside, len(inside))
