"""Filters in plain English: every operator has a description, and every sentence is unambiguous."""

import itertools
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters import Filter, FilterCompiler, parse_text
from audience_service.domain.filters.ast import And, Node, OnList
from audience_service.domain.filters.audience_inlining import with_active_guard
from audience_service.domain.filters.describe.sentence import describe
from audience_service.domain.filters.expressions import EXPRESSIONS
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.operators import LOGICAL, OPERATORS, RECORD_OPERATORS
from audience_service.domain.filters.relative_dates import EXPRESSIONS as RELATIVE
from tests.domain.filters.test_compiler import ANYTHING, NAMES
from tests.support.examples import examples
from tests.support.places import find_cities
from tests.support.strategies import filters

PAIRS = json.loads((Path(__file__).parent.parent.parent / "data" / "descriptions.json").read_text())
NOW = datetime(2026, 4, 24, 12, tzinfo=UTC)
COMPILER = FilterCompiler(["contact"], ["order"], clock=lambda: NOW, find_cities=find_cities)
AUDIENCES = {"segment-vip": "VIPs"}


def parsed(where: Any) -> Node:
    return COMPILER.parse(Filter("contact", parse_text(json.dumps(where), "where_json", 10**6)))


def describe_where(where: Any) -> str:
    return describe(parsed(where), AUDIENCES)


@pytest.mark.parametrize(("where", "expected"), PAIRS, ids=[json.dumps(where) for where, _ in PAIRS])
def test_a_filter_has_the_expected_description(where: dict[str, Any], expected: str) -> None:
    assert describe_where(where) == expected


def test_every_operator_has_a_description() -> None:
    written = json.dumps([where for where, _ in PAIRS])
    seen = set(re.findall(r'"(\$\w+)": ', written))
    named = {*OPERATORS, *LOGICAL, *RECORD_OPERATORS, *EXPRESSIONS, *RELATIVE, "$not", "$elemMatch", "$options"}
    assert named - seen == set(), "these have no pair in descriptions.json"


LETTERS = st.sampled_from("abcd")
TREES = st.recursive(
    LETTERS.map(lambda letter: {letter: 1})
    | LETTERS.map(lambda letter: {letter: {"$ne": 1}})
    | LETTERS.map(lambda letter: {letter: {"$not": {"$eq": 1}}}),
    lambda inner: st.builds(
        lambda name, of: {name: of}, st.sampled_from(LOGICAL), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=12,
)


def evaluate(where: dict[str, Any], true: set[str]) -> bool:
    """Whether a tree holds where the letters in `true` are 1."""
    [(name, operand)] = where.items()
    if name in "abcd":
        return (name in true) is (operand == 1)
    met = [evaluate(inner, true) for inner in operand]
    return {"$and": all(met), "$or": any(met), "$nor": not any(met)}[name]


@given(TREES)
def test_a_description_is_unambiguous(where: dict[str, Any]) -> None:
    read = (
        describe_where(where).replace("none of (", "not (").replace("(", "((").replace(")", "))").replace(";", ") or (")
    )
    read = re.sub(r"([abcd]) is (not )?1", lambda match: f"({match[2] or ''}{match[1]})", read)
    for chosen in itertools.product((False, True), repeat=4):
        letters = dict(zip("abcd", chosen, strict=True))
        assert eval(read, {}, letters) is evaluate(where, {c for c, true in letters.items() if true}), read  # noqa: S307


def test_a_resolved_node_has_a_description() -> None:
    both = And((OnList(MemberList("segment-vip", "contact")), parsed({"a": 1})))
    assert describe(with_active_guard(both, both), AUDIENCES) == (
        "is on the list of the audience 'VIPs' and a is 1 and state is none of archived, deleted"
    )


def test_long_lists_and_values_are_truncated() -> None:
    assert describe_where({"a": {"$in": [f"v{n}" for n in range(10_000)]}}) == "a is one of v0, v1, v2 and 9,997 more"
    assert describe_where({"a": "x" * 500}) == f"a is '{'x' * 80}...'"
    assert describe_where({"a": {"b": [list(range(500))] * 50}}).endswith("...")
    assert describe_where({"a": {"b": list(range(50))}}) == "a is {b: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 40 more]}"
    assert len(describe_where({"a": {"$regex": "x" * 1_000}})) < 300


def test_conditions_beyond_ten_thousand_characters_are_counted() -> None:
    text = describe_where({"$or": [{f"aRatherLongName{n}": {"$gte": n}} for n in range(490)]})
    shown = text.count(" or ") + 1
    assert 9_000 < len(text) < 11_000
    assert text.endswith(f" is at least {shown - 1} ... and {490 - shown} more conditions")


def test_omitted_conditions_keep_brackets_balanced() -> None:
    element = {"$elemMatch": {"$or": [{"city": "x" * 70, "$nor": [{"zip": n}, {"b": 1, "c": 2}]} for n in range(60)]}}
    text = describe_where({"$and": [{"address": element}, {"$nor": [{"e": {"$not": element}}, {"d": 1}]}]})
    assert text.count("(") == text.count(")")
    assert len(text) < 12_000
    [left_out] = re.findall(r"\.\.\. and (\d+) more conditions$", text)
    assert int(left_out) + text.count(" is ") == 2 * 60 * 4 + 1


def test_a_long_expression_is_truncated() -> None:
    assert len(describe_where({"$expr": {"$eq": [{"$add": ["$" + "a" * 240] * 90}, "x"]}})) < 2_100


@pytest.mark.parametrize("text", ["a\u202eb", "a\nb", "a' or b is 'c", "null", "True", "1", "2026", "", " ", "日 本"])
def test_ambiguous_text_is_quoted(text: str) -> None:
    description = describe_where({"a": text})
    assert description.startswith("a is '")
    assert description.endswith("'")
    assert description.isprintable()
    assert not re.search(r"(?<!\\)'", description[6:-1])


@examples(1_000)
@given(filters | st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=3))
def test_every_parsed_filter_has_a_description(where: dict[str, Any]) -> None:
    try:
        node = COMPILER.parse(Filter("contact", where))
    except InvalidFilter:
        return
    text = describe(node, {})
    assert text
    assert text.isprintable()
