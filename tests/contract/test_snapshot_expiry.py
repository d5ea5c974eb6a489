"""Expired and deleted snapshots: not found, and their rows are deleted after them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.snapshots import rows

ALL_CONTACTS: dict[str, Any] = {"datatype": "contact", "where": {}}
Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


def test_an_expired_one_is_not_there_even_before_it_is_swept(
    client: Client, service: Service, insert: Insert, refused: Refused
) -> None:
    insert([{}])
    request = {"filter": ALL_CONTACTS, "requestId": "r"}
    made = client.snapshot(**request)
    past = datetime.now(UTC) - timedelta(seconds=1)
    service.store.database["audience_snapshot"].update_one({"pk": made.id}, {"$set": {"expire_at": past}})
    for rpc, id_field in (("GetSnapshot", "id"), ("StreamMembers", "snapshotId"), ("DeleteSnapshot", "id")):
        refusal = refused(lambda rpc=rpc, id_field=id_field: client.call(rpc, {id_field: made.id}))
        assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "SNAPSHOT_NOT_FOUND")
    assert client.call("ListSnapshots").total_size == 0
    assert client.snapshot(**request).id != made.id


@pytest.mark.parametrize("other_is", ["about to insert", "done"])
def test_concurrent_repeated_requests_after_expiry_create_one_snapshot(
    client: Client, service: Service, insert: Insert, monkeypatch: pytest.MonkeyPatch, other_is: str
) -> None:
    insert([{}])
    request = {"filter": ALL_CONTACTS, "requestId": "r"}
    expired = client.snapshot(**request)
    collection = service.store.database["audience_snapshot"]
    past = datetime.now(UTC) - timedelta(seconds=1)
    collection.update_one({"pk": expired.id}, {"$set": {"expire_at": past}})
    made_by_other: list[Any] = []

    class RacingCollection:
        """The collection, where another process has just deleted the expired one."""

        def __getattr__(self, name: str) -> Any:
            return getattr(collection, name)

        def delete_one(self, match: Any) -> Any:
            monkeypatch.undo()
            collection.delete_one(match)
            if other_is == "done":
                made_by_other.append(client.snapshot(**request))
            return collection.delete_one(match)

    monkeypatch.setattr(service.store.snapshots, "_collection", RacingCollection())
    made = client.snapshot(**request)
    assert made.id != expired.id
    assert made_by_other in ([], [made])
    assert client.call("ListSnapshots").total_size == 1


def test_the_rows_outlive_the_manifest_by_an_hour(client: Client, service: Service, org: str, insert: Insert) -> None:
    insert([{}])
    made = client.snapshot(filter=ALL_CONTACTS, timeToLive="60s")
    [row] = service.store.database["audience_member"].find({"sk": {"$regex": f"^{org}/"}})
    assert row["expire_at"] - made.expire_time.ToDatetime(UTC).replace(microsecond=0) < timedelta(minutes=61)
    assert row["expire_at"] - made.expire_time.ToDatetime(UTC) >= timedelta(minutes=59)


def test_a_deleted_snapshot_and_its_members_are_not_found(
    client: Client, service: Service, org: str, insert: Insert, refused: Refused
) -> None:
    insert([{}, {}])
    made, kept = client.snapshot(filter=ALL_CONTACTS), client.snapshot(filter=ALL_CONTACTS)
    assert client.call("DeleteSnapshot", {"id": made.id}) == made
    assert refused(lambda: client.call("GetSnapshot", {"id": made.id})).info.reason == "SNAPSHOT_NOT_FOUND"
    timestamp = datetime.now(UTC)
    service.store.snapshot_sweeper.sweep(timestamp + timedelta(minutes=59), timestamp)
    assert rows(service, org) == 4, "streams that started before can finish"
    service.store.snapshot_sweeper.sweep(timestamp + timedelta(minutes=61), timestamp)
    service.store.snapshot_sweeper.sweep(timestamp + timedelta(minutes=61), timestamp)
    assert rows(service, org) == 2
    assert service.store.database["audience_snapshot"].count_documents({"pk": made.id}) == 0
    assert len(client.members(snapshotId=kept.id)) == 2
