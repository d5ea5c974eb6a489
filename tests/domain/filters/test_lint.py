"""Warnings: what probably is not meant, and only what is certain where certainty is claimed."""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters import Filter, FilterCompiler, parse_text
from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.lint.field_index import FieldIndex, FieldProfiles
from audience_service.domain.filters.lint.lint import MAX_WARNINGS, RULES, Rule, lint_filter
from audience_service.domain.filters.lint.linted_filter import LintedFilter
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule
from tests.domain.filters.test_compiler import ANYTHING, NAMES
from tests.support.examples import examples
from tests.support.places import find_cities
from tests.support.strategies import filters

PAIRS = json.loads((Path(__file__).parent.parent.parent / "data" / "warnings.json").read_text())
NOW = datetime(2026, 4, 24, 12, tzinfo=UTC)
COMPILER = FilterCompiler(["contact"], ["order"], clock=lambda: NOW, find_cities=find_cities)


TODAY_THERE = {"$dateTrunc": {"date": "$$NOW", "unit": "day", "timezone": "$timezone"}}
"""The start of today in the timezone of each record."""

SAMPLED: list[dict[str, Any]] = [
    {"nonsense": 1},
    {"score": "42"},
    {"visits": 5},
    {"name": "x"},
    {"openedAt": {"$lte": "2026-01-01"}},
    {"openedAt": {"$gte": "soon"}},
    {"orders.total": 5, "orders.status": "paid"},
    {"orders": {"status": "paid"}},
    {"blank": {"$exists": True}},
    {"$expr": {"$gt": ["$orders.total", 100]}},
]
"""Filters about which the rules that need a sample warn, given FIELDS."""


def profile(path: str, date_texts: float = 0.0, **types: float) -> tuple[str, FieldProfile]:
    timed, numbers = types.pop("timed_dates", 0.0), types.pop("number_texts", 0.0)
    return path, FieldProfile(
        path, types, fill_rate=1.0, date_texts=date_texts, timed_dates=timed, number_texts=numbers
    )


FIELDS = dict(
    (
        profile("data.score", int=0.9, double=0.1, null=0.1),
        profile("data.firstName", string=1.0),
        profile("data.tags", array=1.0, string=1.0),
        profile("data.address", array=0.5, object=0.5),
        profile("data.address.city", string=1.0),
        profile("data.custom", object=1.0),
        profile("data.openedAt", date_texts=1.0, string=1.0, timed_dates=0.5),
        profile("data.visits", int=0.5, string=0.5, number_texts=0.5),
        profile("data.orders", array=1.0, object=1.0),
        profile("data.orders.total", int=1.0),
        profile("data.orders.status", string=1.0),
        profile("data.seenAt", date=1.0),
        profile("data.empty", null=1.0),
        ("data.blank", FieldProfile("data.blank", {"string": 1.0}, 1.0, empty_values=0.5)),
        profile("data.vip", bool=1.0),
        profile("data.name", string=1.0),
    )
)


def lint(where: Any, fields: Mapping[str, FieldProfile] | None = None) -> list[FilterWarning]:
    node = COMPILER.parse(Filter("contact", parse_text(json.dumps(where), "where_json", 10**6)))
    return lint_filter(node, NOW, fields, datatype="contact")


@pytest.mark.parametrize(("where", "expected"), PAIRS, ids=[json.dumps(where) for where, _ in PAIRS])
def test_warnings_name_the_field_path_and_rule(where: dict[str, Any], expected: list[list[str]]) -> None:
    assert [[warning.field_path, warning.reason] for warning in lint(where)] == expected


def test_filters_that_share_profiles_get_their_own_suggestions() -> None:
    """The index of the profiles is built once, and each filter has the complete number of suggestions."""
    profiles = FieldProfiles(FIELDS)
    where = {f"scor{n}": 1 for n in range(25)}
    first, second = lint(where, profiles), lint(where, profiles)
    assert first == second == lint(where, FIELDS)
    assert sum("did you mean score?" in warning.description for warning in second) == 20
    assert profiles.index is profiles.index


@pytest.mark.parametrize("rule", RULES, ids=[rule.find.__name__ for rule in RULES])
def test_each_rule_has_an_example_and_gives_only_its_reasons(rule: Rule) -> None:
    """Every row of RULES warns about some filter, with the reasons that the row names."""
    examples_of_rule = [*(where for where, _ in PAIRS), *SAMPLED]
    nodes = [COMPILER.parse(Filter("contact", parse_text(json.dumps(where), "x", 10**6))) for where in examples_of_rule]
    found = [
        warning.reason
        for node in nodes
        for warning in rule.find(LintedFilter(node, NOW, "contact", {"contact": FieldIndex(FIELDS)}))
    ]
    assert set(found) == set(rule.reasons)


@pytest.mark.parametrize(
    ("where", "description"),
    [
        (
            {"openedAt": {"$gte": "2026-03-25"}},
            "is 2026-03-25, 30 days ago, and does not move as time passes; for the last 30 days",
        ),
        (
            {"lastSeen": {"$lt": "2026-04-23T11:00:00Z"}},
            "is 2026-04-23 11:00 UTC, 1 day ago, and does not move as time passes; for dates more than 1 day ago",
        ),
    ],
)
def test_a_stale_date_warning_contains_the_relative_expression(where: dict[str, Any], description: str) -> None:
    [warning] = lint(where)
    received, _, written = warning.description.partition(" write ")
    assert received == description
    [(path, operators)] = where.items()
    assert lint({path: {name: json.loads(written) for name in operators}}) == []


@pytest.mark.parametrize(
    ("where", "field_path", "advice"),
    [
        ({"firstname": "Ann"}, "firstname", "firstname, which no sampled record has; did you mean firstName?"),
        ({"data.frstName": "Ann"}, '["data.frstName"]', "did you mean firstName?"),
        ({"adress.city": "Lyon"}, '["adress.city"]', "did you mean address.city?"),
        ({"address.ctiy": "Lyon"}, '["address.ctiy"]', "did you mean address.city?"),
        ({"address": {"$elemMatch": {"ctiy": "Lyon"}}}, "address.$elemMatch.ctiy", "did you mean address.city?"),
        ({"address": {"$not": {"$elemMatch": {"ctiy": 1}}}}, "address.$not.$elemMatch.ctiy", "mean address.city?"),
        ({"score.x": 1}, '["score.x"]', "reads score.x"),
        ({"nonsense": 1}, "nonsense", "reads nonsense, which no sampled record has"),
        ({"data.names": "x"}, '["data.names"]', "did you mean data.name?"),
        ({"$expr": {"$gt": ["$scores", 1]}}, "$expr", "did you mean score?"),
        ({"openedAt": {"$gte": TODAY_THERE}}, "openedAt.$gte", "reads timezone, which no sampled record has"),
        ({"$related": {"datatype": "order", "on": {"local": "emial", "foreign": "x"}}}, "$related.on.local", "emial"),
    ],
)  # fmt: skip
def test_a_field_without_values_is_unknown(where: dict[str, Any], field_path: str, advice: str) -> None:
    [warning] = lint(where, FIELDS)
    dot = "" if field_path.startswith("[") else "."
    assert (warning.field_path, warning.reason) == (f"where_json{dot}{field_path}", LintRule.UNKNOWN_FIELD)
    assert advice in warning.description


@pytest.mark.parametrize(
    "where",
    [
        {"score": 1, "pk": "x", "owner.id": "x", "state": "new", "createdate": "2020-01-01", "data.name": "x"},
        {"address.0.city": "Lyon", "address": {"$elemMatch": {"city": "Lyon"}}, "tags.0": "vip"},
        {"custom.anything.at.all": 1},
        {"address": {"$exists": True}},
        {"$related": {"datatype": "order", "on": {"local": "pk", "foreign": "x"}, "where": {"total": 1}}},
    ],
)
def test_fields_that_may_exist_are_known(where: dict[str, Any]) -> None:
    assert lint(where, FIELDS) == []


@pytest.mark.parametrize(
    ("where", "warned"),
    [
        ({"orders": {"status": "paid"}}, True),
        ({"orders": {"$in": [{"total": 5}]}}, True),
        ({"orders": {"$elemMatch": {"status": "paid"}}}, False),
        ({"orders": {"status": "paid", "total": 5}}, False),
        ({"custom": {"plan": "pro"}}, False),
    ],
)
def test_an_object_that_leaves_out_known_keys_is_reported(where: dict[str, Any], warned: bool) -> None:
    """MongoDB compares whole objects."""
    reasons = [(warning.reason, "compare orders." in warning.description) for warning in lint(where, FIELDS)]
    assert reasons == [(LintRule.WHOLE_OBJECT, True)] * warned


@pytest.mark.parametrize(
    ("where", "field_path", "description"),
    [
        ({"score": "42"}, "score", "compares with text, but score is a number in the sampled records"),
        ({"score": {"$gte": "x"}}, "score.$gte", "text, but score is a number"),
        ({"score": {"$in": ["1", True]}}, "score.$in", "text or true or false, but score is a number"),
        ({"score": {"$not": {"$eq": "42"}}}, "score.$not.$eq", "text, but score is a number"),
        ({"score": {"$ne": "42"}}, "score.$ne", "text, but score is a number"),
        ({"score": {"$elemMatch": {"$gt": 5}}}, "score.$elemMatch", "a list, but score is a number"),
        ({"score": {"$size": 5}}, "score.$size", "a list, but"),
        ({"vip": 1}, "vip", "a number, but vip is true or false"),
        ({"firstName": True}, "firstName", "true or false, but firstName is text"),
        ({"firstName": {"$mod": [2, 0]}}, "firstName.$mod", "a number, but firstName is text"),
        ({"firstName": {"$gte": "2020-01-01"}}, "firstName.$gte", "a date, but firstName is text"),
        ({"vip": {"$regex": "^a"}}, "vip.$regex", "text, but"),
        ({"vip": {"$bitsAllSet": 1}}, "vip.$bitsAllSet", "a number or binary data, but"),
        ({"tags": 5}, "tags", "a number, but tags is a list or text"),
        ({"address": {"$elemMatch": {"city": 5}}}, "address.$elemMatch.city", "a number, but address.city is text"),
        ({"openedAt": {"$gte": {"$date": "2020-01-01T00:00:00Z"}}}, "openedAt.$gte", "date as text, like 2026-03-25"),
        ({"seenAt": "soon"}, "seenAt", "text, but seenAt is a date"),
    ],
)  # fmt: skip
def test_a_type_that_never_occurs_is_reported(where: dict[str, Any], field_path: str, description: str) -> None:
    [warning] = lint(where, FIELDS)
    assert (warning.field_path, warning.reason) == (f"where_json.{field_path}", LintRule.TYPE_NEVER_OCCURS)
    assert description in warning.description


@pytest.mark.parametrize(
    "where",
    [
        {"score": {"$gte": 4.5, "$lt": {"$numberDecimal": "10"}}},
        {"score": None, "vip": {"$ne": None}, "seenAt": {"$in": [None, "x"]}},
        {"score": {"$in": ["42", 42]}},
        {"score": {"$exists": True, "$type": "string"}},
        {"tags": ["a"], "address": {"city": "Lyon"}},
        {"tags": {"$in": ["vip"]}, "address.city": {"$regex": "^L"}},
        {"openedAt": {"$gte": "2020-01-01"}, "seenAt": {"$lt": "2020-01-01"}},
        {"openedAt": "2020-01-01T10:00:00Z", "seenAt": {"$eq": {"$date": "2020-01-01T00:00:00Z"}}},
        {"firstName": "2020-01-01"},
        {"empty": 5},
        {"custom.x": 5},
    ],
)
def test_a_type_that_may_occur_has_no_warning(where: dict[str, Any]) -> None:
    assert lint(where, FIELDS) == []


def test_without_a_sample_no_field_warnings_exist() -> None:
    assert lint({"nonsense": 1, "score": "42"}, {}) == []


def test_warnings_are_limited_to_a_hundred_and_fast() -> None:
    fields = dict(profile(f"data.someRatherLongName{n}", int=1.0) for n in range(500))
    where: dict[str, Any] = {f"unknownField{n}": {"$in": []} for n in range(990)}
    started = time.thread_time()
    assert len(lint(where, fields)) == MAX_WARNINGS
    assert len(lint({"$or": [{"a": n, "b": {"$ne": n}} for n in range(300)]})) == 0
    assert time.thread_time() - started < 5


@examples(1_000)
@given(filters | st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=3))
def test_every_parsed_filter_can_be_linted(where: dict[str, Any]) -> None:
    try:
        node = COMPILER.parse(Filter("contact", where))
    except InvalidFilter:
        return
    for warning in lint_filter(node, NOW, FIELDS, datatype="contact"):
        assert warning.field_path.startswith("where_json.") or warning.field_path.startswith("where_json[")
        assert warning.description
