"""What is kept of a segment's versions, by writers that compete or are cut short too, on every store."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from audience_service.domain.core.context import Deadline
from audience_service.domain.segments.model import Segment
from audience_service.mongo.segments import versions as versions_module
from audience_service.mongo.segments.repository import MongoSegments
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.versions import update, versions

VIP = {"datatype": "contact", "where": {"tags": "vip"}}
MQL = {"datatype": "contact", "where": {"$and": [{"tags": {"$in": ["mql"]}}, {"score": {"$gte": 5}}]}}
NEVER = Deadline(None)
Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


def test_writers_that_compete_keep_the_same_versions(client: Client, service: Service) -> None:
    made = client.create(name="busy", filter=MQL)
    numbers = [str(number) for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: update(client, made.id, "description", description=text), numbers))
    listed = versions(client, made.id)
    assert [v.version for v in listed] == [*range(16, -1, -1)]
    assert sorted(v.segment.description for v in listed[:-1]) == sorted(numbers)
    current = service.store.segments.get(client.metadata[1][1], made.id, NEVER)
    assert service.store.database["segment_version"].count_documents({"pk": made.id}) == current.version


def test_concurrent_list_edits_are_one_version_each(client: Client, insert: Insert) -> None:
    ids = insert([{} for _ in range(24)])
    made = client.create(name="busy", type="static")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda pk: client.call("AddSegmentContacts", {"id": made.id, "contactIds": [pk]}), ids))
    assert client.call("GetSegment", {"id": made.id}).contact_count == len(ids)
    listed = versions(client, made.id)
    assert [v.version for v in listed] == [*range(len(ids), -1, -1)]
    assert {tuple(v.changed_fields) for v in listed[:-1]} == {("contacts",)}


def test_an_interrupted_write_shows_no_false_version(
    client: Client, service: Service, org: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = client.create(name="VIPs", filter=VIP)

    def fail(*_: object) -> bool:
        raise ConnectionError("cut short")

    with monkeypatch.context() as patch:
        patch.setattr(MongoSegments, "_write", fail)
        with pytest.raises(ConnectionError):
            service.store.segments.save(org, service.store.segments.get(org, made.id, NEVER), NEVER)
    assert service.store.database["segment_version"].count_documents({"pk": made.id}) == 1
    assert [v.version for v in versions(client, made.id)] == [0]
    assert client.call("GetSegment", {"id": made.id}) == made
    update(client, made.id, "name", name="Stars")
    assert [v.segment.name for v in versions(client, made.id)] == ["Stars", "VIPs"]


def test_a_writer_that_loses_the_race_keeps_the_other_version(
    real_service: Service, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    # On the embedded store calls take turns: none overtakes another.
    org = f"overtaken{next(real_service.names)}"
    client = real_service.client(org)
    made = client.create(name="VIPs", filter=VIP)
    original = MongoSegments._write
    overtaken: list[Segment] = []

    def late(self: MongoSegments, *arguments: Any) -> bool:
        if not overtaken:
            overtaken.append(real_service.store.segments.get(org, made.id, NEVER))
            update(client, made.id, "name", name="first")
        return original(self, *arguments)

    monkeypatch.setattr(MongoSegments, "_write", late)
    stale = {"segment": {"id": made.id, "name": "second", "version": 0}, "updateMask": "name"}
    assert refused(lambda: client.call("UpdateSegment", stale)).info.reason == "STALE_VERSION"
    assert [v.segment.name for v in versions(client, made.id)] == ["first", "VIPs"]


@pytest.mark.parametrize("size", [1, 2, 3, 20])
@pytest.mark.slow
def test_edits_of_a_list_keep_no_copies_of_its_filter(
    client: Client, service: Service, org: str, insert: Insert, size: int
) -> None:
    ids = insert([{} for _ in range(6)])
    large = {"datatype": "contact", "where": {"email": {"$in": [f"{number}@example.com" for number in range(5_000)]}}}
    made = client.create(name="list", type="static", filter=large)
    for number, pk in enumerate(ids):
        client.call("AddSegmentContacts", {"id": made.id, "contactIds": [pk]})
        if number == 2:
            update(client, made.id, "name", name="renamed")
    kept = list(service.store.database["segment_version"].find({"pk": made.id}, sort=[("version", 1)]))
    assert ["filter" in record["data"] for record in kept] == [False, False, False, True, False, False, False]
    listed = versions(client, made.id, size)
    assert [v.version for v in listed] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert all(v.segment.filter == made.filter for v in listed)
    assert [list(v.changed_fields) for v in listed] == [["contacts"]] * 3 + [["name"]] + [["contacts"]] * 3 + [[]]
    for version in (0, 5):
        stored = service.store.versions.get(org, made.id, version, NEVER)
        assert stored.filter.where == service.store.segments.get(org, made.id, NEVER).filter.where


def test_versions_are_kept_up_to_a_bound_the_newest_of_them(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setattr(versions_module, "MAX_VERSIONS", 3)
    made, other = client.create(name="0", filter=VIP), client.create(name="other", filter=VIP)
    update(client, other.id, "description", description="x")
    for number in range(1, 6):
        update(client, made.id, "name", name=str(number))
    assert [v.segment.name for v in versions(client, made.id)] == ["5", "4", "3", "2"]
    assert service.store.database["segment_version"].count_documents({"pk": made.id}) == 3
    assert len(versions(client, other.id)) == 2
    refusal = refused(lambda: client.call("RollbackSegment", {"id": made.id, "targetVersion": 1}))
    assert refusal.info.reason == "VERSION_NOT_FOUND"


def test_a_reused_version_number_replaces_the_old_entry(client: Client, service: Service) -> None:
    made = client.create(name="0", filter=VIP)
    for number in (1, 2, 3):
        update(client, made.id, "name", name=str(number))
    reset = {"version": 1, "name": "reset", "data.name": "reset"}
    service.store.database["segment"].update_one({"pk": made.id}, {"$set": reset})
    update(client, made.id, "name", name="after")
    assert [v.segment.name for v in versions(client, made.id)] == ["after", "reset", "0"]
    update(client, made.id, "name", name="later")
    assert [v.segment.name for v in versions(client, made.id)] == ["later", "after", "reset", "0"]


def test_a_kept_version_that_says_the_same_stays_as_it_is(client: Client, service: Service, insert: Insert) -> None:
    made = client.create(name="list", type="static", filter=VIP)
    [pk] = insert([{}])
    database = service.store.database
    record = database["segment"].find_one({"pk": made.id})
    assert record is not None
    versions_module.store_version(database, record, NEVER)
    client.call("AddSegmentContacts", {"id": made.id, "contactIds": [pk]})
    [kept] = database["segment_version"].find({"pk": made.id})
    assert kept == {**record, "_id": f"{record['sk']}/0"}
