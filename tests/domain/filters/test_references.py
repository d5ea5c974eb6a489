"""Which audiences a stored filter refers to."""

from typing import Any

import pytest

from audience_service.domain.filters.references import audience_references

VIP, MQL = {"$inAudience": "segment-vip"}, {"$inAudience": "segment-mql"}


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (None, set()),
        ({}, set()),
        ('{"$inAudience": "segment-vip"}', set()),
        (VIP, {"segment-vip"}),
        ({"$and": [{"country": "US"}, VIP, {"$or": [MQL, {"$nor": [VIP]}]}]}, {"segment-vip", "segment-mql"}),
        ({"$not": VIP}, {"segment-vip"}),
        ({"tags": {"$elemMatch": {"$and": [MQL]}}}, {"segment-mql"}),
        ({"$inAudience": 5}, set()),
        ({"$inAudience": ["segment-vip", 5, MQL]}, {"segment-vip", "segment-mql"}),
        ({"$inAudience": VIP}, {"segment-vip"}),
        ({"country": "$inAudience"}, set()),
    ],
)
def test_references_are_found_at_any_depth(where: Any, found: set[str]) -> None:
    assert audience_references(where) == found


@pytest.mark.slow
def test_a_very_deep_filter_is_walked() -> None:
    where: Any = VIP
    for _ in range(10_000):  # ten times the depth at which Python's stack ends
        where = {"$and": [where]}
    assert audience_references(where) == {"segment-vip"}
    while isinstance(where, dict) and "$and" in where:  # taken apart step by step: freeing all of it would recurse
        [where] = where["$and"]
