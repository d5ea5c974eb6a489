"""Filters as text: what is printed reads back to the same filter."""

from typing import Any

from hypothesis import given

from audience_service.domain.filters import parse_text, print_text
from tests.support.examples import examples
from tests.support.strategies import filters


@examples(500)
@given(filters)
def test_a_printed_filter_parses_to_itself(where: dict[str, Any]) -> None:
    printed = print_text(where)
    read = parse_text(printed, "where_json", 10**6)
    assert read == where
    assert print_text(read) == printed, "with its keys in the same order and its numbers of the same types"
