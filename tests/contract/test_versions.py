"""What a segment's versions promise, and bringing them back, on every store."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from audience_service.domain import writes
from audience_service.domain.caller import Deadline
from audience_service.domain.segment import Segment
from audience_service.mongo import versions as kept_versions
from audience_service.mongo.segments import MongoSegments
from tests.client import Client, Refusal
from tests.conftest import Service

VIP = {"datatype": "contact", "where": {"tags": "vip"}}
MQL = {"datatype": "contact", "where": {"$and": [{"tags": {"$in": ["mql"]}}, {"score": {"$gte": 5}}]}}
NEVER = Deadline(None)
Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


def versions(client: Client, segment_id: str, size: int = 0) -> list[Any]:
    """All versions, page by page; the total must agree."""
    listed: list[Any] = []
    token = ""
    while True:
        request = {"id": segment_id, "pageSize": size, "pageToken": token}
        page = client.call("ListSegmentVersions", request)
        listed += page.versions
        token = page.next_page_token
        if not token:
            assert page.total_size == len(listed)
            return listed


def update(client: Client, segment_id: str, mask: str, **fields: Any) -> Any:
    """An update of the masked fields."""
    return client.call("UpdateSegment", {"segment": {"id": segment_id, **fields}, "updateMask": mask})


def test_versions_are_listed_newest_first_with_who_wrote_what_when(client: Client, service: Service, org: str) -> None:
    made = client.create(name="VIPs", description="first", filter=VIP)
    bob = service.client(org, subject="bob")
    renamed = update(bob, made.id, "name,description", name="Stars", description="second")
    filtered = update(client, made.id, "filter", filter=MQL)
    bob.call("DeleteSegment", {"id": made.id})
    deleted, third, second, first = versions(client, made.id)
    assert [v.version for v in (deleted, third, second, first)] == [3, 2, 1, 0]
    assert [v.subject for v in (deleted, third, second, first)] == ["bob", "tester", "bob", "tester"]
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
def test_pages_hold_every_version_once_with_the_same_changes(client: Client, size: int) -> None:
    made = client.create(name="0", filter=VIP)
    for number in range(1, 6):
        update(client, made.id, "name", name=str(number))
    listed = versions(client, made.id, size)
    assert [v.segment.name for v in listed] == ["5", "4", "3", "2", "1", "0"]
    assert [list(v.changed_fields) for v in listed] == [["name"]] * 5 + [[]]


def test_versions_written_between_two_pages_move_nothing(client: Client) -> None:
    made = client.create(name="0", filter=VIP)
    for number in (1, 2):
        update(client, made.id, "name", name=str(number))
    first = client.call("ListSegmentVersions", {"id": made.id, "pageSize": 2})
    update(client, made.id, "name", name="3")
    second = client.call("ListSegmentVersions", {"id": made.id, "pageSize": 2, "pageToken": first.next_page_token})
    assert [v.version for v in (*first.versions, *second.versions)] == [2, 1, 0]
    assert (second.next_page_token, second.total_size) == ("", 4)


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


def test_edits_of_a_list_at_once_are_a_version_each(client: Client, insert: Insert) -> None:
    ids = insert([{} for _ in range(24)])
    made = client.create(name="busy", type="static")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda pk: client.call("AddSegmentContacts", {"id": made.id, "contactIds": [pk]}), ids))
    assert client.call("GetSegment", {"id": made.id}).contact_count == len(ids)
    listed = versions(client, made.id)
    assert [v.version for v in listed] == [*range(len(ids), -1, -1)]
    assert {tuple(v.changed_fields) for v in listed[:-1]} == {("contacts",)}


def test_a_write_cut_short_between_its_two_steps_shows_nothing_false(
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


def test_a_writer_overtaken_between_its_two_steps_keeps_what_the_other_kept(
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


def test_versions_that_the_platform_wrote_are_gaps_and_name_nobody(client: Client, service: Service) -> None:
    made = client.create(name="VIPs", filter=VIP)
    update(client, made.id, "name", name="ours")
    collection = service.store.database["segment"]
    collection.update_one({"pk": made.id}, {"$set": {"version": 4, "name": "theirs", "data.name": "theirs"}})
    update(client, made.id, "description", description="ours again")
    listed = versions(client, made.id)
    assert [(v.version, v.segment.name, v.subject) for v in listed] == [
        (5, "theirs", "tester"),
        (4, "theirs", ""),
        (0, "VIPs", "tester"),
    ]
    assert [list(v.changed_fields) for v in listed] == [["description"], ["name"], []]


def test_a_record_that_the_platform_made_has_versions(client: Client, service: Service, org: str) -> None:
    record: dict[str, Any] = {
        "pk": f"segment-p{org}",
        "sk": f"{org}/segment/p",
        "author": "pam",
        "version": None,
        "state": None,
    }
    service.store.database["segment"].insert_one({**record, "data": {"name": "p", "filter": VIP}})
    assert [(v.version, v.subject) for v in versions(client, record["pk"])] == [(0, "pam")]
    update(client, record["pk"], "name", name="q")
    assert [(v.segment.name, v.subject) for v in versions(client, record["pk"])] == [("q", "tester"), ("p", "pam")]


def test_an_unknown_or_foreign_segment_has_no_versions(client: Client, service: Service, refused: Refused) -> None:
    foreign = service.client("versions-owner").create(name=client.metadata[1][1], filter=VIP)
    for rpc in ("ListSegmentVersions", "RestoreSegment"):
        for segment_id in (foreign.id, "segment-unknown", ""):
            refusal = refused(lambda rpc=rpc, segment_id=segment_id: client.call(rpc, {"id": segment_id}))
            assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "AUDIENCE_NOT_FOUND")


def test_a_deleted_segment_is_brought_back(client: Client, service: Service, org: str) -> None:
    made = client.create(name="VIPs", description="d", filter=MQL)
    client.call("DeleteSegment", {"id": made.id})
    restored = service.client(org, subject="bob").call("RestoreSegment", {"id": made.id})
    assert (restored.state, restored.version, restored.name, restored.filter) == ("active", 2, "VIPs", made.filter)
    assert client.call("GetSegment", {"id": made.id}) == restored
    [top, *_] = versions(client, made.id)
    assert (top.subject, list(top.changed_fields)) == ("bob", ["state"])


def test_a_version_is_brought_back(client: Client) -> None:
    made = client.create(name="VIPs", description="first", filter=VIP)
    update(client, made.id, "name,description,filter", name="Stars", description="", filter=MQL)
    restored = client.call("RestoreSegment", {"id": made.id, "restoreVersion": 0})
    assert (restored.name, restored.description, restored.version) == ("VIPs", "first", 2)
    assert MessageToDict(restored.filter) == VIP
    client.call("DeleteSegment", {"id": made.id})
    again = client.call("RestoreSegment", {"id": made.id, "restoreVersion": 1})
    assert (again.name, again.state, MessageToDict(again.filter)) == ("Stars", "active", MQL)


def test_a_living_segment_is_restored_to_a_version_that_it_has(client: Client, refused: Refused) -> None:
    made = client.create(name="VIPs", filter=VIP)
    assert refused(lambda: client.call("RestoreSegment", {"id": made.id})).fields == ["restore_version"]
    for version in (1, -1, 2**31 - 1):
        request = {"id": made.id, "restoreVersion": version}
        refusal = refused(lambda request=request: client.call("RestoreSegment", request))
        assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "VERSION_NOT_FOUND")
    assert client.call("GetSegment", {"id": made.id}) == made


def test_a_name_taken_meanwhile_is_not_taken_back(client: Client, refused: Refused) -> None:
    made = client.create(name="VIPs", filter=VIP)
    client.call("DeleteSegment", {"id": made.id})
    other = client.create(name="VIPs", filter=VIP)
    refusal = refused(lambda: client.call("RestoreSegment", {"id": made.id}))
    assert (refusal.code.name, refusal.info.reason) == ("ALREADY_EXISTS", "NAME_TAKEN")
    update(client, other.id, "name", name="Others")
    assert client.call("RestoreSegment", {"id": made.id}).name == "VIPs"
    update(client, made.id, "name", name="Mine")
    update(client, other.id, "name", name="VIPs")
    by_version = {"id": made.id, "restoreVersion": 0}
    assert refused(lambda: client.call("RestoreSegment", by_version)).info.reason == "NAME_TAKEN"


def test_a_restore_on_a_stale_version_is_refused(client: Client, refused: Refused) -> None:
    made = client.create(name="VIPs", filter=VIP)
    client.call("DeleteSegment", {"id": made.id})
    refusal = refused(lambda: client.call("RestoreSegment", {"id": made.id, "version": 0}))
    assert (refusal.code.name, refusal.info.reason) == ("ABORTED", "STALE_VERSION")
    assert client.call("RestoreSegment", {"id": made.id, "version": 1}).version == 2


def test_a_filter_that_no_longer_compiles_is_not_brought_back(
    client: Client, service: Service, org: str, refused: Refused
) -> None:
    odd = {"name": "odd", "filter": {"datatype": "contact", "where": {"$where": "1"}}}
    record: dict[str, Any] = {"pk": f"segment-odd{org}", "sk": f"{org}/segment/odd", "data": odd}
    service.store.database["segment"].insert_one(record)
    update(client, record["pk"], "filter", filter=VIP)
    refusal = refused(lambda: client.call("RestoreSegment", {"id": record["pk"], "restoreVersion": 0}))
    assert (refusal.code.name, refusal.info.reason) == ("INVALID_ARGUMENT", "INVALID_FILTER")


def test_a_static_segment_comes_back_with_its_list_as_it_is(client: Client, insert: Insert) -> None:
    ids = insert([{}, {}, {}])
    made = client.create(name="list", type="static", contactIds=ids[:1])
    client.call("AddSegmentContacts", {"id": made.id, "contactIds": ids})
    client.call("DeleteSegment", {"id": made.id})
    assert client.call("RestoreSegment", {"id": made.id, "restoreVersion": 0}).contact_count == 3
    assert client.count(audienceId=made.id) == 3


def test_a_segment_whose_audience_is_gone_is_not_brought_back(client: Client, refused: Refused) -> None:
    y = client.create(name="y", filter=VIP)
    z = client.create(name="z", filter={"datatype": "contact", "where": {"$inAudience": y.id}})
    for segment_id in (z.id, y.id):
        client.call("DeleteSegment", {"id": segment_id})
    refusal = refused(lambda: client.call("RestoreSegment", {"id": z.id}))
    assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "AUDIENCE_NOT_FOUND")
    assert [field.startswith("segment.filter.where") for field in refusal.fields] == [True]
    client.call("RestoreSegment", {"id": y.id})
    assert client.call("RestoreSegment", {"id": z.id}).state == "active"


def test_a_deleted_filter_outside_the_language_is_not_brought_back(
    client: Client, service: Service, org: str, refused: Refused
) -> None:
    odd = {"name": "odd", "filter": {"datatype": "contact", "where": {"$where": "1"}}}
    record: dict[str, Any] = {"pk": f"segment-odd{org}", "sk": f"{org}/segment/odd", "data": odd}
    service.store.database["segment"].insert_one(record)
    client.call("DeleteSegment", {"id": record["pk"]})
    assert refused(lambda: client.call("RestoreSegment", {"id": record["pk"]})).info.reason == "INVALID_FILTER"


@pytest.mark.parametrize("restore_version", [{}, {"restoreVersion": 1}])
def test_a_segment_comes_back_in_the_state_that_it_had(
    client: Client, service: Service, restore_version: dict[str, int]
) -> None:
    made = client.create(name="VIPs", filter=VIP)
    service.store.database["segment"].update_one({"pk": made.id}, {"$set": {"state": "archived", "version": 1}})
    client.call("DeleteSegment", {"id": made.id})
    assert client.call("RestoreSegment", {"id": made.id, **restore_version}).state == "archived"


def test_a_segment_that_the_platform_deleted_comes_back_active(client: Client, service: Service) -> None:
    made = client.create(name="VIPs", filter=VIP)
    service.store.database["segment"].update_one({"pk": made.id}, {"$set": {"state": "deleted", "version": 1}})
    assert client.call("RestoreSegment", {"id": made.id}).state == "active"
    service.store.database["segment"].update_one({"pk": made.id}, {"$set": {"state": "deleted", "version": 3}})
    assert client.call("RestoreSegment", {"id": made.id}).state == "active"


def test_an_edit_that_changes_nothing_of_a_list_writes_nothing(
    client: Client, service: Service, insert: Insert, refused: Refused
) -> None:
    ids = insert([{}, {}])
    made = client.create(name="list", type="static", contactIds=ids[:1])
    added = client.call("AddSegmentContacts", {"id": made.id, "contactIds": ids[:1]})
    removed = client.call("RemoveSegmentContacts", {"id": made.id, "contactIds": ids[1:]})
    assert (added.added_count, removed.removed_count) == (0, 0)
    assert added.segment == removed.segment == made
    assert [v.version for v in versions(client, made.id)] == [0]


@pytest.mark.parametrize("size", [1, 2, 3, 20])
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
    monkeypatch.setattr(kept_versions, "MAX_KEPT", 3)
    made, other = client.create(name="0", filter=VIP), client.create(name="other", filter=VIP)
    update(client, other.id, "description", description="x")
    for number in range(1, 6):
        update(client, made.id, "name", name=str(number))
    assert [v.segment.name for v in versions(client, made.id)] == ["5", "4", "3", "2"]
    assert service.store.database["segment_version"].count_documents({"pk": made.id}) == 3
    assert len(versions(client, other.id)) == 2
    refusal = refused(lambda: client.call("RestoreSegment", {"id": made.id, "restoreVersion": 1}))
    assert refusal.info.reason == "VERSION_NOT_FOUND"


@pytest.mark.parametrize("odd", ["3", 1.5, True, 2**31, 2**40, -1, {"$gt": 0}, [1]])
def test_a_version_that_is_none_is_written_over(client: Client, service: Service, odd: Any) -> None:
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
    monkeypatch.setattr(writes, "_RETRY_MILLIS", 1)
    monkeypatch.setattr(MongoSegments, "_write", lambda *_: False)
    refusal = refused(lambda: update(client, made.id, "name", name="never"))
    assert (refusal.code.name, refusal.info.reason) == ("ABORTED", "STALE_VERSION")


def test_a_version_whose_number_was_used_before_is_kept_in_its_place(client: Client, service: Service) -> None:
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
    kept_versions.keep_version(database, record, NEVER)
    client.call("AddSegmentContacts", {"id": made.id, "contactIds": [pk]})
    [kept] = database["segment_version"].find({"pk": made.id})
    assert kept == {**record, "_id": f"{record['sk']}/0"}
