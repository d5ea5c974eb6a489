"""Expressions: an allow-list of pure ones, read with the paths of the record."""

from datetime import UTC, datetime
from typing import Any

import pytest

from audience_service.domain.errors import FilterTooLarge, InvalidFilter
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.filters.expressions import EXPRESSIONS

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
COMPILER = FilterCompiler(["contact"], clock=lambda: NOW)


def emitted(expression: Any) -> Any:
    match = COMPILER.compile(Filter("contact", {"$expr": expression, "state": "new"})).match
    return match["$and"][0]["$expr"]


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
def test_paths_lead_into_the_payload_and_all_else_stays(expression: Any, document: Any) -> None:
    assert emitted(expression) == document


@pytest.mark.parametrize(
    ("expression", "place"),
    [
        ({"$function": {"body": "x", "args": [], "lang": "js"}}, "$function"),
        ({"$accumulator": {}}, "$accumulator"),
        ({"$rand": {}}, "$rand"),
        ({"$map": {"input": "$a", "in": "$$this"}}, "$map"),
        ({"$getField": "a"}, "$getField"),
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
def test_what_is_not_on_the_list_is_refused_with_its_place(expression: Any, place: str | None) -> None:
    if place is None:
        assert emitted(expression)["$regexMatch"]["regex"] == {"$literal": "$b"}
        return
    with pytest.raises(InvalidFilter) as caught:
        emitted(expression)
    expected = f"where_json.$expr{'' if place.startswith('[') or not place else '.'}{place}"
    assert caught.value.violations[0].field == expected


def test_expressions_are_bounded_in_depth_and_in_number() -> None:
    deep: Any = 1
    for _ in range(40):
        deep = {"$not": deep}
    with pytest.raises(FilterTooLarge):
        emitted(deep)
    with pytest.raises(FilterTooLarge):
        emitted({"$concat": ["$a"] * 1_001})
    with pytest.raises(FilterTooLarge):
        emitted({"$concat": [{"$concat": ["$a"] * 40}] * 40})


def test_every_operator_takes_what_its_form_says() -> None:
    for name, form in EXPRESSIONS.items():
        assert form.most or form.needed, name
        assert str(form), name
