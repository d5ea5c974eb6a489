"""What registered uses, references and the deletion that they forbid promise, on every store."""

from collections.abc import Callable
from typing import Any

import pytest

from audience_service.mongo.audiences import repository as use_repository
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.uses import refer, refer_many, register, release

VIP = {"datatype": "contact", "where": {"tags": "vip"}}
Refused = Callable[..., Refusal]


def test_a_use_is_registered_once_and_the_first_registration_wins(client: Client, service: Service, org: str) -> None:
    made = client.create(name="VIPs", filter=VIP)
    first = register(client, made.id, description="Spring sale")
    assert (first.registrant, first.description, first.HasField("create_time")) == ("tester", "Spring sale", True)
    again = register(service.client(org, subject="bob"), made.id, description="other")
    assert again.registrant == "tester"
    assert again.description == "Spring sale"
    register(client, made.id, kind="report")
    register(client, made.id, consumer_id="summer")
    usage = client.call("GetAudienceUsage", {"audienceId": made.id})
    assert [(use.consumer_kind, use.consumer_id) for use in usage.uses] == [
        ("campaign", "spring"),
        ("campaign", "summer"),
        ("report", "spring"),
    ]
    assert (usage.use_count, usage.segment_count, list(usage.segments)) == (3, 0, [])
    assert usage.uses[0].create_time.ToMilliseconds() == first.create_time.ToMilliseconds()


def test_releasing_is_idempotent(client: Client) -> None:
    made = client.create(name="VIPs", filter=VIP)
    register(client, made.id)
    register(client, made.id)
    assert not release(client, made.id, consumer_id="summer")
    assert release(client, made.id)
    assert not release(client, made.id)
    assert not release(client, "segment-unknown")
    assert client.call("GetAudienceUsage", {"audienceId": made.id}).use_count == 0


def test_similar_ids_are_distinct_uses(client: Client) -> None:
    made = client.create(name="VIPs", filter=VIP)
    ids = ["a", "A", "a/b", "a%2Fb", "a b", "ä", "%"]
    for consumer_id in ids:
        register(client, made.id, consumer_id=consumer_id)
    usage = client.call("GetAudienceUsage", {"audienceId": made.id})
    assert sorted(use.consumer_id for use in usage.uses) == sorted(ids)
    assert release(client, made.id, consumer_id="a/b")
    assert client.call("GetAudienceUsage", {"audienceId": made.id}).use_count == len(ids) - 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("consumer_kind", ""),
        ("consumer_kind", "Campaign"),
        ("consumer_kind", "x" * 65),
        ("consumer_kind", "campaign\n"),
        ("consumer_id", ""),
        ("consumer_id", "x" * 201),
        ("consumer_id", "a\nb"),
        ("description", "x" * 201),
    ],
)
def test_a_bad_use_is_refused_with_its_field_path(client: Client, refused: Refused, field: str, value: str) -> None:
    made = client.create(name="VIPs", filter=VIP)
    use = {"audience_id": made.id, "consumer_kind": "campaign", "consumer_id": "x", field: value}
    assert refused(lambda: client.call("RegisterUse", {"use": use})).fields == [f"use.{field}"]
    if field != "description":
        assert refused(lambda: client.call("ReleaseUse", use)).fields == [field]


def test_only_an_active_audience_of_the_org_can_be_used(client: Client, service: Service, refused: Refused) -> None:
    foreign = service.client("uses-owner").create(name=client.metadata[1][1], filter=VIP)
    deleted = client.create(name="deleted", filter=VIP)
    client.call("DeleteSegment", {"id": deleted.id})
    for audience_id in (foreign.id, deleted.id, "segment-unknown"):
        refusal = refused(lambda audience_id=audience_id: register(client, audience_id))
        assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "AUDIENCE_NOT_FOUND")
    for audience_id in (foreign.id, "segment-unknown", "custom-unknown", "snapshot-unknown"):
        refusal = refused(lambda audience_id=audience_id: client.call("GetAudienceUsage", {"audienceId": audience_id}))
        assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "AUDIENCE_NOT_FOUND")
    assert client.call("GetAudienceUsage", {"audienceId": deleted.id}).use_count == 0


def test_referring_segments_are_found_regardless_of_their_author(client: Client, service: Service, org: str) -> None:
    made = client.create(name="VIPs", filter=VIP)
    theirs = refer(service, org, "theirs", made.id)
    ours = refer(service, org, "ours", made.id)
    client.call("UpdateSegment", {"segment": {"id": ours, "name": "ours"}, "updateMask": "name"})
    refer(service, org, "gone", made.id, state="deleted")
    refer(service, org, "frozen", made.id, data={"type": "static"})
    refer(service, org, "elsewhere", "segment-elsewhere")
    refer(service, f"{org}2", "foreign", made.id)
    usage = client.call("GetAudienceUsage", {"audienceId": made.id})
    assert {(segment.id, segment.name) for segment in usage.segments} == {(theirs, "refers theirs"), (ours, "ours")}
    assert usage.segment_count == 2
    service.store.database["segment"].delete_many({"sk": {"$regex": f"^{org}2/"}})


def test_filter_changes_by_the_platform_update_references(client: Client, service: Service, org: str) -> None:
    first, second = client.create(name="1", filter=VIP), client.create(name="2", filter=VIP)
    refers = refer(service, org, "refers", first.id)
    client.call("UpdateSegment", {"segment": {"id": refers, "name": "noted"}, "updateMask": "name"})
    service.store.database["segment"].update_one(
        {"pk": refers}, {"$set": {"version": 2, "data.filter": {"where": {"$nor": [{"$inAudience": second.id}]}}}}
    )
    assert client.call("GetAudienceUsage", {"audienceId": first.id}).segment_count == 0
    assert [s.id for s in client.call("GetAudienceUsage", {"audienceId": second.id}).segments] == [refers]


def test_a_segment_that_refers_to_itself_does_not_keep_itself(client: Client, service: Service, org: str) -> None:
    itself = refer(service, org, "itself", f"segment-itself{org}")
    assert client.call("DeleteSegment", {"id": itself}).state == "deleted"


def test_a_segment_in_use_is_deleted_by_force_alone(
    client: Client, service: Service, org: str, refused: Refused
) -> None:
    made = client.create(name="VIPs", filter=VIP)
    register(client, made.id)
    register(client, made.id, kind="report")
    refer(service, org, "theirs", made.id)
    refusal = refused(lambda: client.call("DeleteSegment", {"id": made.id}))
    assert (refusal.code.name, refusal.info.reason) == ("FAILED_PRECONDITION", "AUDIENCE_IN_USE")
    assert dict(refusal.info.metadata) == {
        "uses": "2",
        "kinds": "campaign, report",
        "segments": "1",
        "segment_names": "refers theirs",
        "lookalikes": "0",
        "lookalike_names": "",
        "syncs": "0",
        "sync_names": "",
    }
    assert client.call("GetSegment", {"id": made.id}) == made
    assert client.call("DeleteSegment", {"id": made.id, "force": True}).state == "deleted"
    usage = client.call("GetAudienceUsage", {"audienceId": made.id})
    assert (usage.use_count, usage.segment_count) == (2, 1)
    assert release(client, made.id)


def test_a_segment_is_deleted_once_its_use_has_ended(client: Client, service: Service, org: str) -> None:
    made = client.create(name="VIPs", filter=VIP)
    register(client, made.id)
    refers = refer(service, org, "refers", made.id)
    release(client, made.id)
    client.call("UpdateSegment", {"segment": {"id": refers, "filter": VIP}, "updateMask": "filter"})
    assert client.call("DeleteSegment", {"id": made.id}).state == "deleted"


def test_a_stale_deletion_is_stale_before_it_is_refused_for_use(client: Client, refused: Refused) -> None:
    made = client.create(name="VIPs", filter=VIP)
    register(client, made.id)
    assert refused(lambda: client.call("DeleteSegment", {"id": made.id, "version": 7})).info.reason == "STALE_VERSION"
    assert refused(lambda: client.call("DeleteSegment", {"id": "segment-x"})).info.reason == "AUDIENCE_NOT_FOUND"


@pytest.mark.slow
def test_consumer_lists_are_truncated_and_fully_counted(client: Client, service: Service, org: str) -> None:
    made = client.create(name="VIPs", filter=VIP)
    word = register(client, made.id, description="ü" * 200)
    [record] = service.store.database["audience_use"].find({"audience": made.id})
    keys = [f"{record['sk']}{number}" for number in range(1_200)]
    many = [{**record, "_id": key, "sk": key, "consumer_id": "ü" * 200} for key in keys]
    service.store.database["audience_use"].insert_many(many)
    refer_many(service, org, map(str, range(1_005)), made.id, data={"name": "ü" * 300})
    usage = client.call("GetAudienceUsage", {"audienceId": made.id})
    assert (usage.use_count, len(usage.uses), usage.uses[0]) == (1_201, 1_000, word)
    assert (usage.segment_count, len(usage.segments)) == (1_005, 1_000)
    assert usage.ByteSize() < 4 * 1024 * 1024


@pytest.mark.slow
def test_a_reference_among_many_filters_of_the_platform_is_found(client: Client, service: Service, org: str) -> None:
    """None of them has stored references, so each filter is read."""
    made = client.create(name="VIPs", filter=VIP)
    refer_many(service, org, (f"{number:05}" for number in range(10_000)), "segment-else")
    last = refer(service, org, "99999", made.id)
    usage = client.call("GetAudienceUsage", {"audienceId": made.id})
    assert [segment.id for segment in usage.segments] == [last]


def test_ids_that_differ_by_a_slash_position_are_two_uses(client: Client, service: Service, org: str) -> None:
    outer, inner = f"segment-p{org}", f"segment-p{org}/report"
    for key in ("p", "q"):
        pk = {"p": outer, "q": inner}[key]
        service.store.database["segment"].insert_one({"pk": pk, "sk": f"{org}/segment/{key}", "data": {"filter": VIP}})
    register(client, outer, kind="report", consumer_id="report/x")
    register(client, inner, kind="report", consumer_id="x")
    for audience_id in (outer, inner):
        assert client.call("GetAudienceUsage", {"audienceId": audience_id}).use_count == 1


def test_a_partly_withdrawn_use_is_unregistered(client: Client, service: Service, raced: str) -> None:
    register(client, raced)
    service.store.database["audience_use"].update_one({"audience": raced}, {"$set": {"registration_count": 0}})
    usage = client.call("GetAudienceUsage", {"audienceId": raced})
    assert (usage.use_count, list(usage.uses)) == (0, [])
    assert client.call("DeleteSegment", {"id": raced}).state == "deleted"


def test_only_names_of_scanned_segments_are_kept_in_memory(
    client: Client, service: Service, org: str, raced: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refer(service, org, "theirs", raced)
    seen_records: list[Any] = []
    original = use_repository._audience_name

    def name(record: Any) -> Any:
        seen_records.append(record)
        return original(record)

    monkeypatch.setattr(use_repository, "_audience_name", name)
    assert client.call("GetAudienceUsage", {"audienceId": raced}).segment_count == 1
    assert [record["data"] for record in seen_records] == [{"name": "refers theirs"}]
