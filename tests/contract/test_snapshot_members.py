"""The members of a snapshot: the ones at its creation, whatever happens to them, to it, or to a stream."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from audience_service.mongo.query import joins
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.snapshots import state_of

ALL_CONTACTS: dict[str, Any] = {"datatype": "contact", "where": {}}
VIP: dict[str, Any] = {"datatype": "contact", "where": {"tags": "vip"}}
Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


def test_a_snapshot_preserves_its_members(client: Client, service: Service, org: str, insert: Insert) -> None:
    ids = insert([{"data": {"tags": ["vip"], "email": f"{n}@example.com"}} for n in range(5)] + [{}])[:5]
    segment = client.create(name="vip", filter=VIP)
    made = client.snapshot(audienceId=segment.id, name="launch")
    contacts = service.store.database["contact"]
    contacts.delete_one({"pk": ids[0]})
    contacts.update_one({"pk": ids[1]}, {"$set": {"state": "deleted"}})
    contacts.update_one({"pk": ids[2]}, {"$set": {"data.tags": []}})
    insert([{"data": {"tags": ["vip"]}}])
    assert client.members(snapshotId=made.id) == client.members(snapshotId=made.id, batchSize=2) == sorted(ids)
    assert made.count == 5
    assert client.members(audienceId=made.id) == sorted(ids[2:])
    messages = client.call("StreamMembers", {"snapshotId": made.id, "fields": ["email", "pk"]})
    fields_by_id = {member.id: MessageToDict(member.fields) for message in messages for member in message.members}
    assert fields_by_id == {
        found: {"pk": found, **({"email": f"{n}@example.com"} if n > 1 else {})} for n, found in enumerate(ids)
    }  # neither of the deleted contact, nor of the one that is marked as deleted


@pytest.mark.parametrize("state", ["CREATING", "FAILED"])
def test_members_of_an_unready_snapshot_are_refused(
    client: Client, service: Service, insert: Insert, refused: Refused, state: str
) -> None:
    insert([{}])
    made = client.snapshot(filter=ALL_CONTACTS)
    service.store.database["audience_snapshot"].update_one({"pk": made.id}, {"$set": {"state": state}})
    refusal = refused(lambda: client.call("StreamMembers", {"snapshotId": made.id}))
    assert (refusal.code.name, refusal.info.reason) == ("FAILED_PRECONDITION", "SNAPSHOT_NOT_READY")
    assert dict(refusal.info.metadata) == {"id": made.id, "creation_state": state}
    refusal = refused(lambda: client.call("EstimateReach", {"audienceId": made.id}))
    assert refusal.info.reason == "UNUSABLE_AUDIENCE"
    assert state_of(client.call("GetSnapshot", {"id": made.id})) == state


@pytest.mark.parametrize("how", ["inline", "looked up"])
def test_members_of_a_just_deleted_snapshot_are_still_excluded(
    client: Client, service: Service, insert: Insert, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    insert([{} for _ in range(3)])
    reached = client.snapshot(filter=ALL_CONTACTS)
    fresh = insert([{}])
    if how == "looked up":
        monkeypatch.setattr(joins, "MAX_INLINE_BYTES", 10)
    members = type(service.store.members)
    original = members.stream_documents

    def stream(*arguments: Any) -> Any:
        client.call("DeleteSnapshot", {"id": reached.id})
        return original(*arguments)

    monkeypatch.setattr(members, "stream_documents", stream)
    assert client.members(filter=ALL_CONTACTS, excludeAudienceIds=[reached.id]) == fresh


@pytest.mark.parametrize("options", [{}, {"partition": {"index": 0, "count": 1}}, {"purpose": "email"}])
def test_a_stream_whose_snapshot_expires_midway_ends_with_its_totals_unless_rows_are_missing(
    client: Client, service: Service, insert: Insert, monkeypatch: pytest.MonkeyPatch, refused: Refused, options: Any
) -> None:
    ids = insert([{}, {}])
    database, members = service.store.database, type(service.store.members)
    original = members.stream_documents
    missing = 0

    def stream(*arguments: Any) -> Any:
        past = datetime.now(UTC) - timedelta(seconds=1)
        database["audience_snapshot"].update_one({"pk": made.id}, {"$set": {"expire_at": past}})
        for row in database["audience_member"].find({"audience": f"{made.id}.1"}, limit=missing) if missing else ():
            database["audience_member"].delete_one({"_id": row["_id"]})
        return original(*arguments)

    monkeypatch.setattr(members, "stream_documents", stream)
    made = client.snapshot(filter=ALL_CONTACTS)
    assert client.members(snapshotId=made.id, **options) == sorted(ids)
    made, missing = client.snapshot(filter=ALL_CONTACTS), 1
    refusal = refused(lambda: client.call("StreamMembers", {"snapshotId": made.id, **options}))
    assert refusal.info.reason == "SNAPSHOT_NOT_FOUND"


def test_a_stream_whose_snapshot_is_deleted_midway_fails(client: Client, insert: Insert, refused: Refused) -> None:
    insert([{} for _ in range(10)])
    made = client.snapshot(filter=ALL_CONTACTS)
    first = next(iter(client.call("StreamMembers", {"snapshotId": made.id, "batchSize": 2})))
    client.call("DeleteSnapshot", {"id": made.id})
    rest = {"snapshotId": made.id, "batchSize": 2, "cursor": first.cursor}
    assert refused(lambda: client.call("StreamMembers", rest)).info.reason == "SNAPSHOT_NOT_FOUND"


def test_rows_that_are_missing_end_a_stream_without_totals(
    client: Client, service: Service, org: str, insert: Insert, refused: Refused
) -> None:
    insert([{}, {}])
    made = client.snapshot(filter=ALL_CONTACTS)
    service.store.database["audience_member"].delete_one({"sk": {"$regex": f"^{org}/"}})
    assert refused(lambda: client.call("StreamMembers", {"snapshotId": made.id})).code.name == "INTERNAL"


def test_a_snapshot_stream_resumes_after_any_cursor(client: Client, insert: Insert, refused: Refused) -> None:
    ids = sorted(insert([{} for _ in range(7)]))
    made = client.snapshot(filter=ALL_CONTACTS)
    messages = list(client.call("StreamMembers", {"snapshotId": made.id, "batchSize": 2}))
    seen = 0
    for message in messages:
        seen += len(message.members)
        rest = list(client.call("StreamMembers", {"snapshotId": made.id, "cursor": message.cursor}))
        assert [m.id for again in rest for m in again.members] == ids[seen:]
        assert rest[-1].totals.member_count == 7
    other = client.snapshot(filter=ALL_CONTACTS)
    wrong = {"snapshotId": other.id, "cursor": messages[0].cursor}
    assert refused(lambda: client.call("StreamMembers", wrong)).info.reason == "INVALID_PAGE_TOKEN"


def test_inactive_snapshot_members_are_counted_as_exclusions(client: Client, service: Service, insert: Insert) -> None:
    ids = sorted(insert([{"data": {"tags": ["out"] if n == 3 else []}} for n in range(6)]))
    out = client.create(name="out", filter={"datatype": "contact", "where": {"tags": "out"}}).id
    made = client.snapshot(filter=ALL_CONTACTS)
    [out_id] = client.members(audienceId=out)
    inactive_ids = [found for found in ids if found != out_id][:2]
    service.store.database["contact"].delete_one({"pk": inactive_ids[0]})
    service.store.database["contact"].update_one({"pk": inactive_ids[1]}, {"$set": {"state": "archived"}})
    assert client.members(snapshotId=made.id) == ids
    request = {"snapshotId": made.id, "excludeAudienceIds": [out]}
    assert client.members(**request) == [found for found in ids if found not in (*inactive_ids, out_id)]
    *_, last = client.call("StreamMembers", request)
    assert [(item.reason, item.count) for item in last.totals.exclusions] == [("inactive", 2), ("excluded", 1)]


def test_a_snapshot_is_left_out_of_others(client: Client, insert: Insert) -> None:
    insert([{} for _ in range(3)])
    reached = client.snapshot(filter=ALL_CONTACTS)
    fresh = insert([{}, {}])
    request = {"filter": ALL_CONTACTS, "excludeAudienceIds": [reached.id]}
    assert client.members(**request) == sorted(fresh)
    made = client.snapshot(**request)
    assert (made.count, [(item.reason, item.count) for item in made.exclusions]) == (2, [("excluded", 3)])


def test_parts_of_a_snapshot_make_it_up(client: Client, insert: Insert) -> None:
    ids = sorted(insert([{} for _ in range(20)]))
    made = client.snapshot(filter=ALL_CONTACTS)
    parts = [client.members(snapshotId=made.id, partition={"index": n, "count": 3}) for n in range(3)]
    assert [found for part in parts for found in part] == ids


def test_the_count_is_that_of_the_members_while_records_change(real_service: Service) -> None:
    org = "frozen-busy"
    real_service.insert(org, [{"id": f"{n:04}", "data": {"tags": ["vip"]}} for n in range(1_000)])
    client, contacts = real_service.client(org), real_service.store.database["contact"]
    out = client.create(name="out", filter={"datatype": "contact", "where": {"tags": "out"}}).id
    stop = threading.Event()

    def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            change = {"$set": {"data.tags": ["vip", "out"] if turn % 2 else ["vip"]}}
            contacts.update_many({"sk": {"$gte": f"{org}/contact/0{turn % 10}", "$lt": f"{org}0"}}, change)

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        try:
            for _ in range(5):
                made = client.snapshot(filter=ALL_CONTACTS, excludeAudienceIds=[out])
                assert len(client.members(snapshotId=made.id)) == made.count
                assert made.count + made.exclusions[0].count == 1_000
        finally:
            stop.set()
        writer.result()
