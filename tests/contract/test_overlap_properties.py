"""Any audiences of a crowd overlap as their members do, on every store."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Service
from tests.support.client import Client
from tests.support.examples import examples
from tests.support.overlaps import check_overlap, contact_filter, overlap

CROWD = {"embedded": 250, "mongodb": 5_000}


@pytest.fixture(scope="module")
def crowd(service: Service) -> Iterator[tuple[Client, list[str]]]:
    """A client of an org of 5,000 contacts, and twelve audiences of every kind over them.

    The embedded store, which takes a second for what takes a millisecond elsewhere, has 250.
    """
    from audience_service.sample_data import sample_contacts

    org = "overlapping"
    service.store.insert(list(sample_contacts(org, CROWD[service.kind])))
    client = service.client(org)

    def saved(name: str, where: dict[str, Any], **fields: Any) -> str:
        return str(client.create(name=name, filter=contact_filter(where), **fields).id)

    us = saved("of the US", {"country": "US"})
    vip = saved("VIPs", {"tags": "vip"})
    static_copy = saved("frozen VIPs", {"tags": "vip"}, type="static")
    half = saved("half", {"score": {"$gte": 50}}, type="static")
    yield (
        client,
        [
            us,
            vip,
            static_copy,
            half,
            saved("everyone", {}),
            saved("nobody", {"country": "nowhere"}),
            client.create(name="empty", type="static").id,
            saved("openers", {"lastEmailOpenedAt": {"$gte": "2026-01-01T00:00:00Z"}}),
            saved("US or half", {"$or": [{"$inAudience": us}, {"$inAudience": half}]}),
            saved("no VIPs", {"$nor": [{"$inAudience": static_copy}]}),
            saved("archived too", {"state": {"$in": ["active", "archived"]}}),
            saved("frozen US", {"country": "US", "score": {"$lt": 80}}, type="static"),
        ],
    )
    for name in ("contact", "segment", "audience_member", "segment_version"):
        service.store.database[name].delete_many({"sk": {"$regex": f"^{org}/"}})


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_any_audiences_of_a_crowd_overlap_as_their_members_do(
    service: Service, crowd: tuple[Client, list[str]]
) -> None:
    client, audience_ids = crowd
    members = {name: set(client.members(audienceId=name)) for name in audience_ids}
    assert len(members[audience_ids[4]]) > CROWD[service.kind] * 0.9

    @examples(25 if service.kind == "mongodb" else 8)
    @given(st.lists(st.sampled_from(audience_ids), min_size=2, max_size=8, unique=True))
    def agree(names: list[str]) -> None:
        answer = client.call("GetOverlapRegions", {"audienceIds": names}, timeout=60)
        regions: dict[tuple[str, ...], int] = {}
        for one in set().union(*(members[name] for name in names)):
            region = tuple(name for name in names if one in members[name])
            regions[region] = regions.get(region, 0) + 1
        assert {tuple(region.audience_ids): region.count for region in answer.regions} == regions
        assert answer.union_count == sum(regions.values())
        assert [(size.audience_id, size.size) for size in answer.sizes] == [
            (name, len(members[name])) for name in names
        ]
        for pair in answer.pairwise:
            check_overlap(pair, members[pair.audience_id], members[pair.other_audience_id])
        two = overlap(client, *names[:2])
        check_overlap(two, *(members[name] for name in names[:2]))
        assert (two.size, two.other_size) == tuple(client.count(audienceId=name) for name in names[:2])

    agree()
