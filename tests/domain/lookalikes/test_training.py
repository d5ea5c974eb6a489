"""The arithmetic of lookalikes: weights, dampings, curves."""

import itertools
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.lookalikes.counts import FeatureStats, FeatureValues, SeedCounts, ValueCount
from audience_service.domain.lookalikes.curve import SHARES, auc, curve, recall, score_at, share_of, subtract
from audience_service.domain.lookalikes.decorrelation import decorrelation_weights, solve
from audience_service.domain.lookalikes.features import feature_at, parse_features
from audience_service.domain.lookalikes.label_leakage import leaking_fields
from audience_service.domain.lookalikes.protected_fields import PROTECTED, is_protected
from audience_service.domain.lookalikes.weights import FeatureRatios, ratios

TODAY = datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC)
HISTOGRAMS = st.dictionaries(st.integers(-50, 50), st.integers(1, 9), min_size=1, max_size=20)


def feature_ratios(
    counts: dict[str, tuple[int, int]], size: int, seed: int, *, multi_valued: bool = False
) -> FeatureRatios:
    """A field's ratios, by value how many of the org have it and how many of the seed, all of whom are learnt from."""
    values = tuple(ValueCount(value, count) for value, (count, _) in counts.items())
    found = FeatureValues(feature_at("data.city"), values, (), (), multi_valued, multi_valued)
    seed_counts = SeedCounts(seed, seed, ([(ours, ours) for _, ours in counts.values()],))
    return ratios(FeatureStats(size, TODAY, (found,)), seed_counts, 5)[0]


def test_a_weight_is_the_smoothed_logarithm_of_seen_by_expected() -> None:
    field = feature_ratios({"Lima": (500, 300), "Oslo": (1_000, 100)}, 1_500, 400)
    by_label = {ratio.label: ratio for ratio in field.ratios}
    assert by_label["Lima"].log == pytest.approx(math.log(305 / (400 * 200 / 1_100 + 5)))
    assert by_label["Oslo"].log == pytest.approx(math.log(105 / (400 * 900 / 1_100 + 5)))
    assert by_label["Oslo"].log < 0 < by_label["Lima"].log


def test_rare_values_are_merged_with_their_complements() -> None:
    field = feature_ratios({"Lima": (500, 300), "Oslo": (900, 90), "Rome": (100, 3)}, 1_500, 393)
    assert [ratio.label for ratio in field.ratios] == ["Lima"]
    assert field.other
    assert (field.other.seed_count, field.other.baseline_count) == (93, 907)


def test_a_small_remainder_cannot_be_inferred() -> None:
    field = feature_ratios({"Lima": (1_000, 300)}, 1_003, 301)
    assert field.ratios == ()
    assert field.other
    assert (field.other.seed_count, field.other.baseline_count) == (301, 702)


def test_multi_valued_features_have_no_other_bucket() -> None:
    assert feature_ratios({"Lima": (500, 300)}, 1_000, 400, multi_valued=True).other is None


def test_duplicate_features_share_one_weight() -> None:
    [alone] = decorrelation_weights([[0.5]], [0.4], 0.1)
    twice = decorrelation_weights([[0.5, 0.5], [0.5, 0.5]], [0.4, 0.4], 0.1)
    assert alone == pytest.approx(0.4 / 0.505 / (1 - 0.09 * 0.4 * 0.4 / 0.505), abs=0.001)
    assert sum(twice) == pytest.approx(alone, abs=0.01)
    assert twice[0] == twice[1]


def test_redundant_or_constant_features_weigh_nothing() -> None:
    [alone] = decorrelation_weights([[1.0]], [0.5], 0.1)
    assert decorrelation_weights([[1.0, 0.95], [0.95, 1.0]], [0.5, 0.2], 0.1) == (alone, 0)
    assert decorrelation_weights([[1.0, 0.0], [0.0, 0.0]], [0.5, 0.0], 0.1)[1] == 0
    assert decorrelation_weights([[0.0]], [0.0], 0.5) == (0.0,)


def test_no_decorrelation_weight_exceeds_1() -> None:
    assert decorrelation_weights([[0.1]], [0.5], 0.1) == (1.0,)


@given(st.lists(st.lists(st.integers(-9, 9), min_size=4, max_size=4), min_size=4, max_size=4), st.data())
def test_systems_are_solved(rows: list[list[int]], data: st.DataObject) -> None:
    matrix = [[value + (60 if i == j else 0) for j, value in enumerate(row)] for i, row in enumerate(rows)]
    expected = data.draw(st.lists(st.integers(-9, 9), min_size=4, max_size=4))
    found = solve(matrix, expected)
    for row, value in zip(matrix, expected, strict=True):
        assert sum(a * b for a, b in zip(row, found, strict=True)) == pytest.approx(value, abs=1e-9)


@given(HISTOGRAMS, HISTOGRAMS, st.integers(0, 99))
def test_the_curve_falls_and_ends_with_all_records(
    candidates: dict[int, int], holdout: dict[int, int], others: int
) -> None:
    total = sum(candidates.values()) + others
    points = curve(candidates, total, holdout, -50, 50)
    assert [point.share for point in points] == list(SHARES)
    assert points[-1].count == sum(candidates.values())
    assert points[-1].min_score == min(candidates)
    for before, after in itertools.pairwise(points):
        assert before.count <= after.count
        assert before.min_score >= after.min_score
        assert before.recall <= after.recall
    for point in points:
        assert point.count == min(share_of(total, point.share), sum(candidates.values()))
        ranked = sorted((score for score, count in candidates.items() for _ in range(count)), reverse=True)
        assert point.min_score == ranked[point.count - 1] == score_at(candidates, point.count)
        found = sum(count for score, count in holdout.items() if score >= point.min_score)
        assert point.recall == recall(holdout, point.min_score) == pytest.approx(found / sum(holdout.values()))


@given(HISTOGRAMS, HISTOGRAMS)
def test_auc_counts_pairs_and_ties_half(holdout: dict[int, int], baseline: dict[int, int]) -> None:
    found = auc(holdout, baseline)
    ours, theirs = ([s for s, n in histogram.items() for _ in range(n)] for histogram in (holdout, baseline))
    if len(ours) < 20:
        assert found is None
        return
    better = sum((a > b) + (a == b) / 2 for a in ours for b in theirs)
    assert found == pytest.approx(better / len(ours) / len(theirs))


def test_shares_are_rounded_down_as_they_are_written() -> None:
    assert [share_of(100, 0.29), share_of(1, 0.01), share_of(0, 0.5), share_of(1_999, 0.5)] == [29, 1, 0, 999]


def test_scores_of_some_among_others_are_taken_off_them() -> None:
    assert subtract({1: 5, 2: 1, 3: 2}, {1: 2, 2: 1, 4: 1}) == {1: 3, 3: 2}


@pytest.mark.parametrize(
    "path",
    [
        "data.sex", "data.Date_Of_Birth", "data.profile.religion", "data.tradeUnion", "data.dob", "data.customerGender",
        "data.GENDER", "data.preferred-languages", "data.hasDisabilities", "data.numberOfChildren.count", "data.Age",
    ],
)  # fmt: skip
def test_protected_fields_are_recognised_by_name_and_words(path: str) -> None:
    assert is_protected(path)


@pytest.mark.parametrize(
    "path",
    ["data.jobTitle", "data.accountAge", "data.raceDay", "data.creditUnion", "data.healthScore", "data.slang", "state"],
)
def test_ambiguous_words_are_protected_only_as_complete_names(path: str) -> None:
    assert not is_protected(path)


@pytest.mark.parametrize("path", ["children.firstName", "children.email", "birthName", "birthStreet", "sex.workPhone"])
def test_personal_data_inside_a_protected_field_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_features([path], [])


def test_a_feature_is_excluded_by_any_of_its_paths() -> None:
    left = {field.path for field in parse_features([], ["leadScore", "address", "company.name", "createdate"])}
    excluded = {f"data.{name}" for name in ("score", "country", "region", "city", "company", "createdAt")}
    assert left == {field.path for field in parse_features([], [])} - excluded


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
def test_fields_of_the_source_filter_are_leaking(where: dict[str, Any], fields: list[str]) -> None:
    inside = Filter("contact", {"source": "fair"})
    source = FilterCompiler(["contact"]).compile(Filter("contact", where), lambda _: inside)
    found = {field.path for field in leaking_fields(parse_features([], []), source)}
    assert found == set(fields)


def test_a_list_has_no_leaking_fields() -> None:
    assert leaking_fields(parse_features([], []), MemberList("segment-1", "contact")) == ()


def test_no_default_feature_is_protected_and_names_are_normalised() -> None:
    assert not any(is_protected(path) for field in parse_features([], []) for path in field.paths)
    assert all(is_protected(f"data.{name}") for name in PROTECTED)


def test_fields_are_read_once_each_in_the_order_named() -> None:
    named = parse_features(["tags", "data.tags", "address.city", "birthday"], ["address.city"])
    assert [field.path for field in named] == ["data.tags", "data.birthday"]
