"""What CheckMembership and ListAudiencesOfContact promise, on every store."""

from collections.abc import Callable
from typing import Any

import pytest

from audience_service.mongo.membership import checks
from tests.conftest import Service
from tests.support.client import Client, Refusal

Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


def contacts(where: dict[str, Any]) -> dict[str, Any]:
    return {"datatype": "contact", "where": where}


@pytest.fixture
def ids(insert: Insert, org: str) -> list[str]:
    """Six contacts numbered from 0 to 5, the last one archived."""
    state = {5: {"state": "archived"}}
    return insert([{"id": f"{org}-{n}", "data": {"n": n}, **state.get(n, {})} for n in range(6)])


@pytest.fixture
def audiences(client: Client, ids: list[str]) -> dict[str, str]:
    """The ids of audiences of every kind by their names."""

    def create(name: str, **segment: Any) -> str:
        return str(client.create(name=name, **segment).id)

    made = {"some": create("some", filter=contacts({"n": {"$gte": 3}}))}
    made["list"] = create("list", type="static", contactIds=ids[:2])
    made["either"] = create(
        "either", filter=contacts({"$or": [{"$inAudience": made["some"]}, {"$inAudience": made["list"]}]})
    )
    made["neither"] = create("neither", filter=contacts({"$nor": [{"$inAudience": made["either"]}]}))
    made["gone"] = create("gone", filter=contacts({"state": "archived"}))
    made["leads"] = create("leads", filter={"datatype": "lead", "where": {}})
    return made


MEMBERS = {"some": {3, 4}, "list": {0, 1}, "either": {0, 1, 3, 4}, "neither": {2}, "gone": {5}, "leads": set[int]()}


def check(client: Client, audience_ids: list[str], contact_ids: list[str]) -> dict[str, list[str]]:
    """The audiences of each contact that is found."""
    answer = client.call("CheckMembership", {"audienceIds": audience_ids, "contactIds": contact_ids})
    assert answer.read_time.seconds
    assert [found.contact_id for found in answer.memberships] == list(dict.fromkeys(contact_ids))
    assert not any(found.audience_ids for found in answer.memberships if not found.found)
    return {found.contact_id: list(found.audience_ids) for found in answer.memberships if found.found}


def test_audiences_of_every_kind_are_checked_in_one_call(
    client: Client, ids: list[str], audiences: dict[str, str], insert: Insert
) -> None:
    [lead] = insert([{}], "lead")
    for turn in (1, -1):
        names = list(audiences)[::turn]
        found = check(client, [audiences[name] for name in names], [*ids, lead])
        for number, contact_id in enumerate(ids):
            assert found[contact_id] == [audiences[name] for name in names if number in MEMBERS[name]]
        assert found[lead] == [audiences["leads"]]
    for name, members in MEMBERS.items():
        assert {ids[number] for number in members} == set(client.members(audienceId=audiences[name])) - {lead}


def test_each_contact_is_returned_once_in_request_order(
    client: Client, ids: list[str], audiences: dict[str, str]
) -> None:
    audience_ids = [audiences[name] for name in ("either", "some", "either")]
    assert check(client, audience_ids, [ids[4], ids[0], ids[4]]) == {ids[4]: audience_ids[:2], ids[0]: audience_ids[:1]}


def test_ids_that_are_no_record_of_the_org_are_not_found(
    service: Service, client: Client, ids: list[str], audiences: dict[str, str], insert: Insert, org: str
) -> None:
    theirs = service.insert(f"{org}2", [{"data": {"n": 4}}])
    [lead], [customer] = insert([{}], "lead"), insert([{}], "customer")
    everywhere = [ids[3], *theirs, "contact-nobody", lead, customer, "x" * 300]
    assert set(check(client, [audiences["some"]], everywhere)) == {ids[3], lead, customer}
    assert check(service.client(f"{org}2"), [service.client(f"{org}2").create(
        name="all", filter=contacts({})).id], [ids[0], *theirs]).keys() == set(theirs)  # fmt: skip


def test_a_member_of_a_list_that_is_archived_or_removed_is_no_member(
    service: Service, client: Client, ids: list[str], audiences: dict[str, str]
) -> None:
    collection = service.store.database["contact"]
    collection.update_one({"pk": ids[0]}, {"$set": {"state": "archived"}})
    collection.delete_one({"pk": ids[1]})
    assert check(client, [audiences["list"], audiences["either"]], ids[:2]) == {ids[0]: []}


def test_oversized_commands_and_results_are_split(
    client: Client, ids: list[str], audiences: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unsplit = check(client, list(audiences.values()), ids)
    for limit in ("MAX_COMMAND_BYTES", "MAX_REPLY_BYTES"):
        with monkeypatch.context() as patched:
            patched.setattr(checks, limit, 10)
            assert check(client, list(audiences.values()), ids) == unsplit


@pytest.mark.parametrize(
    ("audience_ids", "contact_ids", "field"),
    [
        ([], ["contact-1"], "audience_ids"),
        (["segment-1"], [], "contact_ids"),
        ([""], ["contact-1"], "audience_ids[0]"),
        (["segment-1"], ["contact-1", ""], "contact_ids[1]"),
        (["segment-1"] * 101, ["contact-1"], "audience_ids"),
        (["segment-1"], ["contact-1"] * 1_001, "contact_ids"),
    ],
)
def test_a_bad_request_is_refused_with_its_field_path(
    client: Client, refused: Refused, audience_ids: list[str], contact_ids: list[str], field: str
) -> None:
    request = {"audienceIds": audience_ids, "contactIds": contact_ids}
    refusal = refused(lambda: client.call("CheckMembership", request))
    assert (refusal.info.reason, refusal.fields) == ("INVALID_FIELD", [field])


def test_a_missing_audience_is_named_by_its_field_path(
    service: Service, client: Client, audiences: dict[str, str], refused: Refused, org: str
) -> None:
    theirs = service.client(f"{org}2").create(name="theirs", filter=contacts({})).id
    for missing in ("segment-nothing", theirs, "contact-1"):
        request = {"audienceIds": [audiences["some"], audiences["some"], missing], "contactIds": ["contact-1"]}
        refusal = refused(lambda request=request: client.call("CheckMembership", request))
        assert (refusal.info.reason, refusal.fields) == ("AUDIENCE_NOT_FOUND", ["audience_ids[2]"])
        assert refusal.info.metadata["id"] == missing


def listed(client: Client, contact_id: str, size: int = 0) -> tuple[list[str], list[str]]:
    """The names of a contact's segments, and the ids of unusable ones, page by page."""
    names: list[str] = []
    unusable: list[str] = []
    token = ""
    while True:
        request = {"contactId": contact_id, "pageSize": size, "pageToken": token}
        answer = client.call("ListAudiencesOfContact", request)
        names += [audience.name for audience in answer.audiences]
        unusable += answer.unusable_audience_ids
        token = answer.next_page_token
        if not token:
            return names, unusable


@pytest.mark.parametrize("size", [0, 1, 2, 100])
@pytest.mark.slow
def test_the_audiences_of_a_contact_are_paged_through_by_name(
    client: Client, ids: list[str], audiences: dict[str, str], insert: Insert, size: int
) -> None:
    for number, contact_id in enumerate(ids):
        names = sorted(name for name, members in MEMBERS.items() if number in members)
        assert listed(client, contact_id, size) == (names, [])
    [lead] = insert([{}], "lead")
    assert listed(client, lead, size) == (["leads"], [])


def test_audiences_are_listed_with_their_types(client: Client, ids: list[str], audiences: dict[str, str]) -> None:
    answer = client.call("ListAudiencesOfContact", {"contactId": ids[0]})
    found = [(audience.id, audience.name, audience.type) for audience in answer.audiences]
    assert found == [(audiences["either"], "either", "dynamic"), (audiences["list"], "list", "static")]
    assert answer.read_time.seconds


def test_segments_that_cannot_be_run_are_named_and_hinder_no_other(
    service: Service, client: Client, ids: list[str], audiences: dict[str, str], refused: Refused, org: str
) -> None:
    bad = {"name": "bad", "data": {"filter": contacts({"n": {"$where": "1"}})}}
    [unusable] = service.insert(org, [bad], "segment")
    assert listed(client, ids[0]) == (["either", "list"], [unusable])
    request = {"audienceIds": [audiences["some"], unusable], "contactIds": ids}
    refusal = refused(lambda: client.call("CheckMembership", request))
    assert (refusal.info.reason, refusal.info.metadata["id"]) == ("UNUSABLE_AUDIENCE", unusable)


def test_the_contact_must_be_a_record_of_the_org(
    service: Service, client: Client, ids: list[str], audiences: dict[str, str], refused: Refused, org: str
) -> None:
    for contact_id in ("contact-nobody", audiences["some"], *service.insert(f"{org}2", [{}])):
        refusal = refused(lambda name=contact_id: client.call("ListAudiencesOfContact", {"contactId": name}))
        assert (refusal.info.reason, refusal.fields) == ("CONTACT_NOT_FOUND", ["contact_id"])
    refusal = refused(lambda: client.call("ListAudiencesOfContact", {}))
    assert (refusal.info.reason, refusal.fields) == ("INVALID_FIELD", ["contact_id"])


def test_a_page_token_is_bound_to_its_contact(
    client: Client, ids: list[str], audiences: dict[str, str], refused: Refused
) -> None:
    token = client.call("ListAudiencesOfContact", {"contactId": ids[0], "pageSize": 1}).next_page_token
    assert token
    wrong = {"contactId": ids[1], "pageToken": token}
    refusal = refused(lambda: client.call("ListAudiencesOfContact", wrong))
    assert (refusal.info.reason, refusal.fields) == ("INVALID_PAGE_TOKEN", ["page_token"])


def test_a_filter_that_fails_on_a_contact_fails_alone(real_service: Service, refused: Refused) -> None:
    client = real_service.client("failing")
    good, bad = real_service.insert("failing", [{"data": {"n": 4}}, {"data": {"n": "four"}}])
    half = {"$expr": {"$eq": [{"$divide": ["$n", 2]}, 2]}}
    made = [
        client.create(name=name, filter=contacts(where)).id
        for name, where in (("all", {}), ("half", half), ("text", {"n": {"$type": "string"}}), ("four", {"n": 4}))
    ]
    assert check(client, made, [good]) == {good: [made[0], made[1], made[3]]}
    assert listed(client, good) == (["all", "four", "half"], [])
    assert listed(client, bad) == (["all", "text"], [made[1]])
    refusal = refused(lambda: client.call("CheckMembership", {"audienceIds": made, "contactIds": [good, bad]}))
    assert (refusal.info.reason, refusal.fields) == ("EXPRESSION_FAILED", ["audience_ids[1]"])
    assert check(client, made[2:], [good, bad]) == {good: [made[3]], bad: [made[2]]}


def test_related_records_are_joined_for_each_audience(real_service: Service) -> None:
    client = real_service.client("relating")
    ids = real_service.insert("relating", [{}, {}])
    real_service.insert("relating", [{"data": {"contactId": ids[0], "total": 7}}], "order")
    real_service.insert("relating2", [{"data": {"contactId": ids[1], "total": 7}}], "order")
    relation = {"datatype": "order", "on": {"local": "pk", "foreign": "contactId"}}
    buyers = {"$related": {**relation, "where": {"total": {"$gte": 5}}}}
    made = [
        client.create(name=name, filter=contacts(where)).id
        for name, where in (("buyers", buyers), ("others", {"$nor": [buyers]}), ("none", {"n": 1, **buyers}))
    ]
    nested = client.create(name="nested", filter=contacts({"$inAudience": made[0]})).id
    assert check(client, [*made, nested], ids) == {ids[0]: [made[0], nested], ids[1]: [made[1]]}
