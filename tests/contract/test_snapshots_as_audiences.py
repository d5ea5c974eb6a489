"""Snapshots as audiences: their members are those of the snapshot that are still active."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Service
from tests.support.client import Client, Refusal

ALL_CONTACTS: dict[str, Any] = {"datatype": "contact", "where": {}}
Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


@pytest.fixture
def snapshot(client: Client, service: Service, org: str, insert: Insert) -> tuple[Any, list[str]]:
    """A snapshot of four, and the three of them that are still in use; a fifth has come since."""
    ids = sorted(insert([{"id": f"{n}", "data": {"n": n + 2}} for n in range(4)]))
    made = client.snapshot(filter=ALL_CONTACTS, name="launch")
    service.store.database["contact"].update_one({"sk": f"{org}/contact/0"}, {"$set": {"state": "archived"}})
    insert([{"id": "later"}])
    return made, ids[1:]


def test_a_filter_matches_snapshot_members_and_the_others(client: Client, snapshot: tuple[Any, list[str]]) -> None:
    made, active_ids = snapshot
    inside = {"datatype": "contact", "where": {"$inAudience": made.id}}
    outside = {"datatype": "contact", "where": {"$nor": [{"$inAudience": made.id}]}}
    assert client.members(filter=inside) == active_ids
    assert client.members(filter=outside) == ["contact-later"]
    both = {"datatype": "contact", "where": {"$and": [{"$inAudience": made.id}, {"n": {"$gte": 4}}]}}
    assert client.count(filter=both) == 2


def test_it_has_a_reach_an_overlap_and_members(client: Client, snapshot: tuple[Any, list[str]]) -> None:
    made, active_ids = snapshot
    all_contacts = client.create(name="everyone", filter=ALL_CONTACTS)
    assert client.count(audienceId=made.id) == 3
    assert client.members(audienceId=made.id) == active_ids
    *_, last = client.call("StreamReach", {"audienceId": made.id})
    assert (last.count, last.exact) == (3, True)
    overlap = client.call("GetOverlap", {"audienceId": made.id, "otherAudienceId": all_contacts.id})
    assert (overlap.count, overlap.size, overlap.other_size) == (3, 3, 4)


def test_insights_and_explanations_take_it_too(real_service: Service) -> None:
    real_service.insert("frozen-insights", [{"data": {"country": "US"}} for _ in range(10)])
    client = real_service.client("frozen-insights")
    made = client.snapshot(filter=ALL_CONTACTS, name="launch")
    insights = client.call("GetInsights", {"audienceId": made.id, "dimensions": ["country"]})
    assert [(bucket.value, bucket.count) for bucket in insights.dimensions[0].buckets] == [("US", 10)]
    assert "launch" in client.call("ExplainFilter", {"audienceId": made.id}).description
    inside = {"filter": {"datatype": "contact", "where": {"$inAudience": made.id}}}
    assert "launch" in client.call("ExplainFilter", inside).description


def test_a_static_segment_and_another_snapshot_are_frozen_from_it(
    client: Client, snapshot: tuple[Any, list[str]]
) -> None:
    made, active_ids = snapshot
    request = {"segment": {"name": "kept", "type": "static"}, "source": {"audienceId": made.id}}
    segment = client.call("CreateSegment", request)
    assert (segment.contact_count, segment.filter.datatype) == (3, "contact")
    assert client.members(audienceId=segment.id) == active_ids
    again = client.snapshot(audienceId=made.id)
    assert [(source.audience_id, source.version) for source in again.sources] == [(made.id, 0)]
    client.call("DeleteSnapshot", {"id": made.id})
    assert client.members(snapshotId=again.id) == client.members(audienceId=segment.id) == active_ids


def test_a_saved_filter_that_references_a_deleted_snapshot_is_unusable(
    client: Client, snapshot: tuple[Any, list[str]], refused: Refused
) -> None:
    made, active_ids = snapshot
    segment = client.create(name="saved", filter={"datatype": "contact", "where": {"$inAudience": made.id}})
    assert client.members(audienceId=segment.id) == active_ids
    client.call("DeleteSnapshot", {"id": made.id})
    refusal = refused(lambda: client.call("EstimateReach", {"audienceId": segment.id}))
    assert (refusal.code.name, refusal.info.reason) == ("FAILED_PRECONDITION", "UNUSABLE_AUDIENCE")
    assert refused(lambda: client.count(audienceId=made.id)).info.reason == "AUDIENCE_NOT_FOUND"
    new = {"filter": {"datatype": "contact", "where": {"$inAudience": made.id}}}
    refusal = refused(lambda: client.call("EstimateReach", new))
    assert (refusal.info.reason, refusal.fields) == ("AUDIENCE_NOT_FOUND", ["filter.where.$inAudience"])


def test_it_is_no_segment(client: Client, snapshot: tuple[Any, list[str]], refused: Refused) -> None:
    made, _ = snapshot
    for rpc, request in (
        ("GetSegment", {"id": made.id}),
        ("AddSegmentContacts", {"id": made.id, "contactIds": ["contact-1"]}),
        ("DeleteSegment", {"id": made.id}),
    ):
        refusal = refused(lambda rpc=rpc, request=request: client.call(rpc, request))
        assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "AUDIENCE_NOT_FOUND")


def test_its_membership_is_checked_and_explained(client: Client, snapshot: tuple[Any, list[str]]) -> None:
    made, _ = snapshot
    segment = client.create(name="saved", filter={"datatype": "contact", "where": {"$inAudience": made.id}})
    request = {"audienceIds": [made.id, segment.id], "contactIds": ["contact-0", "contact-1", "contact-later"]}
    answer = client.call("CheckMembership", request)
    assert [list(one.audience_ids) for one in answer.memberships] == [[], [made.id, segment.id], []]
    assert all(one.found for one in answer.memberships)
    for audience_id in (made.id, segment.id):
        explanation = client.call("ExplainMembership", {"audienceId": audience_id, "contactId": "contact-1"})
        assert explanation.member
        assert "launch" in str(explanation.condition)
        assert not client.call("ExplainMembership", {"audienceId": audience_id, "contactId": "contact-0"}).member


def test_a_segment_on_an_unready_snapshot_is_unusable(
    client: Client, service: Service, snapshot: tuple[Any, list[str]], refused: Refused
) -> None:
    made, _ = snapshot
    segment = client.create(name="saved", filter={"datatype": "contact", "where": {"$inAudience": made.id}})
    service.store.database["audience_snapshot"].update_one({"pk": made.id}, {"$set": {"state": "CREATING"}})
    page = client.call("ListAudiencesOfContact", {"contactId": "contact-1"})
    assert list(page.unusable_audience_ids) == [segment.id]
    request = {"audienceIds": [made.id], "contactIds": ["contact-1"]}
    assert refused(lambda: client.call("CheckMembership", request)).info.reason == "UNUSABLE_AUDIENCE"
