"""What GetAudienceUsage and RegisterUse promise of custom audiences and snapshots, on every store."""

from collections.abc import Callable
from typing import Any

import pytest

from audience_service.domain.audiences.references import AudienceUse
from audience_service.domain.audiences.service import AudienceUses, RecordFinder
from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.core.errors import AudienceNotFound
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.fault_injection import FailAtStep
from tests.support.uses import refer, register, release

ALL_CONTACTS: dict[str, Any] = {"datatype": "contact", "where": {}}
Make = Callable[[], str]
Refused = Callable[..., Refusal]


def usage(client: Client, audience_id: str) -> Any:
    return client.call("GetAudienceUsage", {"audienceId": audience_id})


def inside(audience_id: str) -> dict[str, Any]:
    """A filter for the members of an audience."""
    return {"datatype": "contact", "where": {"$inAudience": audience_id}}


@pytest.fixture(params=["segment", "custom", "snapshot"])
def made(request: pytest.FixtureRequest, client: Client) -> str:
    """The id of a new audience of each kind."""
    creators: dict[str, Make] = {
        "segment": lambda: client.create(name="made", filter=ALL_CONTACTS).id,
        "custom": lambda: client.custom(name="made").id,
        "snapshot": lambda: client.snapshot(filter=ALL_CONTACTS, name="made").id,
    }
    return creators[request.param]()


@pytest.fixture(params=["custom", "snapshot"])
def removable(request: pytest.FixtureRequest, client: Client) -> tuple[str, Callable[[], Any]]:
    """The id of an audience of a kind that is deleted for good, and its deletion."""
    if request.param == "custom":
        custom = client.custom(name="made").id
        return custom, lambda: client.call("DeleteCustomAudience", {"id": custom, "force": True})
    snapshot = client.snapshot(filter=ALL_CONTACTS, name="made").id
    return snapshot, lambda: client.call("DeleteSnapshot", {"id": snapshot})


def test_an_audience_of_any_kind_is_used_and_released(client: Client, made: str) -> None:
    use = register(client, made, description="Spring sale")
    assert (use.audience_id, use.consumer_id, use.registrant) == (made, "spring", "tester")
    answer = usage(client, made)
    assert (list(answer.uses), answer.use_count) == ([use], 1)
    assert release(client, made)
    assert usage(client, made).use_count == 0


def test_segments_that_refer_to_an_audience_of_any_kind_are_listed(
    client: Client, service: Service, org: str, made: str
) -> None:
    ours = client.create(name="ours", filter=inside(made)).id
    theirs = refer(service, org, "theirs", made)
    refer(service, org, "deleted", made, state="deleted")
    refer(service, org, "elsewhere", "segment-elsewhere")
    answer = usage(client, made)
    assert {(each.id, each.name) for each in answer.segments} == {(ours, "ours"), (theirs, "refers theirs")}
    assert (answer.segment_count, answer.use_count, answer.lookalike_count) == (2, 0, 0)


def test_lookalikes_of_a_segment_and_of_a_snapshot_are_listed(real_service: Service) -> None:
    org = f"usage{next(real_service.names)}"
    client = real_service.client(org)
    people = [{"data": {"vip": n < 120, "city": "Lima" if n % 7 else "Oslo"}} for n in range(500)]
    real_service.insert(org, people)
    segment = client.create(name="vips", filter={"datatype": "contact", "where": {"vip": True}}).id
    snapshot = client.snapshot(audienceId=segment).id
    for name, source in (("like vips", segment), ("like a snapshot", snapshot)):
        spec = {"sourceAudienceId": source, "count": 10}
        like = client.custom(name=name, type="lookalike", lookalike=spec)
        answer = usage(client, source)
        assert [(each.id, each.name) for each in answer.lookalikes] == [(like.id, name)]
        assert answer.lookalike_count == 1


def test_a_removed_audience_is_found_for_as_long_as_something_uses_it(
    client: Client, removable: tuple[str, Callable[[], Any]], refused: Refused
) -> None:
    made, remove = removable
    register(client, made)
    segment = client.create(name="refers", filter=inside(made))
    remove()
    answer = usage(client, made)
    assert (answer.use_count, [each.id for each in answer.segments]) == (1, [segment.id])
    assert release(client, made)
    assert usage(client, made).segment_count == 1
    client.call("DeleteSegment", {"id": segment.id})
    assert refused(lambda: usage(client, made)).info.reason == "AUDIENCE_NOT_FOUND"


def test_no_use_is_registered_on_a_removed_audience(
    client: Client, removable: tuple[str, Callable[[], Any]], refused: Refused
) -> None:
    made, remove = removable
    remove()
    refusal = refused(lambda: register(client, made))
    assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "AUDIENCE_NOT_FOUND")


def test_a_use_registered_while_its_audience_is_removed_is_taken_back(
    client: Client, service: Service, org: str, removable: tuple[str, Callable[[], Any]]
) -> None:
    made, remove = removable
    store = service.store
    custom_audiences, snapshots = store.custom_audiences, store.snapshots
    finders = {
        "custom-": RecordFinder(custom_audiences.get, custom_audiences.get),
        "snapshot-": RecordFinder(snapshots.get, snapshots.get),
    }
    uses: Any = FailAtStep(store.uses, "add", before=remove)
    uses = AudienceUses(uses, finders)
    ctx = RequestContext(Caller("racer", org, frozenset()), Deadline(None))
    with pytest.raises(AudienceNotFound):
        uses.register(ctx, AudienceUse(made, "campaign", "racing"))
    assert store.database["audience_use"].count_documents({"audience": made}) == 0


def test_uses_of_an_expired_snapshot_are_found_and_released(client: Client, service: Service, refused: Refused) -> None:
    made = client.snapshot(filter=ALL_CONTACTS).id
    register(client, made)
    service.store.database["audience_snapshot"].delete_one({"pk": made})  # as the database does once it has expired
    assert usage(client, made).use_count == 1
    assert release(client, made)
    assert refused(lambda: usage(client, made)).info.reason == "AUDIENCE_NOT_FOUND"


def test_a_snapshot_can_be_used_while_it_is_created(client: Client, service: Service) -> None:
    made = client.snapshot(filter=ALL_CONTACTS).id
    service.store.database["audience_snapshot"].update_one({"pk": made}, {"$set": {"state": "CREATING"}})
    assert register(client, made).audience_id == made


def test_another_org_neither_uses_an_audience_nor_sees_its_usage(
    client: Client, service: Service, org: str, made: str, refused: Refused
) -> None:
    register(client, made)
    other = service.client(f"{org}2")
    assert refused(lambda: register(other, made)).info.reason == "AUDIENCE_NOT_FOUND"
    assert refused(lambda: usage(other, made)).info.reason == "AUDIENCE_NOT_FOUND"
    assert not release(other, made)
    assert usage(client, made).use_count == 1
