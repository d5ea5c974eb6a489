"""Custom audiences as audiences: their members are the active contacts on the list."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.events import described
from tests.support.lists import publish

ALL_CONTACTS: dict[str, Any] = {"datatype": "contact", "where": {}}
Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


@pytest.fixture
def listed(client: Client, service: Service, org: str, insert: Insert) -> tuple[str, list[str]]:
    """A published list of four, and the three of them that are still in use; a fifth contact is not on it."""
    ids = sorted(insert([{"id": f"{n}", "data": {"n": n + 2, "country": "US"}} for n in range(4)]))
    insert([{"id": "later", "data": {"n": 9, "country": "US"}}])
    made = client.custom(name="uploaded")
    publish(service.store, org, made.id, ids)
    service.store.database["contact"].update_one({"sk": f"{org}/contact/0"}, {"$set": {"state": "archived"}})
    return made.id, ids[1:]


def test_an_audience_without_a_list_has_no_members(client: Client) -> None:
    made = client.custom(name="empty")
    assert client.count(audienceId=made.id) == 0
    assert client.members(audienceId=made.id) == []


def test_it_has_a_reach_an_overlap_and_members(client: Client, listed: tuple[str, list[str]]) -> None:
    made, active_ids = listed
    all_contacts = client.create(name="everyone", filter=ALL_CONTACTS)
    assert client.count(audienceId=made) == 3
    assert client.members(audienceId=made) == active_ids
    *_, last = client.call("StreamReach", {"audienceId": made})
    assert (last.count, last.exact) == (3, True)
    overlap = client.call("GetOverlap", {"audienceId": made, "otherAudienceId": all_contacts.id})
    assert (overlap.count, overlap.size, overlap.other_size) == (3, 3, 4)
    assert client.call("GetCustomAudience", {"id": made}).contact_count == 4


def test_venn_regions_include_it(client: Client, listed: tuple[str, list[str]]) -> None:
    made, _ = listed
    few = client.create(name="few", filter={"datatype": "contact", "where": {"n": {"$gte": 5}}})
    answer = client.call("GetOverlapRegions", {"audienceIds": [made, few.id]})
    assert sorted((sorted(region.audience_ids), region.count) for region in answer.regions) == sorted(
        [([made], 2), (sorted([made, few.id]), 1), ([few.id], 1)]
    )


def test_a_filter_matches_its_members_and_the_others(client: Client, listed: tuple[str, list[str]]) -> None:
    made, active_ids = listed
    inside = {"datatype": "contact", "where": {"$inAudience": made}}
    outside = {"datatype": "contact", "where": {"$nor": [{"$inAudience": made}]}}
    assert client.members(filter=inside) == active_ids
    assert client.members(filter=outside) == ["contact-later"]
    segment = client.create(name="inside", filter=inside)
    assert client.members(audienceId=segment.id) == active_ids


def test_unions_and_exclusions_take_it(client: Client, listed: tuple[str, list[str]]) -> None:
    made, active_ids = listed
    late = client.create(name="late", filter={"datatype": "contact", "where": {"n": 9}})
    assert client.members(audienceIds=[late.id, made]) == sorted([*active_ids, "contact-later"])
    assert client.members(filter=ALL_CONTACTS, excludeAudienceIds=[made]) == ["contact-later"]


def test_contacts_are_checked_against_it(client: Client, listed: tuple[str, list[str]]) -> None:
    made, active_ids = listed
    request = {"audienceIds": [made], "contactIds": [active_ids[0], "contact-0", "contact-later"]}
    memberships = client.call("CheckMembership", request).memberships
    assert [list(each.audience_ids) for each in memberships] == [[made], [], []]


def test_a_contacts_audiences_list_custom_ones_after_segments(
    client: Client, service: Service, org: str, listed: tuple[str, list[str]]
) -> None:
    made, active_ids = listed
    segments = [client.create(name=f"s{n}", filter=ALL_CONTACTS).id for n in range(2)]
    newer = client.custom(name="newer", type="customer_match", customerMatch={"platform": "meta"}).id
    publish(service.store, org, newer, active_ids)
    publish(service.store, org, client.custom(name="others").id, ["contact-later"])
    client.custom(name="leads", datatype="lead")
    expected = [*((each, "dynamic") for each in segments), (newer, "customer_match"), (made, "file_upload")]
    for size in (1, 2, 3, 4, 5, 6, 7):
        listed_audiences, token, pages = [], "", 0
        while pages == 0 or token:
            page = client.call(
                "ListAudiencesOfContact", {"contactId": active_ids[0], "pageSize": size, "pageToken": token}
            )
            listed_audiences += [(each.id, each.type) for each in page.audiences]
            token, pages = page.next_page_token, pages + 1
        assert listed_audiences == expected
        assert pages == -(-6 // size)


def test_a_membership_of_it_is_explained(client: Client, listed: tuple[str, list[str]]) -> None:
    made, active_ids = listed
    inside = client.call("ExplainMembership", {"audienceId": made, "contactId": active_ids[0]})
    assert inside.member
    assert "uploaded" in inside.condition.description
    assert not client.call("ExplainMembership", {"audienceId": made, "contactId": "contact-later"}).member


def test_insights_and_plans_take_it(real_service: Service) -> None:
    ids = real_service.insert("custom-insights", [{"data": {"country": "US"}} for _ in range(10)])
    client = real_service.client("custom-insights")
    made = client.custom(name="uploaded").id
    publish(real_service.store, "custom-insights", made, ids)
    insights = client.call("GetInsights", {"audienceId": made, "dimensions": ["country"]})
    assert [(bucket.value, bucket.count) for bucket in insights.dimensions[0].buckets] == [("US", 10)]
    assert "uploaded" in client.call("ExplainFilter", {"audienceId": made}).description


def test_segments_and_snapshots_are_frozen_from_it_and_outlive_it(
    client: Client, listed: tuple[str, list[str]]
) -> None:
    made, active_ids = listed
    source = {"audienceId": made}
    static_copy = client.call("CreateSegment", {"segment": {"name": "frozen", "type": "static"}, "source": source})
    snapshot = client.snapshot(audienceId=made, name="launch")
    assert (snapshot.count, static_copy.contact_count) == (3, 3)
    assert [(each.audience_id, each.version) for each in snapshot.sources] == [(made, 1)]
    client.call("DeleteCustomAudience", {"id": made})
    assert client.members(snapshotId=snapshot.id) == active_ids
    assert client.members(audienceId=static_copy.id) == active_ids


def test_its_members_are_exported(client: Client, service: Service, org: str, insert: Insert) -> None:
    ids = insert([{"data": {"email": f"{n}@x.example"}} for n in range(3)])
    made = client.custom(name="uploaded").id
    publish(service.store, org, made, ids[:2])
    *_, last = client.call("ExportIdentifiers", {"audienceId": made, "platform": "meta", "fields": ["email"]})
    assert last.readiness.member_count == 2


@pytest.mark.usefixtures("unwatched")
def test_a_new_list_sends_events_for_its_changes(client: Client, service: Service, org: str, insert: Insert) -> None:
    ids = sorted(insert([{"id": f"{n}"} for n in range(3)]))
    made = client.custom(name="uploaded").id
    publish(service.store, org, made, ids[:2])
    stream = client.call("WatchMembership", {"audienceId": made}, timeout=60)
    try:
        next(stream)
        publish(service.store, org, made, ids[1:])
        events: list[Any] = []
        while len(events) < 2:
            events += next(stream).events
    finally:
        stream.cancel()
    assert sorted(map(described, events)) == [
        ("entered", ids[2], "data"),
        ("exited", ids[0], "data"),
    ]


def test_a_stream_that_has_begun_reads_the_list_that_it_began_with(
    client: Client, service: Service, org: str, insert: Insert
) -> None:
    ids = sorted(insert([{"id": f"{n:03}"} for n in range(60)]))
    made = client.custom(name="uploaded").id
    publish(service.store, org, made, ids[:40])
    stream = client.call("StreamMembers", {"audienceId": made, "batchSize": 10})
    first = next(stream)
    publish(service.store, org, made, ids[40:])
    rest = [member.id for message in stream for member in message.members]
    assert [*(member.id for member in first.members), *rest] == ids[:40]
    assert client.members(audienceId=made) == ids[40:]


def test_a_deleted_one_is_no_audience_any_more(client: Client, listed: tuple[str, list[str]], refused: Refused) -> None:
    made, _ = listed
    segment = client.create(name="inside", filter={"datatype": "contact", "where": {"$inAudience": made}})
    client.call("DeleteCustomAudience", {"id": made, "force": True})
    assert refused(lambda: client.call("EstimateReach", {"audienceId": made})).info.reason == "AUDIENCE_NOT_FOUND"
    refusal = refused(lambda: client.call("EstimateReach", {"audienceId": segment.id}))
    assert refusal.info.reason == "UNUSABLE_AUDIENCE"


def test_another_org_has_no_use_of_it(
    service: Service, client: Client, org: str, listed: tuple[str, list[str]], refused: Refused
) -> None:
    made, _ = listed
    other = service.client(f"{org}2")
    for rpc, request in (
        ("EstimateReach", {"audienceId": made}),
        ("EstimateReach", {"filter": {"datatype": "contact", "where": {"$inAudience": made}}}),
        ("StreamMembers", {"audienceId": made}),
        ("CheckMembership", {"audienceIds": [made], "contactIds": ["contact-1"]}),
        ("CreateSnapshot", {"audienceId": made, "name": "x"}),
    ):
        refusal = refused(lambda rpc=rpc, request=request: other.call(rpc, request))
        assert refusal.info.reason == "AUDIENCE_NOT_FOUND"
        assert refusal.code is grpc.StatusCode.NOT_FOUND


def test_one_of_a_datatype_that_is_no_longer_served_is_unusable(
    service: Service, client: Client, org: str, refused: Refused
) -> None:
    made = client.custom(name="leads", datatype="lead").id
    service.store.database["custom"].update_one({"pk": made}, {"$set": {"data.datatype": "secret"}})
    assert refused(lambda: client.call("EstimateReach", {"audienceId": made})).info.reason == "UNUSABLE_AUDIENCE"
