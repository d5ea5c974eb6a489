"""The arithmetic of lookalikes: weights, dampings, curves."""

import itertools
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.contact_list import ContactList
from audience_service.domain.errors import InvalidArgument
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.lookalikes.curve import SHARES, auc, curve, recall, score_at, share_of, without
from audience_service.domain.lookalikes.damping import dampings, solve
from audience_service.domain.lookalikes.defining import defining
from audience_service.domain.lookalikes.fields import field_at, read_fields
from audience_service.domain.lookalikes.protected import PROTECTED, is_protected
from audience_service.domain.lookalikes.tally import FieldValues, SeedTally, Survey, ValueCount
from audience_service.domain.lookalikes.weights import FieldRatios, ratios

TODAY = datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC)
TALLIES = st.dictionaries(st.integers(-50, 50), st.integers(1, 9), min_size=1, max_size=20)


def told(counts: dict[str, tuple[int, int]], size: int, seed: int, *, several: bool = False) -> FieldRatios:
    """A field's ratios, by value how many of the org have it and how many of the seed, all of whom are learnt from."""
    values = tuple(ValueCount(value, count) for value, (count, _) in counts.items())
    found = FieldValues(field_at("data.city"), values, (), (), several, several)
    tally = SeedTally(seed, seed, ([(ours, ours) for _, ours in counts.values()],))
    return ratios(Survey(size, TODAY, (found,)), tally, 5)[0]


def test_a_weight_is_the_smoothed_logarithm_of_seen_by_expected() -> None:
    field = told({"Lima": (500, 300), "Oslo": (1_000, 100)}, 1_500, 400)
    by_label = {ratio.label: ratio for ratio in field.ratios}
    assert by_label["Lima"].log == pytest.approx(math.log(305 / (400 * 200 / 1_100 + 5)))
    assert by_label["Oslo"].log == pytest.approx(math.log(105 / (400 * 900 / 1_100 + 5)))
    assert by_label["Oslo"].log < 0 < by_label["Lima"].log


def test_values_of_few_are_told_together_with_what_would_give_them_away() -> None:
    field = told({"Lima": (500, 300), "Oslo": (900, 90), "Rome": (100, 3)}, 1_500, 393)
    assert [ratio.label for ratio in field.ratios] == ["Lima"]
    assert field.other
    assert (field.other.seed_count, field.other.baseline_count) == (93, 907)


def test_where_others_are_few_no_value_tells_how_few() -> None:
    field = told({"Lima": (1_000, 300)}, 1_003, 301)
    assert field.ratios == ()
    assert field.other
    assert (field.other.seed_count, field.other.baseline_count) == (301, 702)


def test_of_several_values_the_others_are_not_told() -> None:
    assert told({"Lima": (500, 300)}, 1_000, 400, several=True).other is None


def test_a_field_counts_whole_where_it_stands_alone_and_once_where_it_stands_twice() -> None:
    [alone] = dampings([[0.5]], [0.4], 0.1)
    twice = dampings([[0.5, 0.5], [0.5, 0.5]], [0.4, 0.4], 0.1)
    assert alone == pytest.approx(0.4 / 0.505 / (1 - 0.09 * 0.4 * 0.4 / 0.505), abs=0.001)
    assert sum(twice) == pytest.approx(alone, abs=0.01)
    assert twice[0] == twice[1]


def test_a_field_that_others_make_up_for_or_that_never_varies_counts_nothing() -> None:
    [alone] = dampings([[1.0]], [0.5], 0.1)
    assert dampings([[1.0, 0.95], [0.95, 1.0]], [0.5, 0.2], 0.1) == (alone, 0)
    assert dampings([[1.0, 0.0], [0.0, 0.0]], [0.5, 0.0], 0.1)[1] == 0
    assert dampings([[0.0]], [0.0], 0.5) == (0.0,)


def test_no_field_counts_more_than_whole() -> None:
    assert dampings([[0.1]], [0.5], 0.1) == (1.0,)


@given(st.lists(st.lists(st.integers(-9, 9), min_size=4, max_size=4), min_size=4, max_size=4), st.data())
def test_systems_are_solved(rows: list[list[int]], data: st.DataObject) -> None:
    matrix = [[value + (60 if i == j else 0) for j, value in enumerate(row)] for i, row in enumerate(rows)]
    wanted = data.draw(st.lists(st.integers(-9, 9), min_size=4, max_size=4))
    found = solve(matrix, wanted)
    for row, value in zip(matrix, wanted, strict=True):
        assert sum(a * b for a, b in zip(row, found, strict=True)) == pytest.approx(value, abs=1e-9)


@given(TALLIES, TALLIES, st.integers(0, 99))
def test_the_curve_falls_and_ends_with_everybody(candidates: dict[int, int], held: dict[int, int], others: int) -> None:
    everyone = sum(candidates.values()) + others
    points = curve(candidates, everyone, held, -50, 50)
    assert [point.share for point in points] == list(SHARES)
    assert points[-1].count == sum(candidates.values())
    assert points[-1].lowest_score == min(candidates)
    for before, after in itertools.pairwise(points):
        assert before.count <= after.count
        assert before.lowest_score >= after.lowest_score
        assert before.recall <= after.recall
    for point in points:
        assert point.count == min(share_of(everyone, point.share), sum(candidates.values()))
        ranked = sorted((score for score, count in candidates.items() for _ in range(count)), reverse=True)
        assert point.lowest_score == ranked[point.count - 1] == score_at(candidates, point.count)
        found = sum(count for score, count in held.items() if score >= point.lowest_score)
        assert point.recall == recall(held, point.lowest_score) == pytest.approx(found / sum(held.values()))


@given(TALLIES, TALLIES)
def test_auc_counts_pairs_and_ties_half(held: dict[int, int], baseline: dict[int, int]) -> None:
    found = auc(held, baseline)
    ours, theirs = ([s for s, n in tally.items() for _ in range(n)] for tally in (held, baseline))
    if len(ours) < 20:
        assert found is None
        return
    better = sum((a > b) + (a == b) / 2 for a in ours for b in theirs)
    assert found == pytest.approx(better / len(ours) / len(theirs))


def test_shares_are_rounded_down_as_they_are_written() -> None:
    assert [share_of(100, 0.29), share_of(1, 0.01), share_of(0, 0.5), share_of(1_999, 0.5)] == [29, 1, 0, 999]


def test_scores_of_some_among_others_are_taken_off_them() -> None:
    assert without({1: 5, 2: 1, 3: 2}, {1: 2, 2: 1, 4: 1}) == {1: 3, 3: 2}


@pytest.mark.parametrize(
    "path",
    [
        "data.sex", "data.Date_Of_Birth", "data.profile.religion", "data.tradeUnion", "data.dob", "data.customerGender",
        "data.GENDER", "data.preferred-languages", "data.hasDisabilities", "data.numberOfChildren.count", "data.Age",
    ],
)  # fmt: skip
def test_protected_fields_are_known_by_their_names_and_words_in_them(path: str) -> None:
    assert is_protected(path)


@pytest.mark.parametrize(
    "path",
    ["data.jobTitle", "data.accountAge", "data.raceDay", "data.creditUnion", "data.healthScore", "data.slang", "state"],
)
def test_words_that_mean_something_else_in_most_names_are_not_protected(path: str) -> None:
    assert not is_protected(path)


@pytest.mark.parametrize("path", ["children.firstName", "children.email", "birthName", "birthStreet", "sex.workPhone"])
def test_what_names_or_reaches_people_is_refused_inside_a_protected_field_too(path: str) -> None:
    with pytest.raises(InvalidArgument):
        read_fields([path], [])


def test_a_field_is_left_out_by_any_of_its_places() -> None:
    left = {field.path for field in read_fields([], ["leadScore", "address", "company.name", "createdate"])}
    gone = {f"data.{name}" for name in ("score", "country", "region", "city", "company", "createdAt")}
    assert left == {field.path for field in read_fields([], [])} - gone


@pytest.mark.parametrize(
    ("where", "fields"),
    [
        ({"tags": "vip"}, ["data.tags"]),
        ({"$nor": [{"$or": [{"tags.0": "vip"}, {"leadScore": 5}]}]}, ["data.tags", "data.score"]),
        ({"address": {"$elemMatch": {"city": "Lima"}}}, ["data.city"]),
        ({"$expr": {"$gt": ["$createdate", "$data.birthday"]}}, ["data.createdAt"]),
        ({"company.name": "ACME"}, ["data.company"]),
        ({"address": {"$exists": True}}, ["data.country", "data.region", "data.city"]),
        ({"cityOfBirth": "Lima", "pk": "contact-1"}, []),
        ({"$inAudience": "segment-1"}, ["data.source"]),
    ],
)
def test_fields_that_a_sources_filter_asks_about_define_it(where: dict[str, Any], fields: list[str]) -> None:
    inside = Filter("contact", {"source": "fair"})
    source = FilterCompiler(["contact"]).compile(Filter("contact", where), lambda _: inside)
    found = {field.path for field in defining(read_fields([], []), source)}
    assert found == set(fields)


def test_what_a_list_was_made_by_is_not_known() -> None:
    assert defining(read_fields([], []), ContactList("segment-1", "contact")) == ()


def test_no_default_field_is_protected_and_protected_names_are_as_they_are_looked_up() -> None:
    assert not any(is_protected(path) for field in read_fields([], []) for path in field.paths)
    assert all(is_protected(f"data.{name}") for name in PROTECTED)


def test_fields_are_read_once_each_in_the_order_named() -> None:
    named = read_fields(["tags", "data.tags", "address.city", "birthday"], ["address.city"])
    assert [field.path for field in named] == ["data.tags", "data.birthday"]
