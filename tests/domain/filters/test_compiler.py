"""The compiler: any input gives a correct stage or an error with a field path."""

import copy
import math
import re
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.core.errors import AudienceNotFound, FilterTooLarge, InvalidFilter
from audience_service.domain.filters import Filter, FilterCompiler, parse_text, print_text
from audience_service.domain.filters.compiler import NOT_ARCHIVED_MATCH
from audience_service.domain.filters.dates import compare_conditions
from audience_service.domain.filters.operators import OPERATORS
from tests.support.examples import examples
from tests.support.places import find_cities

COMPILER = FilterCompiler(["contact"])
NAMES = [*OPERATORS, "$not", "$elemMatch", "$and", "$or", "$nor", "$options", "$where", "$expr", "$related",
         "$inAudience", "$x", "$", "a", "b.c",
         "data.d", "state", "sk", "", "a..b", "$a.b", "data"]  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["2026-03-25", "2026-03-25T00:00:00Z", "2026-02-30", "(", "imsx", "string", "date"])
    | st.datetimes(timezones=st.just(UTC))
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=20,
)


def compile_where(where: Any) -> Any:
    return COMPILER.compile(Filter("contact", where)).match


def compile_unguarded(where: Any) -> Any:
    """The match of a single condition, without the active guard."""
    [match, guard] = compile_where(where)["$and"]
    assert guard == NOT_ARCHIVED_MATCH
    return match


def test_equal_filters_are_compiled_once() -> None:
    """Filters that differ in the order of keys, in a type, or in exactness are others."""
    compiler = FilterCompiler(["contact", "lead"])
    wheres: list[dict[str, Any]] = [{"a": 1, "b": 1}, {"b": 1, "a": 1}, {"a": 1, "b": True}, {"a": 1, "b": 1.0}]
    kinds = [("contact", True), ("contact", False), ("lead", True), ("lead", False)]
    written = [Filter(datatype, where, exact) for datatype, exact in kinds for where in wheres]
    compiled = [compiler.compile(each) for each in written]
    assert all(compiler.compile(each) is found for each, found in zip(copy.deepcopy(written), compiled, strict=True))
    assert len({id(found) for found in compiled}) == len(written)


def test_what_depends_on_time_or_audiences_is_compiled_again() -> None:
    """Relative dates are those of each call, and an audience may have another filter by then."""
    compiler = FilterCompiler(["contact"])
    later = {"at": {"$gte": {"$dateAdd": {"startDate": "$$NOW", "unit": "day", "amount": 1}}}}
    at = [compiler.at(datetime(2026, 1, day, tzinfo=UTC)).compile(Filter("contact", later)).match for day in (1, 2)]
    assert "datetime(2026, 1, 2," in str(at[0])
    assert "datetime(2026, 1, 3," in str(at[1])
    definitions = iter((Filter("contact", {"n": 1}), Filter("contact", {"n": 2})))
    referring = Filter("contact", {"$inAudience": "segment-a"})
    first, second = (compiler.compile(referring, lambda _: next(definitions)) for _ in range(2))
    assert first.match != second.match


@examples(2_000)
@given(st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=3))
def test_any_filter_compiles_or_is_refused_with_a_field_path(where: dict[str, Any]) -> None:
    before = copy.deepcopy(where)
    for exact in (True, False):
        try:
            match = COMPILER.compile(Filter("contact", where, exact)).match
        except (InvalidFilter, AudienceNotFound) as error:
            assert error.violations[0].field.startswith("where")
            assert error.violations[0].description
        else:
            bson.encode(match)
            assert "$where" not in str(match)
    assert repr(where) == repr(before), "the caller's filter was changed"


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        parse_text(text, "where_json", 1_000)
    except InvalidFilter as error:
        assert error.violations[0].field == "where_json"


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), LEAVES.filter(lambda v: not isinstance(v, int))))
def test_printed_text_parses_to_the_same_values(where: dict[str, Any]) -> None:
    stored: dict[str, Any] = bson.decode(bson.encode(where), bson.CodecOptions(tz_aware=True))
    assert repr(parse_text(print_text(stored), "where_json", 10**6)) == repr(stored)


@pytest.mark.parametrize(
    ("where", "match"),
    [
        ({}, NOT_ARCHIVED_MATCH),
        ({"state": "archived"}, {"state": {"$eq": "archived"}}),
        ({"a": 1}, {"$and": [{"data.a": {"$eq": 1}}, NOT_ARCHIVED_MATCH]}),
        ({"data.a": 1, "name": "x", "state": "new"},
         {"$and": [{"data.a": {"$eq": 1}}, {"name": {"$eq": "x"}}, {"state": {"$eq": "new"}}]}),
        ({"state": {"$exists": True}, "owner.id": 1},
         {"$and": [{"state": {"$exists": True}}, {"owner.id": {"$eq": 1}}, NOT_ARCHIVED_MATCH]}),
        ({"state": {"$not": {"$regex": "^d", "$options": "i"}}},
         {"$and": [{"$nor": [{"state": {"$regex": "^d", "$options": "i"}}]}, NOT_ARCHIVED_MATCH]}),
        ({"state": {"$ne": 1}, "a": {"$elemMatch": {"b": 1, "$or": [{"c": 2}]}}},
         {"$and": [{"state": {"$ne": 1}},
                   {"data.a": {"$elemMatch": {"$and": [{"b": {"$eq": 1}}, {"$or": [{"c": {"$eq": 2}}]}]}}},
                   NOT_ARCHIVED_MATCH]}),
    ],
)  # fmt: skip
def test_filters_compile_to_the_expected_match(where: dict[str, Any], match: dict[str, Any]) -> None:
    assert compile_where(where) == match


def test_an_iso_date_matches_every_spelling() -> None:
    timestamp = datetime(2026, 3, 25, tzinfo=UTC)
    assert compile_unguarded({"a": "2026-03-25"}) == {
        "data.a": {"$in": [timestamp, "2026-03-25T00:00:00.000Z", "2026-03-25T00:00:00Z", "2026-03-25"]}
    }
    assert compile_unguarded({"a": {"$gte": "2026-03-25T00:00:00Z"}}) == {
        "$or": [{"data.a": condition} for condition in compare_conditions("$gte", "2026-03-25")]
    }


@pytest.mark.parametrize(
    "text", ["2026-13-01", "2026-3-1", "20260325", "2026-03-25T25:00Z", "2026-03-25 10:00", "0000-01-01"]
)
def test_text_that_is_no_iso_date_stays_text(text: str) -> None:
    assert compile_unguarded({"a": text}) == {"data.a": {"$eq": text}}


def test_text_with_a_line_break_after_a_date_is_no_date() -> None:
    pattern = compare_conditions("$gte", "2026-03-25")[1]["$regex"]
    assert re.search(pattern, "2026-03-26")
    assert not re.search(pattern, "2026-03-26\n")


def test_the_total_pattern_length_of_a_filter_is_limited() -> None:
    patterns = [{"a": {"$regex": "x" * 999}} for _ in range(21)]
    assert compile_where({"$or": patterns[:20]})
    with pytest.raises(FilterTooLarge) as caught:
        compile_where({"$or": patterns})
    assert caught.value.violations[0].field == "where_json.$or[20].a.$regex"


def test_the_number_of_points_of_a_filter_is_limited() -> None:
    """The edges of each shape are compared with each other."""
    circle = [[10 * math.cos(n / 450 * math.pi), 10 * math.sin(n / 450 * math.pi)] for n in range(900)]
    shape = {"a": {"$geoWithin": {"$geometry": {"type": "Polygon", "coordinates": [[*circle, circle[0]]]}}}}
    assert compile_where({"$or": [shape] * 2})
    with pytest.raises(FilterTooLarge) as caught:
        compile_where({"$or": [shape] * 3})
    assert caught.value.violations[0].field == "where_json.$or[2].a.$geoWithin.$geometry.coordinates"


def test_a_filter_with_cities_is_not_cached() -> None:
    """It names a city in 90 bytes, and has the names of hundreds around it."""
    compiler = FilterCompiler(["contact"], find_cities=find_cities)
    plain, near = ({"city": "Rome"}, {"city": {"$nearCity": {"id": "city-2867714", "kilometers": 25}}})
    for where, is_cached in ((plain, True), (near, False)):
        written = Filter("contact", where)
        assert (compiler.parse(written) is compiler.parse(written)) == is_cached


def test_nested_audiences_stay_within_the_command_depth() -> None:
    nested = {n: Filter("contact", _around({"$inAudience": str(int(n) + 1)})) for n in "012"}
    nested["3"] = Filter("contact", _around({"a": 1}))
    assert COMPILER.compile(nested["2"], nested.__getitem__).match
    with pytest.raises(FilterTooLarge):
        COMPILER.compile(nested["0"], nested.__getitem__)


def _around(inner: dict[str, Any]) -> dict[str, Any]:
    for _ in range(30):
        inner = {"$nor": [inner]}
    return inner
