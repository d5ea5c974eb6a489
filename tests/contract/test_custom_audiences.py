"""Custom audiences: made, repeated, found, paged and deleted, by the rules of CustomAudienceService."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from audience_service.domain.core.clock import now
from audience_service.domain.core.errors import NameTaken, RequestIdReused
from audience_service.domain.core.idempotency import IdempotencyKey
from audience_service.domain.custom_audiences.model import CustomAudience, CustomType, LookalikeSpec
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.lists import NO_DEADLINE, publish

Refused = Callable[..., Refusal]

MATCH = {"type": "customer_match", "customerMatch": {"platform": "meta"}}
PIXEL = {"type": "retargeting_pixel", "retargetingPixel": {"where": {"type": "visit"}, "withinDays": 30}}


def lookalike(source: str, name: str = "like") -> CustomAudience:
    """A lookalike, as storage has it."""
    spec = LookalikeSpec(source, share=0.1)
    timestamp = now()
    return CustomAudience(
        f"custom-{name}", name, "", CustomType.LOOKALIKE, "contact", spec, "active", 0, timestamp, timestamp
    )


def test_an_audience_is_created_as_requested_and_can_be_read(client: Client) -> None:
    made = client.custom(name=" Newsletter ", description="those who signed up")
    assert made.id.startswith("custom-")
    assert (made.name, made.type, made.datatype, made.state, made.version, made.contact_count) == (
        "Newsletter",
        "file_upload",
        "contact",
        "active",
        0,
        0,
    )
    assert made.author == "tester"
    assert abs(made.create_time.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(minutes=1)
    assert not made.HasField("refresh_time")
    assert client.call("GetCustomAudience", {"id": made.id}) == made


def test_customer_match_rules_are_pinned_on_create(client: Client) -> None:
    made = client.custom(name="match", **MATCH)
    assert made.customer_match.rules_version == "meta/2026-12"
    chosen = client.custom(
        name="chosen",
        type="customer_match",
        customerMatch={"platform": "tiktok", "rulesVersion": "tiktok/2026-11", "options": {"email_alias": "drop"}},
    )
    assert dict(chosen.customer_match.options) == {"email_alias": "drop", "phone_plus": "yes"}
    assert client.call("GetCustomAudience", {"id": chosen.id}).customer_match == chosen.customer_match


def test_defaults_of_a_pixel_are_shown_and_it_has_no_list(client: Client, service: Service) -> None:
    try:
        made = client.custom(name="visitors", **PIXEL)
    except grpc.RpcError as error:
        assert service.kind == "embedded"
        assert Refusal(error).info.reason == "UNSUPPORTED_BY_STORE"
        return
    pixel = made.retargeting_pixel
    assert (pixel.event_datatype, pixel.date_field, pixel.contact_field, pixel.min_events) == (
        "event",
        "createdate",
        "contactId",
        1,
    )
    assert not made.HasField("contact_count")


def test_validate_only_checks_and_creates_nothing(client: Client, refused: Refused) -> None:
    request = {"customAudience": {"name": "x", **MATCH}, "validateOnly": True}
    checked = client.call("CreateCustomAudience", request)
    assert (checked.id, checked.customer_match.rules_version) == ("", "meta/2026-12")
    assert client.call("ListCustomAudiences").total_size == 0
    client.custom(name="x")
    assert refused(lambda: client.call("CreateCustomAudience", request)).info.reason == "NAME_TAKEN"


def test_a_request_that_is_repeated_makes_one_audience(client: Client, refused: Refused) -> None:
    request = {"customAudience": {"name": "once", "type": "file_upload"}, "requestId": "r1"}
    made = client.call("CreateCustomAudience", request)
    assert client.call("CreateCustomAudience", request) == made
    other = {**request, "customAudience": {"name": "other", "type": "file_upload"}}
    assert refused(lambda: client.call("CreateCustomAudience", other)).info.reason == "REQUEST_ID_REUSED"
    assert client.call("ListCustomAudiences").total_size == 1


def test_a_name_is_one_audience_of_an_org_and_free_once_it_is_deleted(
    service: Service, client: Client, org: str, refused: Refused
) -> None:
    made = client.custom(name="mine")
    assert refused(lambda: client.custom(name="mine")).info.reason == "NAME_TAKEN"
    client.create(name="mine", filter={"datatype": "contact", "where": {}})
    service.client(f"{org}2").custom(name="mine")
    client.call("DeleteCustomAudience", {"id": made.id})
    assert client.custom(name="mine").id != made.id


def test_the_index_keeps_names_and_requests_unique_under_concurrent_creates(service: Service, org: str) -> None:
    custom_audiences, request = service.store.custom_audiences, IdempotencyKey("ann", "r", "digest")
    first = lookalike("segment-x", "one")
    custom_audiences.insert(org, first, request, NO_DEADLINE)
    with pytest.raises(NameTaken):
        custom_audiences.insert(org, dataclasses.replace(first, id="custom-two"), None, NO_DEADLINE)
    with pytest.raises(RequestIdReused):
        custom_audiences.insert(org, dataclasses.replace(first, id="custom-two", name="two"), request, NO_DEADLINE)
    assert custom_audiences.find_by_key(org, request, NO_DEADLINE) == (
        first_stored := custom_audiences.get(org, first.id, NO_DEADLINE),
        "digest",
    )
    assert first_stored.spec == first.spec


def test_audiences_are_paged_newest_first_and_narrowed(client: Client, refused: Refused) -> None:
    made = [client.custom(name=f"List {n}").id for n in range(5)]
    match = client.custom(name="Match 5", **MATCH).id
    pages, token = [], ""
    while True:
        page = client.call("ListCustomAudiences", {"pageSize": 4, "pageToken": token})
        assert page.total_size == 6
        pages.append([each.id for each in page.custom_audiences])
        if not (token := page.next_page_token):
            break
    assert [sorted(page) for page in pages] == [sorted([match, *made[2:]]), sorted(made[:2])]
    assert pages[0][0] == match
    found = client.call("ListCustomAudiences", {"name": "LIST", "type": "file_upload"})
    assert {each.id for each in found.custom_audiences} == set(made)
    assert [each.id for each in client.call("ListCustomAudiences", {"type": "customer_match"}).custom_audiences] == [
        match
    ]
    assert client.call("ListCustomAudiences", {"name": ".*"}).total_size == 0
    token = client.call("ListCustomAudiences", {"pageSize": 4}).next_page_token
    moved = refused(lambda: client.call("ListCustomAudiences", {"pageToken": token, "name": "x"}))
    assert moved.info.reason == "INVALID_PAGE_TOKEN"
    assert refused(lambda: client.call("ListCustomAudiences", {"type": "x"})).fields == ["type"]


def test_another_org_can_neither_read_nor_change_it(
    service: Service, client: Client, org: str, refused: Refused
) -> None:
    made = client.custom(name="mine")
    other = service.client(f"{org}2")
    assert other.call("ListCustomAudiences").total_size == 0
    for rpc in ("GetCustomAudience", "DeleteCustomAudience", "RefreshCustomAudience"):
        assert refused(lambda rpc=rpc: other.call(rpc, {"id": made.id})).info.reason == "AUDIENCE_NOT_FOUND"
    client.call("GetCustomAudience", {"id": made.id})


@pytest.mark.parametrize("audience_id", ["custom-", "custom-nobody", "segment-x", "snapshot-x", "custom-../x"])
def test_an_id_that_is_no_custom_audience_is_not_found(client: Client, refused: Refused, audience_id: str) -> None:
    for rpc in ("GetCustomAudience", "DeleteCustomAudience", "RefreshCustomAudience"):
        refusal = refused(lambda rpc=rpc: client.call(rpc, {"id": audience_id}))
        assert refusal.info.reason == "AUDIENCE_NOT_FOUND"


def test_delete_returns_the_deleted_audience(client: Client, refused: Refused, service: Service, org: str) -> None:
    made = client.custom(name="gone")
    stale = refused(lambda: client.call("DeleteCustomAudience", {"id": made.id, "version": 1}))
    assert (stale.code, stale.info.metadata["current_version"]) == (grpc.StatusCode.ABORTED, "0")
    publish(service.store, org, made.id, [])
    deleted = client.call("DeleteCustomAudience", {"id": made.id, "version": 1})
    assert (deleted.id, deleted.name, deleted.version, deleted.state) == (made.id, "gone", 1, "active")
    assert refused(lambda: client.call("GetCustomAudience", {"id": made.id})).info.reason == "AUDIENCE_NOT_FOUND"
    assert client.call("ListCustomAudiences").total_size == 0
    again = refused(lambda: client.call("DeleteCustomAudience", {"id": made.id}))
    assert again.info.reason == "AUDIENCE_NOT_FOUND"


def test_one_in_use_is_not_deleted_unless_forced(service: Service, client: Client, org: str, refused: Refused) -> None:
    made = client.custom(name="used")

    def refusal() -> dict[str, str]:
        refusal = refused(lambda: client.call("DeleteCustomAudience", {"id": made.id}))
        assert refusal.info.reason == "AUDIENCE_IN_USE"
        return {name: value for name, value in refusal.info.metadata.items() if value not in ("", "0")}

    use = {"audienceId": made.id, "consumerKind": "campaign", "consumerId": "spring"}
    client.call("RegisterUse", {"use": use})
    assert refusal() == {"uses": "1", "kinds": "campaign"}
    assert client.call("ReleaseUse", use).released
    where = {"datatype": "contact", "where": {"$inAudience": made.id}}
    segment = client.create(name="inside", filter=where)
    assert refusal() == {"segments": "1", "segment_names": "inside"}
    client.call("DeleteSegment", {"id": segment.id})
    service.store.custom_audiences.insert(org, lookalike(made.id), None, NO_DEADLINE)
    assert refusal() == {"lookalikes": "1", "lookalike_names": "like"}
    assert client.call("DeleteCustomAudience", {"id": made.id, "force": True}).id == made.id


def test_a_segment_that_a_lookalike_is_of_is_in_use(
    service: Service, client: Client, org: str, refused: Refused
) -> None:
    source = client.create(name="seed", filter={"datatype": "contact", "where": {}})
    service.store.custom_audiences.insert(org, lookalike(source.id), None, NO_DEADLINE)
    usage = client.call("GetAudienceUsage", {"audienceId": source.id})
    assert ([like.name for like in usage.lookalikes], usage.lookalike_count) == (["like"], 1)
    refusal = refused(lambda: client.call("DeleteSegment", {"id": source.id}))
    assert refusal.info.metadata["lookalike_names"] == "like"


def test_uses_of_missing_audiences_are_not_registered(client: Client, refused: Refused) -> None:
    use = {"audienceId": "custom-nobody", "consumerKind": "campaign", "consumerId": "spring"}
    assert refused(lambda: client.call("RegisterUse", {"use": use})).info.reason == "AUDIENCE_NOT_FOUND"


def test_one_that_is_evaluated_at_each_use_is_not_refreshed(real_service: Service, refused: Refused) -> None:
    client = real_service.client("customs-refresh")
    made = client.custom(name="visitors", **PIXEL)
    refusal = refused(lambda: client.call("RefreshCustomAudience", {"id": made.id}))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_REFRESHABLE")
    assert refusal.info.metadata["type"] == "retargeting_pixel"
