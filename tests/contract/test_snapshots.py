"""What snapshots promise, on every store."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from audience_service.domain.errors import StoreUnavailable
from audience_service.mongo import joins
from tests.client import Client, Refusal
from tests.conftest import Service
from tests.waiting import eventually

EVERYONE: dict[str, Any] = {"datatype": "contact", "where": {}}
VIP: dict[str, Any] = {"datatype": "contact", "where": {"tags": "vip"}}
Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


def rows(service: Service, org: str) -> int:
    """How many rows of snapshots the org has."""
    scope = {"$gte": f"{org}/", "$lt": f"{org}0"}
    return int(service.store.database["audience_member"].count_documents({"sk": scope, "expire_at": {"$ne": None}}))


def test_a_snapshot_holds_who_was_in_whatever_becomes_of_them(
    client: Client, service: Service, org: str, insert: Insert
) -> None:
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
    told = {member.id: MessageToDict(member.fields) for message in messages for member in message.members}
    assert told == {found: {"pk": found, **({"email": f"{n}@example.com"} if n else {})} for n, found in enumerate(ids)}


def test_the_manifest_says_what_was_frozen_and_when(client: Client, insert: Insert) -> None:
    insert([{"data": {"tags": ["vip"]}}, {}])
    segment = client.create(name="vip", filter=VIP)
    client.call("UpdateSegment", {"segment": {"id": segment.id, "name": "VIPs"}, "updateMask": "name"})
    before = datetime.now(UTC)
    made = client.snapshot(audienceId=segment.id, name="launch", timeToLive="3600s")
    assert (made.name, made.datatype, made.count, made.author) == ("launch", "contact", 1, "tester")
    assert [(source.audience_id, source.version) for source in made.sources] == [(segment.id, 1)]
    assert made.sources[0].filter.where["tags"] == "vip"
    assert not made.HasField("filter")
    assert abs(made.read_at.ToDatetime(UTC) - before) < timedelta(seconds=10)
    assert made.expire_time.ToDatetime(UTC) - made.create_time.ToDatetime(UTC) == timedelta(hours=1)
    assert not made.one_instant, "neither store of the tests is a replica set"
    assert client.call("GetSnapshot", {"id": made.id}) == made
    unsaved = client.snapshot(filter=VIP)
    assert unsaved.filter.where["tags"] == "vip"
    assert not unsaved.sources
    assert unsaved.expire_time.ToDatetime(UTC) - unsaved.create_time.ToDatetime(UTC) == timedelta(days=30)


def test_the_digest_is_that_of_the_members_alone(client: Client, insert: Insert) -> None:
    ids = insert([{"id": f"{n * 7 % 20:02}", "data": {"n": n + 2}} for n in range(20)])
    listed = client.create(name="list", type="static", contactIds=ids[::-1])
    some = [client.snapshot(filter={"datatype": "contact", "where": {"n": {"$ne": n + 2}}}) for n in range(5)]
    everyone, the_same = client.snapshot(filter=EVERYONE), client.snapshot(audienceId=listed.id)
    assert everyone.digest == the_same.digest
    digests = {made.digest for made in [*some, everyone]}
    assert len(digests) == 6
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in digests)
    nobody = client.snapshot(filter=VIP)
    assert (nobody.count, nobody.digest) == (0, "0" * 16)
    assert client.members(snapshotId=nobody.id) == []


def test_a_repeated_request_answers_with_the_same_snapshot(
    client: Client, service: Service, org: str, insert: Insert, refused: Refused
) -> None:
    insert([{}])
    request = {"filter": EVERYONE, "name": "n", "requestId": "r1"}
    made = client.snapshot(**request)
    insert([{}])
    assert client.snapshot(**request) == made
    refusal = refused(lambda: client.call("CreateSnapshot", {**request, "name": "other"}))
    assert (refusal.code.name, refusal.info.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    assert service.client(org, subject="another").snapshot(**request).id != made.id
    client.call("DeleteSnapshot", {"id": made.id})
    assert client.snapshot(**request).count == 2


def test_a_failed_one_is_made_anew_by_its_request(
    client: Client, service: Service, org: str, insert: Insert, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = insert([{}, {}])
    frozen = type(service.store.frozen)
    measure = frozen._measure  # type: ignore[attr-defined]

    def fails(*_: object) -> Any:
        raise StoreUnavailable("the database cannot be reached")

    monkeypatch.setattr(frozen, "_measure", fails)
    request = {"filter": EVERYONE, "requestId": "r"}
    failed = client.call("CreateSnapshot", request)
    assert (failed.state, failed.failure, failed.count) == ("FAILED", "the database cannot be reached", 0)
    monkeypatch.setattr(frozen, "_measure", measure)
    made = client.snapshot(**request)
    assert (made.id, made.failure) == (failed.id, "")
    assert client.members(snapshotId=made.id) == sorted(ids)
    later = datetime.now(UTC) + timedelta(days=1)
    assert rows(service, org) == 4
    service.store.sweeper.sweep(later, later)
    assert rows(service, org) == 2
    assert client.members(snapshotId=made.id) == sorted(ids)


@pytest.mark.parametrize("state", ["CREATING", "FAILED"])
def test_nothing_is_read_of_one_that_is_not_ready(
    client: Client, service: Service, insert: Insert, refused: Refused, state: str
) -> None:
    insert([{}])
    made = client.snapshot(filter=EVERYONE)
    service.store.database["audience_snapshot"].update_one({"pk": made.id}, {"$set": {"state": state}})
    refusal = refused(lambda: client.call("StreamMembers", {"snapshotId": made.id}))
    assert (refusal.code.name, refusal.info.reason) == ("FAILED_PRECONDITION", "SNAPSHOT_NOT_READY")
    assert dict(refusal.info.metadata) == {"id": made.id, "state": state}
    refusal = refused(lambda: client.call("EstimateReach", {"audienceId": made.id}))
    assert refusal.info.reason == "UNUSABLE_AUDIENCE"
    assert client.call("GetSnapshot", {"id": made.id}).state == state


def test_an_expired_one_is_not_there_even_before_it_is_swept(
    client: Client, service: Service, insert: Insert, refused: Refused
) -> None:
    insert([{}])
    request = {"filter": EVERYONE, "requestId": "r"}
    made = client.snapshot(**request)
    past = datetime.now(UTC) - timedelta(seconds=1)
    service.store.database["audience_snapshot"].update_one({"pk": made.id}, {"$set": {"expire_at": past}})
    for rpc, asked in (("GetSnapshot", "id"), ("StreamMembers", "snapshotId"), ("DeleteSnapshot", "id")):
        refusal = refused(lambda rpc=rpc, asked=asked: client.call(rpc, {asked: made.id}))
        assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "SNAPSHOT_NOT_FOUND")
    assert client.call("ListSnapshots").total_size == 0
    assert client.snapshot(**request).id != made.id


@pytest.mark.parametrize("other_is", ["about to insert", "done"])
def test_a_request_repeated_twice_at_once_after_its_snapshot_expired_makes_one(
    client: Client, service: Service, insert: Insert, monkeypatch: pytest.MonkeyPatch, other_is: str
) -> None:
    insert([{}])
    request = {"filter": EVERYONE, "requestId": "r"}
    expired = client.snapshot(**request)
    collection = service.store.database["audience_snapshot"]
    past = datetime.now(UTC) - timedelta(seconds=1)
    collection.update_one({"pk": expired.id}, {"$set": {"expire_at": past}})
    made_by_other: list[Any] = []

    class Beside:
        """The collection, where another process has just deleted the expired one."""

        def __getattr__(self, name: str) -> Any:
            return getattr(collection, name)

        def delete_one(self, match: Any) -> Any:
            monkeypatch.undo()
            collection.delete_one(match)
            if other_is == "done":
                made_by_other.append(client.snapshot(**request))
            return collection.delete_one(match)

    monkeypatch.setattr(service.store.snapshots, "_collection", Beside())
    made = client.snapshot(**request)
    assert made.id != expired.id
    assert made_by_other in ([], [made])
    assert client.call("ListSnapshots").total_size == 1


def test_the_rows_outlive_the_manifest_by_an_hour(client: Client, service: Service, org: str, insert: Insert) -> None:
    insert([{}])
    made = client.snapshot(filter=EVERYONE, timeToLive="60s")
    [row] = service.store.database["audience_member"].find({"sk": {"$regex": f"^{org}/"}})
    assert row["expire_at"] - made.expire_time.ToDatetime(UTC).replace(microsecond=0) < timedelta(minutes=61)
    assert row["expire_at"] - made.expire_time.ToDatetime(UTC) >= timedelta(minutes=59)


def test_a_deleted_one_is_gone_with_its_members(
    client: Client, service: Service, org: str, insert: Insert, refused: Refused
) -> None:
    insert([{}, {}])
    made, kept = client.snapshot(filter=EVERYONE), client.snapshot(filter=EVERYONE)
    assert client.call("DeleteSnapshot", {"id": made.id}) == made
    assert refused(lambda: client.call("GetSnapshot", {"id": made.id})).info.reason == "SNAPSHOT_NOT_FOUND"
    moment = datetime.now(UTC)
    service.store.sweeper.sweep(moment + timedelta(minutes=59), moment)
    assert rows(service, org) == 4, "whoever had begun to read it reads all of it"
    service.store.sweeper.sweep(moment + timedelta(minutes=61), moment)
    service.store.sweeper.sweep(moment + timedelta(minutes=61), moment)
    assert rows(service, org) == 2
    assert service.store.database["audience_snapshot"].count_documents({"pk": made.id}) == 0
    assert len(client.members(snapshotId=kept.id)) == 2


@pytest.mark.parametrize("how", ["inline", "looked up"])
def test_those_of_a_snapshot_deleted_meanwhile_are_left_out_all_the_same(
    client: Client, service: Service, insert: Insert, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    insert([{} for _ in range(3)])
    reached = client.snapshot(filter=EVERYONE)
    fresh = insert([{}])
    if how == "looked up":
        monkeypatch.setattr(joins, "INLINE_BYTES", 10)
    members = type(service.store.members)
    original = members.stream

    def stream(*arguments: Any) -> Any:
        client.call("DeleteSnapshot", {"id": reached.id})
        return original(*arguments)

    monkeypatch.setattr(members, "stream", stream)
    assert client.members(filter=EVERYONE, excludeAudienceIds=[reached.id]) == fresh


@pytest.mark.parametrize("asked", [{}, {"partition": {"index": 0, "count": 1}}, {"purpose": "email"}])
def test_a_stream_whose_snapshot_expires_midway_ends_with_its_totals_unless_rows_are_missing(
    client: Client, service: Service, insert: Insert, monkeypatch: pytest.MonkeyPatch, refused: Refused, asked: Any
) -> None:
    ids = insert([{}, {}])
    database, members = service.store.database, type(service.store.members)
    original = members.stream
    missing = 0

    def stream(*arguments: Any) -> Any:
        past = datetime.now(UTC) - timedelta(seconds=1)
        database["audience_snapshot"].update_one({"pk": made.id}, {"$set": {"expire_at": past}})
        for row in database["audience_member"].find({"audience": f"{made.id}.1"}, limit=missing) if missing else ():
            database["audience_member"].delete_one({"_id": row["_id"]})
        return original(*arguments)

    monkeypatch.setattr(members, "stream", stream)
    made = client.snapshot(filter=EVERYONE)
    assert client.members(snapshotId=made.id, **asked) == sorted(ids)
    made, missing = client.snapshot(filter=EVERYONE), 1
    refusal = refused(lambda: client.call("StreamMembers", {"snapshotId": made.id, **asked}))
    assert refusal.info.reason == "SNAPSHOT_NOT_FOUND"


def test_a_stream_whose_snapshot_goes_midway_does_not_end_as_if_whole(
    client: Client, insert: Insert, refused: Refused
) -> None:
    insert([{} for _ in range(10)])
    made = client.snapshot(filter=EVERYONE)
    first = next(iter(client.call("StreamMembers", {"snapshotId": made.id, "batchSize": 2})))
    client.call("DeleteSnapshot", {"id": made.id})
    rest = {"snapshotId": made.id, "batchSize": 2, "cursor": first.cursor}
    assert refused(lambda: client.call("StreamMembers", rest)).info.reason == "SNAPSHOT_NOT_FOUND"


def test_rows_that_are_missing_end_a_stream_without_totals(
    client: Client, service: Service, org: str, insert: Insert, refused: Refused
) -> None:
    insert([{}, {}])
    made = client.snapshot(filter=EVERYONE)
    service.store.database["audience_member"].delete_one({"sk": {"$regex": f"^{org}/"}})
    assert refused(lambda: client.call("StreamMembers", {"snapshotId": made.id})).code.name == "INTERNAL"


def test_a_stream_of_a_snapshot_resumes_behind_any_cursor(client: Client, insert: Insert, refused: Refused) -> None:
    ids = sorted(insert([{} for _ in range(7)]))
    made = client.snapshot(filter=EVERYONE)
    messages = list(client.call("StreamMembers", {"snapshotId": made.id, "batchSize": 2}))
    seen = 0
    for message in messages:
        seen += len(message.members)
        rest = list(client.call("StreamMembers", {"snapshotId": made.id, "cursor": message.cursor}))
        assert [m.id for again in rest for m in again.members] == ids[seen:]
        assert rest[-1].totals.member_count == 7
    other = client.snapshot(filter=EVERYONE)
    wrong = {"snapshotId": other.id, "cursor": messages[0].cursor}
    assert refused(lambda: client.call("StreamMembers", wrong)).info.reason == "INVALID_PAGE_TOKEN"


def test_snapshots_are_listed_newest_first_by_page_audience_and_state(
    client: Client, service: Service, insert: Insert, refused: Refused
) -> None:
    insert([{}])
    segment = client.create(name="all", filter=EVERYONE)
    made = [client.snapshot(**asked).id for asked in ({"audienceId": segment.id}, {"filter": EVERYONE}) for _ in "ab"]
    service.store.database["audience_snapshot"].update_one({"pk": made[0]}, {"$set": {"state": "FAILED"}})
    found: list[str] = []
    token = ""
    while True:
        page = client.call("ListSnapshots", {"pageSize": 1, "pageToken": token})
        assert page.total_size == 4
        found += [snapshot.id for snapshot in page.snapshots]
        token = page.next_page_token
        if not token:
            break
    assert found == made[::-1]
    of_audience = client.call("ListSnapshots", {"audienceId": segment.id})
    assert [snapshot.id for snapshot in of_audience.snapshots] == made[1::-1]
    failed = client.call("ListSnapshots", {"state": "FAILED"})
    assert [snapshot.id for snapshot in failed.snapshots] == made[:1]
    refusal = refused(lambda: client.call("ListSnapshots", {"state": "failed"}))
    assert (refusal.info.reason, refusal.fields) == ("INVALID_FIELD", ["state"])


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({}, "filter"),
        ({"filter": EVERYONE, "name": "x" * 201}, "name"),
        ({"filter": EVERYONE, "timeToLive": "59s"}, "time_to_live"),
        ({"filter": EVERYONE, "timeToLive": f"{400_000_000}s"}, "time_to_live"),
        ({"filter": EVERYONE, "requestId": "x" * 65}, "request_id"),
        ({"filter": {"datatype": "contact", "where": {"$bad": 1}}}, "filter.where.$bad"),
    ],
)
def test_a_bad_request_is_refused_with_its_place(
    client: Client, refused: Refused, request_: dict[str, Any], field: str
) -> None:
    assert refused(lambda: client.call("CreateSnapshot", request_)).fields == [field]
    assert client.call("ListSnapshots").total_size == 0


def test_no_org_sees_anothers_snapshots(
    client: Client, service: Service, org: str, insert: Insert, refused: Refused
) -> None:
    insert([{}])
    made = client.snapshot(filter=EVERYONE, requestId="r")
    other = service.client(f"{org}2")
    for rpc, request, reason in (
        ("GetSnapshot", {"id": made.id}, "SNAPSHOT_NOT_FOUND"),
        ("DeleteSnapshot", {"id": made.id}, "SNAPSHOT_NOT_FOUND"),
        ("StreamMembers", {"snapshotId": made.id}, "SNAPSHOT_NOT_FOUND"),
        ("EstimateReach", {"audienceId": made.id}, "AUDIENCE_NOT_FOUND"),
        ("CreateSnapshot", {"audienceId": made.id}, "AUDIENCE_NOT_FOUND"),
    ):
        refusal = refused(lambda rpc=rpc, request=request: other.call(rpc, request))
        assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", reason)
    assert other.call("ListSnapshots").total_size == 0
    assert other.snapshot(filter=EVERYONE, requestId="r").count == 0
    assert client.call("GetSnapshot", {"id": made.id}) == made


def test_a_call_that_ends_early_does_not_end_the_making(
    client: Client, service: Service, insert: Insert, monkeypatch: pytest.MonkeyPatch
) -> None:

    ids = insert([{}, {}])
    frozen, go_on = type(service.store.frozen), threading.Event()
    original = frozen.freeze

    def patient(*arguments: Any) -> Any:
        assert go_on.wait(20)
        return original(*arguments)

    monkeypatch.setattr(frozen, "freeze", patient)
    request = {"filter": EVERYONE, "requestId": "slow"}
    early = client.call("CreateSnapshot", request, timeout=1)
    assert early.state == "CREATING"
    again = client.call("CreateSnapshot", request, timeout=1)
    assert (again.id, again.state) == (early.id, "CREATING")
    go_on.set()
    eventually(lambda: client.call("GetSnapshot", {"id": early.id}).state == "READY")
    assert client.members(snapshotId=early.id) == sorted(ids)


def test_a_union_less_exclusions_adds_up(real_service: Service) -> None:
    org = "frozen-union"
    client = real_service.client(org)
    tags = [["vip"], ["vip", "mql"], ["mql"], ["vip", "out"], ["mql", "out"], ["vip"], ["vip", "out"], []]
    status = [None, None, None, None, None, "unsubscribed", "complained", None]
    ids = real_service.insert(
        org,
        [
            {"data": {"tags": tag, **({"status": state} if state else {})}}
            for tag, state in zip(tags, status, strict=True)
        ],
    )
    vip, mql, out = (
        client.create(name=tag, filter={"datatype": "contact", "where": {"tags": tag}}).id
        for tag in ("vip", "mql", "out")
    )
    asked = {"audienceIds": [vip, mql], "excludeAudienceIds": [out], "purpose": "email"}
    made = client.snapshot(**asked)
    assert client.members(snapshotId=made.id) == sorted(ids[:3]) == client.members(**asked)
    told = {item.reason: item.count for item in made.exclusions}
    assert told == {"excluded": 3, "complained": 0, "bounced": 0, "unsubscribed": 1}
    assert made.count == 3
    assert [source.audience_id for source in made.sources] == [vip, mql]
    assert [source.audience_id for source in made.excluded_sources] == [out]
    assert made.purpose == "email"
    assert made.digest == client.snapshot(**asked).digest
    assert rows(real_service, org) == 14, "those left out are kept beside the members"
    client.call("DeleteSnapshot", {"id": made.id})
    later = datetime.now(UTC) + timedelta(hours=2)
    real_service.store.sweeper.sweep(later, later)
    assert rows(real_service, org) == 7


def test_those_gone_of_a_snapshot_are_left_out_where_others_are(
    client: Client, service: Service, insert: Insert
) -> None:
    ids = sorted(insert([{"data": {"tags": ["out"] if n == 3 else []}} for n in range(6)]))
    out = client.create(name="out", filter={"datatype": "contact", "where": {"tags": "out"}}).id
    made = client.snapshot(filter=EVERYONE)
    [out_id] = client.members(audienceId=out)
    gone = [found for found in ids if found != out_id][:2]
    service.store.database["contact"].delete_one({"pk": gone[0]})
    service.store.database["contact"].update_one({"pk": gone[1]}, {"$set": {"state": "archived"}})
    assert client.members(snapshotId=made.id) == ids
    asked = {"snapshotId": made.id, "excludeAudienceIds": [out]}
    assert client.members(**asked) == [found for found in ids if found not in (*gone, out_id)]
    *_, last = client.call("StreamMembers", asked)
    assert [(item.reason, item.count) for item in last.totals.exclusions] == [("gone", 2), ("excluded", 1)]


def test_a_snapshot_is_left_out_of_others(client: Client, insert: Insert) -> None:
    insert([{} for _ in range(3)])
    reached = client.snapshot(filter=EVERYONE)
    fresh = insert([{}, {}])
    asked = {"filter": EVERYONE, "excludeAudienceIds": [reached.id]}
    assert client.members(**asked) == sorted(fresh)
    made = client.snapshot(**asked)
    assert (made.count, [(item.reason, item.count) for item in made.exclusions]) == (2, [("excluded", 3)])


def test_parts_of_a_snapshot_make_it_up(client: Client, insert: Insert) -> None:
    ids = sorted(insert([{} for _ in range(20)]))
    made = client.snapshot(filter=EVERYONE)
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
                made = client.snapshot(filter=EVERYONE, excludeAudienceIds=[out])
                assert len(client.members(snapshotId=made.id)) == made.count
                assert made.count + made.exclusions[0].count == 1_000
        finally:
            stop.set()
        writer.result()
