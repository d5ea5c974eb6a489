"""Filters made of filters."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from audience_service.domain.contact_list import ContactList
from audience_service.domain.filters import CompiledFilter, Filter, FilterCompiler
from audience_service.domain.filters.compile import LIVING
from audience_service.domain.filters.sets import difference, intersection, of_list, union

COMPILER = FilterCompiler(["contact"])
US, OPEN = (COMPILER.compile(Filter("contact", {name: 1, "state": "new"})) for name in ("us", "open"))
NEW = {"state": {"$eq": "new"}}
LISTED, LEADS = (of_list(ContactList("segment-a", datatype)) for datatype in ("contact", "lead"))


def test_an_intersection_holds_every_condition_and_every_join() -> None:
    both = intersection(US, LISTED, OPEN)
    assert both.match == {"$and": [{"data.us": {"$eq": 1}}, NEW, LIVING, {"data.open": {"$eq": 1}}, NEW]}
    assert both.joined == LISTED.joined


def test_a_union_holds_one_or_the_other_each_with_what_guards_it() -> None:
    either = union(US, OPEN)
    assert either.match == {"$or": [US.match, OPEN.match]}
    assert either.joined is None


def test_a_union_with_a_list_is_joined_as_a_whole() -> None:
    either = union(US, LISTED)
    assert either.match == {}
    assert either.joined == either.node


def test_a_difference_tests_what_the_record_alone_decides_before_any_join() -> None:
    left = difference(US, LISTED, OPEN)
    assert left.match == {"$and": [{"data.us": {"$eq": 1}}, NEW, {"$nor": [OPEN.match]}]}
    assert left.joined is not None
    assert difference(US).match == US.match


def test_whether_a_filter_holds_expressions_is_known_of_what_is_made_of_it() -> None:
    risky = COMPILER.compile(Filter("contact", {"$expr": {"$gt": ["$data.a", 1]}}))
    for combined in (union(US, risky), intersection(US, risky), difference(US, risky)):
        assert combined.expressions
    assert not union(US, OPEN).expressions


def test_the_place_is_that_of_what_may_fail() -> None:
    risky = [
        replace(COMPILER.compile(Filter("contact", {"$expr": {"$gt": ["$data.a", number]}})), place=f"ids[{number}]")
        for number in range(2)
    ]
    assert union(US, risky[1], place="ids").place == "ids[1]"
    assert union(US, OPEN, place="ids").place == union(*risky, place="ids").place == "ids"
    kept = replace(US, place="kept")
    assert difference(kept, OPEN, risky[1]).place == "ids[1]"
    assert difference(kept, OPEN).place == "kept"
    assert difference(risky[0], risky[1]).place == "ids[0]"


@pytest.mark.parametrize("combine", [union, intersection, difference])
def test_filters_of_several_datatypes_do_not_go_together(combine: Callable[..., CompiledFilter]) -> None:
    with pytest.raises(ValueError, match="too many"):
        combine(US, LEADS)
