"""Snapshots: how they are created, described and listed, on every store."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audience_service.domain.core.errors import StoreUnavailable
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.snapshots import rows, state_of

ALL_CONTACTS: dict[str, Any] = {"datatype": "contact", "where": {}}
VIP: dict[str, Any] = {"datatype": "contact", "where": {"tags": "vip"}}
Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


def test_the_manifest_states_sources_and_read_time(client: Client, insert: Insert) -> None:
    insert([{"data": {"tags": ["vip"]}}, {}])
    segment = client.create(name="vip", filter=VIP)
    client.call("UpdateSegment", {"segment": {"id": segment.id, "name": "VIPs"}, "updateMask": "name"})
    before = datetime.now(UTC)
    made = client.snapshot(audienceId=segment.id, name="launch", timeToLive="3600s")
    assert (made.name, made.datatype, made.count, made.author) == ("launch", "contact", 1, "tester")
    assert [(source.audience_id, source.version) for source in made.sources] == [(segment.id, 1)]
    assert made.sources[0].filter.where["tags"] == "vip"
    assert not made.HasField("filter")
    assert abs(made.read_time.ToDatetime(UTC) - before) < timedelta(seconds=10)
    assert made.expire_time.ToDatetime(UTC) - made.create_time.ToDatetime(UTC) == timedelta(hours=1)
    assert not made.point_in_time, "neither store of the tests is a replica set"
    assert (state_of(made), made.progress, made.error) == ("READY", 100, "")
    unsaved = client.snapshot(filter=VIP)
    assert unsaved.filter.where["tags"] == "vip"
    assert not unsaved.sources
    assert unsaved.expire_time.ToDatetime(UTC) - unsaved.create_time.ToDatetime(UTC) == timedelta(days=30)


@pytest.mark.slow
def test_the_digest_is_that_of_the_members_alone(client: Client, insert: Insert) -> None:
    ids = insert([{"id": f"{n * 7 % 20:02}", "data": {"n": n + 2}} for n in range(20)])
    listed = client.create(name="list", type="static", contactIds=ids[::-1])
    some = [client.snapshot(filter={"datatype": "contact", "where": {"n": {"$ne": n + 2}}}) for n in range(5)]
    all_contacts, the_same = client.snapshot(filter=ALL_CONTACTS), client.snapshot(audienceId=listed.id)
    assert all_contacts.digest == the_same.digest
    digests = {made.digest for made in [*some, all_contacts]}
    assert len(digests) == 6
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in digests)
    empty = client.snapshot(filter=VIP)
    assert (empty.count, empty.digest) == (0, "0" * 16)
    assert client.members(snapshotId=empty.id) == []


def test_a_repeated_request_answers_with_the_same_snapshot(
    client: Client, service: Service, org: str, insert: Insert, refused: Refused
) -> None:
    insert([{}])
    request = {"filter": ALL_CONTACTS, "name": "n", "requestId": "r1"}
    made = client.snapshot(**request)
    insert([{}])
    assert client.call("CreateSnapshot", request) == made
    refusal = refused(lambda: client.call("CreateSnapshot", {**request, "name": "other"}))
    assert (refusal.code.name, refusal.info.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    assert service.client(org, subject="another").snapshot(**request).id != made.id
    client.call("DeleteSnapshot", {"id": made.id})
    assert client.snapshot(**request).count == 2


def test_a_repeated_request_restarts_a_failed_snapshot(
    client: Client, service: Service, org: str, insert: Insert, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = insert([{}, {}])
    repository = type(service.store.snapshot_rows)
    write = repository.write

    def fails(*arguments: Any) -> Any:
        write(*arguments)
        raise StoreUnavailable("the database cannot be reached")

    monkeypatch.setattr(repository, "write", fails)
    request = {"filter": ALL_CONTACTS, "requestId": "r"}
    failed = client.created(client.call("CreateSnapshot", request))
    assert (state_of(failed), failed.error, failed.count) == (
        "FAILED",
        "STORE_UNAVAILABLE: the database cannot be reached",
        0,
    )
    assert failed.progress == 90, "it stays at the stage that failed"
    monkeypatch.setattr(repository, "write", write)
    again = client.call("CreateSnapshot", request)
    assert (again.id, state_of(again), again.progress, again.error) == (failed.id, "CREATING", 0, "")
    made = client.created(again)
    assert (state_of(made), made.progress, made.error) == ("READY", 100, "")
    assert client.members(snapshotId=made.id) == sorted(ids)
    later = datetime.now(UTC) + timedelta(days=1)
    assert rows(service, org) == 4
    service.store.snapshot_sweeper.sweep(later, later)
    assert rows(service, org) == 2
    assert client.members(snapshotId=made.id) == sorted(ids)


def test_snapshots_are_listed_newest_first_by_page_audience_and_state(
    client: Client, service: Service, insert: Insert, refused: Refused
) -> None:
    insert([{}])
    segment = client.create(name="all", filter=ALL_CONTACTS)
    made = [
        client.snapshot(**request).id
        for request in ({"audienceId": segment.id}, {"filter": ALL_CONTACTS})
        for _ in "ab"
    ]
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
    failed = client.call("ListSnapshots", {"creationState": "CREATION_STATE_FAILED"})
    assert [snapshot.id for snapshot in failed.snapshots] == made[:1]
    refusal = refused(lambda: client.call("ListSnapshots", {"creationState": 9}))
    assert (refusal.info.reason, refusal.fields) == ("INVALID_FIELD", ["creation_state"])


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({}, "filter"),
        ({"filter": ALL_CONTACTS, "name": "x" * 201}, "name"),
        ({"filter": ALL_CONTACTS, "timeToLive": "59s"}, "time_to_live"),
        ({"filter": ALL_CONTACTS, "timeToLive": f"{400_000_000}s"}, "time_to_live"),
        ({"filter": ALL_CONTACTS, "timeToLive": f"{315_576_000_000}s"}, "time_to_live"),
        ({"filter": ALL_CONTACTS, "requestId": "x" * 65}, "request_id"),
        ({"filter": {"datatype": "contact", "where": {"$bad": 1}}}, "filter.where.$bad"),
    ],
)
def test_a_bad_request_is_refused_with_its_field_path(
    client: Client, refused: Refused, request_: dict[str, Any], field: str
) -> None:
    assert refused(lambda: client.call("CreateSnapshot", request_)).fields == [field]
    assert client.call("ListSnapshots").total_size == 0


def test_no_org_sees_anothers_snapshots(
    client: Client, service: Service, org: str, insert: Insert, refused: Refused
) -> None:
    insert([{}])
    made = client.snapshot(filter=ALL_CONTACTS, requestId="r")
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
    assert other.snapshot(filter=ALL_CONTACTS, requestId="r").count == 0
    assert client.call("GetSnapshot", {"id": made.id}) == made


def test_create_returns_at_once_and_get_shows_each_stage_of_the_creation(
    client: Client, service: Service, insert: Insert, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The progress is 10 during the copy, 90 during the count, and 100 when READY."""
    ids = insert([{}, {}])
    repository = type(service.store.snapshot_rows)
    stages = {name: (threading.Event(), threading.Event()) for name in ("write", "summarize")}

    def pausing(name: str) -> Callable[..., Any]:
        original, (reached, resume) = getattr(repository, name), stages[name]

        def pause(*arguments: Any) -> Any:
            reached.set()
            assert resume.wait(40)
            return original(*arguments)

        return pause

    for name in stages:
        monkeypatch.setattr(repository, name, pausing(name))
    request = {"filter": ALL_CONTACTS, "requestId": "slow"}
    created = client.call("CreateSnapshot", request)
    assert (state_of(created), created.count) == ("CREATING", 0)
    for name, progress in (("write", 10), ("summarize", 90)):
        reached, resume = stages[name]
        assert reached.wait(40)
        found = client.call("GetSnapshot", {"id": created.id})
        assert (state_of(found), found.progress) == ("CREATING", progress)
        assert client.call("CreateSnapshot", request) == found, "its request does not start another attempt"
        resume.set()
    made = client.created(created)
    assert (state_of(made), made.progress, made.count) == ("READY", 100, 2)
    assert client.members(snapshotId=made.id) == sorted(ids)


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
    request = {"audienceIds": [vip, mql], "excludeAudienceIds": [out], "purpose": "email"}
    made = client.snapshot(**request)
    assert client.members(snapshotId=made.id) == sorted(ids[:3]) == client.members(**request)
    exclusions = {item.reason: item.count for item in made.exclusions}
    assert exclusions == {"excluded": 3, "complained": 0, "bounced": 0, "unsubscribed": 1}
    assert made.count == 3
    assert [source.audience_id for source in made.sources] == [vip, mql]
    assert [source.audience_id for source in made.excluded_sources] == [out]
    assert made.purpose == "email"
    assert made.digest == client.snapshot(**request).digest
    assert rows(real_service, org) == 14, "excluded contacts are stored next to the members"
    client.call("DeleteSnapshot", {"id": made.id})
    later = datetime.now(UTC) + timedelta(hours=2)
    real_service.store.snapshot_sweeper.sweep(later, later)
    assert rows(real_service, org) == 7
