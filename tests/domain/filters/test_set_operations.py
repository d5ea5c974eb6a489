"""Filters made of filters."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from audience_service.domain.filters import CompiledFilter, Filter, FilterCompiler
from audience_service.domain.filters.compiler import NOT_ARCHIVED_MATCH
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.set_operations import difference, intersection, list_filter, union

COMPILER = FilterCompiler(["contact"])
US, OPEN = (COMPILER.compile(Filter("contact", {name: 1, "state": "new"})) for name in ("us", "open"))
NEW = {"state": {"$eq": "new"}}
LISTED, LEADS = (list_filter(MemberList("segment-a", datatype)) for datatype in ("contact", "lead"))


def test_an_intersection_has_every_condition_and_join() -> None:
    both = intersection(US, LISTED, OPEN)
    assert both.match == {"$and": [{"data.us": {"$eq": 1}}, NEW, NOT_ARCHIVED_MATCH, {"data.open": {"$eq": 1}}, NEW]}
    assert both.joins == LISTED.joins


def test_a_union_keeps_the_guard_of_each_filter() -> None:
    either = union(US, OPEN)
    assert either.match == {"$or": [US.match, OPEN.match]}
    assert either.joins is None


def test_a_union_with_a_list_is_one_join() -> None:
    either = union(US, LISTED)
    assert either.match == {}
    assert either.joins == either.node


def test_a_difference_tests_record_conditions_before_joins() -> None:
    left = difference(US, LISTED, OPEN)
    assert left.match == {"$and": [{"data.us": {"$eq": 1}}, NEW, {"$nor": [OPEN.match]}]}
    assert left.joins is not None
    assert difference(US).match == US.match


def test_combined_filters_inherit_has_expressions() -> None:
    risky = COMPILER.compile(Filter("contact", {"$expr": {"$gt": ["$data.a", 1]}}))
    for combined in (union(US, risky), intersection(US, risky), difference(US, risky)):
        assert combined.has_expressions
    assert not union(US, OPEN).has_expressions


def test_the_field_path_is_that_of_the_failing_filter() -> None:
    risky = [
        replace(
            COMPILER.compile(Filter("contact", {"$expr": {"$gt": ["$data.a", number]}})), field_path=f"ids[{number}]"
        )
        for number in range(2)
    ]
    assert union(US, risky[1], field_path="ids").field_path == "ids[1]"
    assert union(US, OPEN, field_path="ids").field_path == union(*risky, field_path="ids").field_path == "ids"
    base = replace(US, field_path="kept")
    assert difference(base, OPEN, risky[1]).field_path == "ids[1]"
    assert difference(base, OPEN).field_path == "kept"
    assert difference(risky[0], risky[1]).field_path == "ids[0]"


@pytest.mark.parametrize("combine", [union, intersection, difference])
def test_filters_of_different_datatypes_cannot_be_combined(combine: Callable[..., CompiledFilter]) -> None:
    with pytest.raises(ValueError, match="too many"):
        combine(US, LEADS)
