"""One dimension of an audience compared with the org."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import permutations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from audience_service.domain.insights.comparison import DimensionInsights, compare
from audience_service.domain.insights.dimensions import DIMENSIONS
from audience_service.domain.insights.model import BucketCount, BucketKind, DimensionCounts, Quantile

VALUE, OTHER, MISSING = BucketKind.VALUE, BucketKind.OTHER, BucketKind.MISSING


def cells(*found: BucketCount, several: int = 1) -> DimensionCounts:
    """A dimension without numbers."""
    return DimensionCounts(found, several, 0, {})


def compared(
    audience: DimensionCounts, baseline: DimensionCounts, limit: int = 10, min_bucket_size: int = 0
) -> DimensionInsights:
    """The buckets of an audience compared with those of the org."""
    size, org_size = (sum(cell.count for cell in found.buckets) for found in (audience, baseline))
    return compare(DIMENSIONS["source"], audience, baseline, size, org_size, limit, min_bucket_size)


def counts_by_bucket(found: DimensionInsights) -> dict[str, tuple[int, int | None]]:
    """Each bucket's count and the org's."""
    return {
        bucket.bucket_count.label or bucket.bucket_count.kind: (bucket.bucket_count.count, bucket.baseline_count)
        for bucket in found.buckets
    }


def test_an_index_is_the_share_over_the_orgs() -> None:
    found = compared(
        cells(BucketCount(VALUE, "a", 3), BucketCount(VALUE, "b", 1)),
        cells(BucketCount(VALUE, "a", 5), BucketCount(VALUE, "b", 5)),
    )
    assert [(bucket.share, bucket.baseline_share, bucket.index) for bucket in found.buckets] == [
        (0.75, 0.5, 150.0),
        (0.25, 0.5, 50.0),
    ]


def test_values_missing_from_the_audience_are_counted_under_other() -> None:
    theirs = cells(BucketCount(VALUE, "c", 90), BucketCount(VALUE, "a", 9), BucketCount(MISSING, "", 1))
    found = compared(cells(BucketCount(VALUE, "a", 3)), theirs)
    assert counts_by_bucket(found) == {"a": (3, 9), "other": (0, 91)}
    assert found.buckets[1].index == 0


def test_values_past_the_limit_are_others() -> None:
    ours = cells(
        BucketCount(VALUE, "a", 4),
        BucketCount(VALUE, "b", 3),
        BucketCount(MISSING, "", 2),
        BucketCount(VALUE, "c", 2),
        BucketCount(OTHER, "", 5, 3),
    )
    found = compared(ours, ours, limit=1)
    assert counts_by_bucket(found) == {"a": (4, 4), "other": (10, 10), "missing": (2, 2)}
    assert found.buckets[1].bucket_count.values == 5
    assert found.with_value == 14


def test_a_value_outside_the_baselines_top_values_has_no_baseline() -> None:
    theirs = cells(BucketCount(VALUE, "a", 100), BucketCount(OTHER, "", 900, 4_000))
    found = compared(cells(BucketCount(VALUE, "a", 8), BucketCount(VALUE, "rare", 6)), theirs)
    assert counts_by_bucket(found) == {"a": (8, 100), "rare": (6, None), "other": (0, None)}
    assert [bucket.index for bucket in found.buckets][1:] == [None, None]


def test_a_record_that_the_org_no_longer_counts_has_no_index() -> None:
    found = compared(cells(BucketCount(VALUE, "archive", 7)), cells(BucketCount(VALUE, "a", 10)))
    assert counts_by_bucket(found) == {"archive": (7, 0), "other": (0, 10)}
    assert found.buckets[0].index is None


def test_suppressed_values_and_the_rest_have_no_baseline() -> None:
    """The org's count of the suppressed values, or of all others, would show which values these are."""
    ours = cells(BucketCount(VALUE, "a", 50), BucketCount(VALUE, "b", 9), BucketCount(VALUE, "c", 2))
    theirs = cells(
        BucketCount(VALUE, "a", 500),
        BucketCount(VALUE, "b", 90),
        BucketCount(VALUE, "c", 20),
        BucketCount(VALUE, "d", 30),
    )
    found = compared(ours, theirs, min_bucket_size=5)
    assert counts_by_bucket(found) == {"a": (50, 500), "suppressed": (11, None)}
    assert found.buckets[-1].bucket_count.values == 0, "how many they are is not shown"
    many = cells(*(BucketCount(VALUE, name, 50) for name in "abd"), BucketCount(VALUE, "c", 2))
    assert counts_by_bucket(compared(many, theirs, limit=1, min_bucket_size=5)) == {
        "b": (50, 90),
        "other": (50, None),
        "suppressed": (52, None),
    }


@pytest.mark.parametrize("name", ["source", "ageBand", "tags"])
def test_an_audience_below_the_minimum_shows_its_size_alone(name: str) -> None:
    """A list of one contact would show the contact's value by the baseline, or by the bands that are empty."""
    bands = [BucketCount(VALUE, label, 0) for label in "bcd"] if name == "ageBand" else []
    ours = cells(BucketCount(VALUE, "a", 1), *bands)
    theirs = cells(*(BucketCount(VALUE, label, count) for label, count in zip("abcd", (9, 20, 30, 40), strict=True)))
    found = compare(DIMENSIONS[name], ours, theirs, 1, 99, 10, 5)
    assert counts_by_bucket(found) == {"suppressed": (1, None)}
    assert (found.with_value, found.quantiles) == (None, {})


def test_an_org_below_the_minimum_shows_its_size_alone() -> None:
    bands = [BucketCount(VALUE, label, 0) for label in "ab"]
    found = compare(DIMENSIONS["ageBand"], cells(*bands), cells(BucketCount(VALUE, "a", 3), bands[1]), 0, 3, 10, 5)
    assert counts_by_bucket(found) == {"a": (0, None), "b": (0, None)}


def test_members_with_a_value_are_suppressed_with_all_others_if_they_are_few() -> None:
    """Three members with two tags of three each: by the ten members and the seven without a tag, each tag has three."""
    ours = cells(BucketCount(VALUE, "a", 3), BucketCount(VALUE, "b", 3), BucketCount(MISSING, "", 7), several=2)
    found = compare(DIMENSIONS["tags"], ours, ours, 10, 10, 10, 5)
    assert counts_by_bucket(found) == {"suppressed": (13, None)}
    assert found.with_value is None


def test_small_baseline_counts_and_their_complements_are_suppressed() -> None:
    theirs = cells(BucketCount(VALUE, "a", 500), BucketCount(VALUE, "b", 90), BucketCount(VALUE, "c", 2))
    found = compared(cells(BucketCount(VALUE, "a", 50), BucketCount(VALUE, "b", 9)), theirs, min_bucket_size=5)
    assert counts_by_bucket(found) == {"a": (50, 500), "b": (9, None), "other": (0, None)}


def test_with_value_is_suppressed_if_it_reveals_a_small_remainder() -> None:
    ours = cells(BucketCount(VALUE, "a", 50), BucketCount(VALUE, "b", 9), BucketCount(MISSING, "", 2))
    assert compared(ours, ours, min_bucket_size=5).with_value is None
    assert compared(ours, ours, min_bucket_size=0).with_value == 59
    assert compared(cells(BucketCount(VALUE, "a", 2)), ours, min_bucket_size=5).with_value is None


COUNTS = st.lists(st.integers(0, 12) | st.integers(0, 60), min_size=1, max_size=6)


@given(st.data(), COUNTS, st.integers(2, 8))
def test_small_counts_cannot_be_inferred_across_limits(data: st.DataObject, orgs: list[int], least: int) -> None:
    """Each disclosed count is a sum of buckets; no suppressed count follows from these sums."""
    ours = [data.draw(st.integers(0, count)) for count in orgs]
    kinds = [*([(VALUE, str(position)) for position in range(len(orgs) - 1)]), (MISSING, "")]
    audience, org = (
        cells(
            *sorted((BucketCount(*kind, count) for kind, count in zip(kinds, found, strict=True) if count), key=_order)
        )
        for found in (ours, orgs)
    )
    unlimited = compared(audience, org, limit=len(orgs), min_bucket_size=least).buckets
    hidden = {cell.key for cell in audience.buckets} - {bucket.bucket_count.key for bucket in unlimited}
    members, coefficients = [[1] * len(orgs)], [[1] * len(orgs)]
    for limit in range(1, len(orgs) + 1):
        buckets = compared(audience, org, limit=limit, min_bucket_size=least).buckets
        named = {bucket.bucket_count.key for bucket in buckets}
        is_hiding = (BucketKind.SUPPRESSED, "") in named
        for bucket in buckets:
            if bucket.bucket_count.kind is BucketKind.SUPPRESSED:
                covered = hidden
            elif bucket.bucket_count.kind is OTHER:
                covered = set(kinds) - named - (hidden if is_hiding else set())
            else:
                covered = {bucket.bucket_count.key}
            row = [int(kind in covered) for kind in kinds]
            members.append(row)
            if bucket.baseline_count is not None:
                coefficients.append(row)
    for counts, rows in ((ours, members), (orgs, coefficients)):
        if sum(count > 0 for count in counts) > 1:
            small = [position for position, count in enumerate(counts) if 0 < count < least]
            assert not [position for position in small if _follows(position, counts, rows)]


@given(st.lists(st.integers(0, 12) | st.integers(0, 40), min_size=1, max_size=5), st.integers(3, 7), st.booleans())
@example([1], 5, False)
@example([1], 5, True)
@example([1, 1, 1, 1, 1], 5, True)
@example([2, 2, 5], 3, False)
def test_another_audience_has_the_same_insights(counts: list[int], least: int, is_banded: bool) -> None:
    """For each suppressed value, some audience with another count of it has exactly the same answer."""
    labels = [*"abcdefg"][: len(counts) + 1]
    org = cells(*(BucketCount(VALUE, label, 90 + 10 * position) for position, label in enumerate(labels)))

    def answer(counts: tuple[int, ...], limit: int) -> DimensionInsights:
        found = [BucketCount(VALUE, label, count) for label, count in zip(labels, counts, strict=True)]
        ranked = found if is_banded else sorted((c for c in found if c.count), key=lambda c: (-c.count, c.label))
        org_size = sum(cell.count for cell in org.buckets)
        dimension = DIMENSIONS["ageBand" if is_banded else "source"]
        return compare(dimension, cells(*ranked), org, sum(counts), org_size, limit, least)

    ours = (*counts, 0)
    for limit in (1, 3, len(labels)):
        expected = answer(ours, limit)
        shown = {bucket.bucket_count.label for bucket in answer(ours, len(labels)).buckets}
        free = [at for at, label in enumerate(labels) if label not in shown]
        others = [other for other in _neighbours(ours, free) if answer(other, limit) == expected]
        for at in (at for at in free if 0 < ours[at] < least):
            assert any(other[at] != ours[at] for other in others), (labels[at], expected)


def _neighbours(counts: tuple[int, ...], free: list[int]) -> Iterator[tuple[int, ...]]:
    """The counts with some of one free position moved to another."""
    for source, target in permutations(free, 2):
        for moved in range(1, counts[source] + 1):
            changed = list(counts)
            changed[source] -= moved
            changed[target] += moved
            yield tuple(changed)


def _order(cell: BucketCount) -> tuple[bool, int]:
    return cell.kind is MISSING, -cell.count


def _follows(position: int, counts: list[int], rows: list[list[int]]) -> bool:
    """Whether the count at the place is a combination of sums, of those whom it is known that there are any."""
    there = [at for at, count in enumerate(counts) if count]
    unit_row = [int(at == position) for at in there]
    some = [[row[at] for at in there] for row in rows]
    return _rank(some) == _rank([*some, unit_row])


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


def test_an_empty_audience_has_shares_of_0() -> None:
    empty = compared(cells(), cells(BucketCount(VALUE, "a", 9)))
    assert [(bucket.share, bucket.index) for bucket in empty.buckets] == [(0.0, 0.0)]
    without = cells(BucketCount(MISSING, "", 9))
    assert compared(without, without, min_bucket_size=5).with_value == 0


def test_multi_valued_is_set_if_any_record_has_several_values() -> None:
    one, two = cells(BucketCount(VALUE, "a", 9)), cells(BucketCount(VALUE, "a", 9), several=2)
    assert [compared(*both).multi_valued for both in ((one, one), (two, one), (one, two))] == [False, True, True]
    assert compare(DIMENSIONS["tags"], one, one, 9, 9, 10, 0).multi_valued, "tags are a list always"


def test_quantiles_require_half_of_the_values_to_be_numbers() -> None:
    def of(numbers: int) -> DimensionCounts:
        found = BucketCount(VALUE, "a", 4), BucketCount(BucketKind.INVALID, "", 2), BucketCount(MISSING, "", 10)
        return DimensionCounts(found, 1, numbers, {50: Quantile(7.0, 3, 3)})

    both = compared(of(3), of(2))
    assert (both.quantiles, both.baseline_quantiles) == ({50: 7.0}, {})
    assert compared(of(3), of(3), min_bucket_size=4).quantiles == {}
