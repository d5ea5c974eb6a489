"""Filters in plain English: every operator says what it means, and a sentence reads one way only."""

import itertools
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.contact_list import ContactList
from audience_service.domain.errors import InvalidFilter
from audience_service.domain.filters import Filter, FilterCompiler, parse_text
from audience_service.domain.filters.expressions import EXPRESSIONS
from audience_service.domain.filters.nodes import And, Node, OnList
from audience_service.domain.filters.operators import LOGICAL, ON_RECORDS, OPERATORS
from audience_service.domain.filters.relative import EXPRESSIONS as RELATIVE
from audience_service.domain.filters.resolve import guarded
from audience_service.domain.filters.words.sentence import in_words
from tests.domain.filters.test_compile import ANYTHING, NAMES
from tests.examples import examples
from tests.strategies import filters

PAIRS = json.loads((Path(__file__).parent.parent.parent / "data" / "words.json").read_text())
COMPILER = FilterCompiler(["contact"], ["order"], clock=lambda: datetime(2026, 4, 24, 12, tzinfo=UTC))
AUDIENCES = {"segment-vip": "VIPs"}


def parsed(where: Any) -> Node:
    return COMPILER.parse(Filter("contact", parse_text(json.dumps(where), "where_json", 10**6)))


def words(where: Any) -> str:
    return in_words(parsed(where), AUDIENCES)


@pytest.mark.parametrize(("where", "said"), PAIRS, ids=[json.dumps(where) for where, _ in PAIRS])
def test_a_filter_says_in_words_what_it_means(where: dict[str, Any], said: str) -> None:
    assert words(where) == said


def test_every_operator_has_been_heard() -> None:
    written = json.dumps([where for where, _ in PAIRS])
    heard = set(re.findall(r'"(\$\w+)": ', written))
    named = {*OPERATORS, *LOGICAL, *ON_RECORDS, *EXPRESSIONS, *RELATIVE, "$not", "$elemMatch", "$options"}
    assert named - heard == set(), "these have no pair in words.json"


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


def holds(where: dict[str, Any], true: set[str]) -> bool:
    """Whether a tree holds where the letters in `true` are 1."""
    [(name, operand)] = where.items()
    if name in "abcd":
        return (name in true) is (operand == 1)
    met = [holds(inner, true) for inner in operand]
    return {"$and": all(met), "$or": any(met), "$nor": not any(met)}[name]


@given(TREES)
def test_a_sentence_reads_one_way_only(where: dict[str, Any]) -> None:
    read = words(where).replace("none of (", "not (").replace("(", "((").replace(")", "))").replace(";", ") or (")
    read = re.sub(r"([abcd]) is (not )?1", lambda said: f"({said[2] or ''}{said[1]})", read)
    for chosen in itertools.product((False, True), repeat=4):
        letters = dict(zip("abcd", chosen, strict=True))
        assert eval(read, {}, letters) is holds(where, {c for c, true in letters.items() if true}), read  # noqa: S307


def test_what_is_resolved_has_words_too() -> None:
    both = And((OnList(ContactList("segment-vip", "contact")), parsed({"a": 1})))
    assert in_words(guarded(both, both), AUDIENCES) == (
        "is on the list of the audience 'VIPs' and a is 1 and state is none of archived, deleted"
    )


def test_long_lists_and_long_values_are_cut_short() -> None:
    assert words({"a": {"$in": [f"v{n}" for n in range(10_000)]}}) == "a is one of v0, v1, v2 and 9,997 more"
    assert words({"a": "x" * 500}) == f"a is '{'x' * 80}...'"
    assert words({"a": {"b": [list(range(500))] * 50}}).endswith("...")
    assert words({"a": {"b": list(range(50))}}) == "a is {b: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 40 more]}"
    assert len(words({"a": {"$regex": "x" * 1_000}})) < 300


def test_what_is_past_ten_thousand_characters_is_counted() -> None:
    text = words({"$or": [{f"aRatherLongName{n}": {"$gte": n}} for n in range(490)]})
    shown = text.count(" or ") + 1
    assert 9_000 < len(text) < 11_000
    assert text.endswith(f" is at least {shown - 1} ... and {490 - shown} more conditions")


def test_what_is_left_out_inside_brackets_leaves_them_whole() -> None:
    element = {"$elemMatch": {"$or": [{"city": "x" * 70, "$nor": [{"zip": n}, {"b": 1, "c": 2}]} for n in range(60)]}}
    text = words({"$and": [{"address": element}, {"$nor": [{"e": {"$not": element}}, {"d": 1}]}]})
    assert text.count("(") == text.count(")")
    assert len(text) < 12_000
    [left_out] = re.findall(r"\.\.\. and (\d+) more conditions$", text)
    assert int(left_out) + text.count(" is ") == 2 * 60 * 4 + 1


def test_an_expression_is_cut_off() -> None:
    assert len(words({"$expr": {"$eq": [{"$add": ["$" + "a" * 240] * 90}, "x"]}})) < 2_100


@pytest.mark.parametrize("text", ["a\u202eb", "a\nb", "a' or b is 'c", "null", "True", "1", "2026", "", " ", "日 本"])
def test_text_that_could_pass_for_something_else_is_in_quotes(text: str) -> None:
    said = words({"a": text})
    assert said.startswith("a is '")
    assert said.endswith("'")
    assert said.isprintable()
    assert not re.search(r"(?<!\\)'", said[6:-1])


@examples(1_000)
@given(filters | st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=3))
def test_whatever_is_read_has_words(where: dict[str, Any]) -> None:
    try:
        node = COMPILER.parse(Filter("contact", where))
    except InvalidFilter:
        return
    text = in_words(node, {})
    assert text
    assert text.isprintable()
