"""How a segment's versions are numbered, listed and returned, on every store."""

from collections.abc import Callable
from typing import Any

import pytest

from audience_service.domain.audiences import conflicts
from audience_service.mongo.segments.repository import MongoSegments
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.versions import update, versions

VIP = {"datatype": "contact", "where": {"tags": "vip"}}
MQL = {"datatype": "contact", "where": {"$and": [{"tags": {"$in": ["mql"]}}, {"score": {"$gte": 5}}]}}
Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


def test_versions_are_listed_newest_first_with_editor_and_time(client: Client, service: Service, org: str) -> None:
    made = client.create(name="VIPs", description="first", filter=VIP)
    bob = service.client(org, subject="bob")
    renamed = update(bob, made.id, "name,description", name="Stars", description="second")
    filtered = update(client, made.id, "filter", filter=MQL)
    bob.call("DeleteSegment", {"id": made.id})
    deleted, third, second, first = versions(client, made.id)
    assert [v.version for v in (deleted, third, second, first)] == [3, 2, 1, 0]
    assert [v.editor for v in (deleted, third, second, first)] == ["bob", "tester", "bob", "tester"]
    assert (first.segment, second.segment, third.segment) == (made, renamed, filtered)
    assert deleted.segment.state == "deleted"
    assert [second.update_time, third.update_time] == [renamed.update_time, filtered.update_time]
    changes = [list(v.changed_fields) for v in (deleted, third, second, first)]
    assert changes == [["state"], ["filter"], ["name", "description"], []]


def test_an_edit_of_a_list_is_a_version_too(client: Client, insert: Insert) -> None:
    ids = insert([{}, {}])
    made = client.create(name="list", type="static", contactIds=ids[:1])
    client.call("AddSegmentContacts", {"id": made.id, "contactIds": ids})
    update(client, made.id, "name", name="renamed")
    client.call("RemoveSegmentContacts", {"id": made.id, "contactIds": ids})
    listed = versions(client, made.id)
    assert [list(v.changed_fields) for v in listed] == [["contacts"], ["name"], ["contacts"], []]
    assert not any(v.segment.HasField("contact_count") for v in listed)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pages_contain_every_version_once_with_its_changes(client: Client, size: int) -> None:
    made = client.create(name="0", filter=VIP)
    for number in range(1, 6):
        update(client, made.id, "name", name=str(number))
    listed = versions(client, made.id, size)
    assert [v.segment.name for v in listed] == ["5", "4", "3", "2", "1", "0"]
    assert [list(v.changed_fields) for v in listed] == [["name"]] * 5 + [[]]


def test_versions_written_between_two_pages_do_not_shift_the_list(client: Client) -> None:
    made = client.create(name="0", filter=VIP)
    for number in (1, 2):
        update(client, made.id, "name", name=str(number))
    first = client.call("ListSegmentVersions", {"id": made.id, "pageSize": 2})
    update(client, made.id, "name", name="3")
    second = client.call("ListSegmentVersions", {"id": made.id, "pageSize": 2, "pageToken": first.next_page_token})
    assert [v.version for v in (*first.versions, *second.versions)] == [2, 1, 0]
    assert (second.next_page_token, second.total_size) == ("", 4)


@pytest.mark.slow
def test_a_page_of_large_versions_fits_a_message(client: Client) -> None:
    emails = [f"somebody.{number}@example.com" for number in range(8_000)]
    made = client.create(name="0", filter={"datatype": "contact", "where": {"email": {"$in": emails}}})
    for number in range(1, 8):
        update(client, made.id, "name", name=str(number))
    page = client.call("ListSegmentVersions", {"id": made.id})
    assert page.ByteSize() < 4 * 1024 * 1024
    assert 0 < len(page.versions) < 8
    assert [v.version for v in versions(client, made.id)] == [7, 6, 5, 4, 3, 2, 1, 0]


def test_a_page_token_of_versions_is_bound_to_its_segment(client: Client, refused: Refused) -> None:
    made, other = client.create(name="a", filter=VIP), client.create(name="b", filter=VIP)
    update(client, made.id, "name", name="c")
    token = client.call("ListSegmentVersions", {"id": made.id, "pageSize": 1}).next_page_token
    refusal = refused(lambda: client.call("ListSegmentVersions", {"id": other.id, "pageToken": token}))
    assert refusal.info.reason == "INVALID_PAGE_TOKEN"


def test_platform_versions_are_gaps_without_an_editor(client: Client, service: Service) -> None:
    made = client.create(name="VIPs", filter=VIP)
    update(client, made.id, "name", name="ours")
    collection = service.store.database["segment"]
    collection.update_one({"pk": made.id}, {"$set": {"version": 4, "name": "theirs", "data.name": "theirs"}})
    update(client, made.id, "description", description="ours again")
    listed = versions(client, made.id)
    assert [(v.version, v.segment.name, v.editor) for v in listed] == [
        (5, "theirs", "tester"),
        (4, "theirs", ""),
        (0, "VIPs", "tester"),
    ]
    assert [list(v.changed_fields) for v in listed] == [["description"], ["name"], []]


def test_a_platform_record_has_versions(client: Client, service: Service, org: str) -> None:
    record: dict[str, Any] = {
        "pk": f"segment-p{org}",
        "sk": f"{org}/segment/p",
        "author": "pam",
        "version": None,
        "state": None,
    }
    service.store.database["segment"].insert_one({**record, "data": {"name": "p", "filter": VIP}})
    assert [(v.version, v.editor) for v in versions(client, record["pk"])] == [(0, "pam")]
    update(client, record["pk"], "name", name="q")
    assert [(v.segment.name, v.editor) for v in versions(client, record["pk"])] == [("q", "tester"), ("p", "pam")]


def test_an_unknown_or_foreign_segment_has_no_versions(client: Client, service: Service, refused: Refused) -> None:
    foreign = service.client("versions-owner").create(name=client.metadata[1][1], filter=VIP)
    for rpc, target in (
        ("ListSegmentVersions", {}),
        ("UndeleteSegment", {}),
        ("RollbackSegment", {"targetVersion": 0}),
    ):
        for segment_id in (foreign.id, "segment-unknown"):
            request = {"id": segment_id, **target}
            refusal = refused(lambda rpc=rpc, request=request: client.call(rpc, request))
            assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "AUDIENCE_NOT_FOUND")


def test_a_list_edit_without_effect_writes_no_version(
    client: Client, service: Service, insert: Insert, refused: Refused
) -> None:
    ids = insert([{}, {}])
    made = client.create(name="list", type="static", contactIds=ids[:1])
    added = client.call("AddSegmentContacts", {"id": made.id, "contactIds": ids[:1]})
    removed = client.call("RemoveSegmentContacts", {"id": made.id, "contactIds": ids[1:]})
    assert (added.added_count, removed.removed_count) == (0, 0)
    assert added.segment == removed.segment == made
    assert [v.version for v in versions(client, made.id)] == [0]


@pytest.mark.parametrize("odd", ["3", 1.5, True, 2**31, 2**40, -1, {"$gt": 0}, [1]])
def test_an_invalid_version_number_is_overwritten(client: Client, service: Service, odd: Any) -> None:
    made = client.create(name="odd", filter=VIP)
    service.store.database["segment"].update_one({"pk": made.id}, {"$set": {"version": odd}})
    before = client.call("GetSegment", {"id": made.id}).version
    changed = update(client, made.id, "name", name="even")
    assert (changed.name, changed.version) == ("even", before + 1)
    assert client.call("DeleteSegment", {"id": made.id}).version == before + 2


def test_the_last_version_is_not_followed_by_the_first(client: Client, service: Service, refused: Refused) -> None:
    made = client.create(name="last", filter=VIP)
    service.store.database["segment"].update_one({"pk": made.id}, {"$set": {"version": 2**31 - 2}})
    assert update(client, made.id, "name", name="last of all").version == 2**31 - 1
    refusal = refused(lambda: update(client, made.id, "name", name="over"))
    assert (refusal.code.name, refusal.info.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert refusal.fields == ["version"]
    assert client.call("GetSegment", {"id": made.id}).name == "last of all"


def test_a_write_that_is_refused_at_one_version_over_and_over_ends(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    made = client.create(name="stuck", filter=VIP)
    monkeypatch.setattr(conflicts, "MAX_RETRY_DELAY_MILLIS", 1)
    monkeypatch.setattr(MongoSegments, "_write", lambda *_: False)
    refusal = refused(lambda: update(client, made.id, "name", name="never"))
    assert (refusal.code.name, refusal.info.reason) == ("ABORTED", "STALE_VERSION")
