"""Expressions: an allow-list of pure ones, read with the paths of the record."""

from datetime import UTC, datetime
from typing import Any

import pytest

from audience_service.domain.core.errors import FilterTooLarge, InvalidFilter
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.filters.expressions import EXPRESSIONS

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
COMPILER = FilterCompiler(["contact"], clock=lambda: NOW)


def to_match(expression: Any) -> Any:
    match = COMPILER.compile(Filter("contact", {"$expr": expression, "state": "new"})).match
    return match["$and"][-1]["$expr"]


@pytest.mark.parametrize(
    ("expression", "document"),
    [
        ({"$gt": ["$score", 5]}, {"$gt": ["$data.score", 5]}),
        ({"$eq": ["$data.a.b", "$pk"]}, {"$eq": ["$data.a.b", "$pk"]}),
        ("$vip", {"$and": ["$data.vip"]}),
        (True, {"$and": [True]}),
        ({"$not": "$vip"}, {"$not": "$data.vip"}),
        ({"$lt": ["$at", "$$NOW"]}, {"$lt": ["$data.at", NOW]}),
        ({"$eq": ["$a", {"$literal": "$b"}]}, {"$eq": ["$data.a", {"$literal": "$b"}]}),
        ({"$month": "$at"}, {"$month": "$data.at"}),
        ({"$month": {"date": "$at", "timezone": "Europe/Paris"}},
         {"$month": {"date": "$data.at", "timezone": "Europe/Paris"}}),
        ({"$month": {"$toDate": "$at"}}, {"$month": {"$toDate": "$data.at"}}),
        ({"$switch": {"branches": [{"case": "$a", "then": 1}], "default": 0}},
         {"$switch": {"branches": [{"case": "$data.a", "then": 1}], "default": 0}}),
        ({"$regexMatch": {"input": "$a", "regex": "^$x", "options": "i"}},
         {"$regexMatch": {"input": "$data.a", "regex": {"$literal": "^$x"}, "options": "i"}}),
    ],
)  # fmt: skip
def test_paths_resolve_into_the_payload(expression: Any, document: Any) -> None:
    assert to_match(expression) == document


@pytest.mark.parametrize(
    ("expression", "field_path"),
    [
        ({"$function": {"body": "x", "args": [], "lang": "js"}}, "$function"),
        ({"$accumulator": {}}, "$accumulator"),
        ({"$rand": {}}, "$rand"),
        ({"$map": {"input": "$a", "in": "$$this"}}, "$map"),
        ({"$getField": 5}, "$getField"),
        ({"$getField": "$a\0"}, "$getField"),
        ({"$let": {"vars": {}, "in": 1}}, "$let"),
        ({"$range": [0, 1_000_000_000]}, "$range"),
        ({"$eq": ["$$ROOT", 1]}, "$eq[0]"),
        ({"$eq": ["$$CURRENT.a", 1]}, "$eq[0]"),
        ({"$eq": ["$$USER_ROLES", 1]}, "$eq[0]"),
        ({"$eq": ["$$NOW.x", 1]}, "$eq[0]"),
        ({"$eq": ["$", 1]}, "$eq[0]"),
        ({"$eq": ["$a..b", 1]}, "$eq[0]"),
        ({"$eq": ["$a.$b", 1]}, "$eq[0]"),
        ({"$eq": ["$data", 1]}, "$eq[0]"),
        ({"$eq": [1]}, "$eq"),
        ({"$eq": [1, 2, 3]}, "$eq"),
        ({"$eq": "$a"}, "$eq"),
        ({"$substrCP": ["$a", 0]}, "$substrCP"),
        ({"$cond": {"if": 1, "then": 2}}, "$cond"),
        ({"$cond": {"if": 1, "then": 2, "else": 3, "x": 4}}, "$cond.x"),
        ({"$switch": {"branches": []}}, "$switch"),
        ({"$switch": {"branches": [], "default": 1}}, "$switch.branches"),
        ({"$switch": {"branches": [{"case": 1}], "default": 1}}, "$switch.branches[0]"),
        ({"$regexMatch": {"input": "$a", "regex": "$b"}}, None),
        ({"$regexMatch": {"input": "$a", "regex": {"$concat": []}}}, "$regexMatch.regex"),
        ({"$regexMatch": {"input": "$a", "regex": "(a+)+"}}, "$regexMatch.regex"),
        ({"$regexMatch": {"input": "$a", "regex": "a", "options": "g"}}, "$regexMatch.options"),
        ({"$literal": {"$where": 1}}, "$literal.$where"),
        ({"$eq": [{"a": 1}, {"a": 1}]}, "$eq[0]"),
        ({"$gt": [1, 2], "$lt": [1, 2]}, ""),
        ({}, ""),
        ({"$and": [{"$where": "1"}]}, "$and[0].$where"),
        ([{"$where": "1"}], "[0].$where"),
    ],
)
def test_unlisted_operators_are_refused_with_their_field_path(expression: Any, field_path: str | None) -> None:
    if field_path is None:
        assert to_match(expression)["$regexMatch"]["regex"] == {"$literal": "$b"}
        return
    with pytest.raises(InvalidFilter) as caught:
        to_match(expression)
    expected = f"where_json.$expr{'' if field_path.startswith('[') or not field_path else '.'}{field_path}"
    assert caught.value.violations[0].field == expected


def test_expressions_are_limited_in_depth_and_number() -> None:
    deep: Any = 1
    for _ in range(40):
        deep = {"$not": deep}
    with pytest.raises(FilterTooLarge):
        to_match(deep)
    with pytest.raises(FilterTooLarge):
        to_match({"$concat": ["$a"] * 1_001})
    with pytest.raises(FilterTooLarge):
        to_match({"$concat": [{"$concat": ["$a"] * 40}] * 40})


def test_every_operator_accepts_its_form() -> None:
    for name, form in EXPRESSIONS.items():
        assert form.max_args or form.required, name
        assert str(form), name
