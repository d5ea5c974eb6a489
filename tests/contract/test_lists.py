"""What static segments promise, on every store."""

from collections.abc import Callable

import pytest

from audience_service.domain.core.errors import NameTaken
from tests.conftest import Service
from tests.support.client import Client, Refusal

Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


def listed(client: Client, segment_id: str, size: int = 0) -> list[str]:
    """All ids on a list, page by page; the total must agree."""
    ids: list[str] = []
    token = ""
    while True:
        request = {"id": segment_id, "pageSize": size, "pageToken": token}
        page = client.call("ListSegmentContacts", request)
        ids += page.contact_ids
        token = page.next_page_token
        if not token:
            assert page.total_size == len(ids)
            return ids


def test_a_list_from_ids_contains_each_once(client: Client, insert: Insert) -> None:
    ids = insert([{"id": f"a{n}"} for n in range(5)])
    made = client.create(name="list", type="static", contactIds=[*ids, ids[0]])
    assert made.contact_count == 5
    assert made.filter.datatype == "contact"
    assert listed(client, made.id) == listed(client, made.id, size=2) == sorted(ids)
    assert client.members(audienceId=made.id) == sorted(ids)
    assert client.count(audienceId=made.id) == 5


def test_a_list_from_a_filter_is_frozen(client: Client, insert: Insert) -> None:
    ids = insert([{"data": {"tags": ["vip"]}}, {"data": {"tags": ["vip", "mql"]}}, {"data": {"tags": ["mql"]}}])
    vip = {"datatype": "contact", "where": {"tags": "vip"}}
    by_source = client.call("CreateSegment", {"segment": {"name": "s", "type": "static"}, "source": {"filter": vip}})
    by_filter = client.create(name="f", type="static", filter=vip)
    insert([{"data": {"tags": ["vip"]}}])
    for made in (by_source, by_filter):
        assert made.contact_count == 2
        assert sorted(client.members(audienceId=made.id)) == sorted(ids[:2])
        assert made.filter.where["tags"] == "vip"
    assert client.count(filter=vip) == 3


def test_a_list_from_an_audience_is_frozen(client: Client, insert: Insert) -> None:
    ids = insert([{"data": {"tags": ["vip"]}}, {"data": {"tags": ["vip"]}}, {}])
    dynamic = client.create(name="dynamic", filter={"datatype": "contact", "where": {"tags": "vip"}})
    first = client.call(
        "CreateSegment", {"segment": {"name": "1", "type": "static"}, "source": {"audienceId": dynamic.id}}
    )
    second = client.call(
        "CreateSegment", {"segment": {"name": "2", "type": "static"}, "source": {"audienceId": first.id}}
    )
    client.call("RemoveSegmentContacts", {"id": first.id, "contactIds": [ids[0]]})
    assert client.members(audienceId=first.id) == [ids[1]]
    assert sorted(client.members(audienceId=second.id)) == sorted(ids[:2])
    assert second.contact_count == 2


def test_a_source_of_another_org_is_not_found(client: Client, service: Service, refused: Refused, org: str) -> None:
    theirs = service.client(f"{org}-other").create(name="x", filter={"datatype": "contact", "where": {}})
    request = {"segment": {"name": "s", "type": "static"}, "source": {"audienceId": theirs.id}}
    assert refused(lambda: client.call("CreateSegment", request)).info.reason == "AUDIENCE_NOT_FOUND"


def test_adding_and_removing_are_idempotent_and_counted(client: Client, insert: Insert) -> None:
    ids = insert([{}, {}, {}])
    made = client.create(name="list", type="static")
    assert made.contact_count == 0
    added = client.call("AddSegmentContacts", {"id": made.id, "contactIds": ids[:2]})
    assert (added.added_count, added.segment.contact_count, added.segment.version) == (2, 2, 1)
    added = client.call("AddSegmentContacts", {"id": made.id, "contactIds": ids})
    assert (added.added_count, added.segment.contact_count) == (1, 3)
    removed = client.call("RemoveSegmentContacts", {"id": made.id, "contactIds": [ids[0], "contact-no"]})
    assert (removed.removed_count, removed.segment.contact_count) == (1, 2)
    assert client.members(audienceId=made.id) == sorted(ids[1:])
    assert client.call("GetSegment", {"id": made.id}).contact_count == 2
    assert client.call("ListSegments").segments[0].contact_count == 2


def test_unknown_contacts_are_reported_and_the_list_is_unchanged(
    client: Client, service: Service, org: str, insert: Insert, refused: Refused
) -> None:
    known = insert([{}])
    foreign = service.insert(f"{org}2", [{}])
    inactive = insert([{"state": "deleted"}, {"state": "archived"}])
    made = client.create(name="list", type="static")
    ids = [known[0], foreign[0], *inactive, "contact-no"]
    refusal = refused(lambda: client.call("AddSegmentContacts", {"id": made.id, "contactIds": ids}))
    assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "CONTACT_NOT_FOUND")
    assert refusal.fields == [f"contact_ids[{n}]" for n in (1, 2, 3, 4)]
    assert refusal.info.metadata["count"] == "4"
    assert listed(client, made.id) == []
    refusal = refused(lambda: client.create(name="other", type="static", contactIds=ids))
    assert refusal.fields[0] == "segment.contact_ids[1]"
    assert client.call("ListSegments").total_size == 1


def test_contacts_that_go_leave_the_members_and_stay_on_the_list(
    client: Client, service: Service, insert: Insert
) -> None:
    ids = insert([{}, {}, {}])
    made = client.create(name="list", type="static", contactIds=ids)
    service.store.database["contact"].update_one({"pk": ids[0]}, {"$set": {"state": "deleted"}})
    service.store.database["contact"].delete_one({"pk": ids[1]})
    assert client.count(audienceId=made.id) == 1
    assert client.members(audienceId=made.id) == [ids[2]]
    assert listed(client, made.id) == sorted(ids)
    assert client.call("GetSegment", {"id": made.id}).contact_count == 3


def test_a_dynamic_segment_has_no_list(client: Client, refused: Refused) -> None:
    made = client.create(name="dynamic", filter={"datatype": "contact", "where": {}})
    assert not made.HasField("contact_count")
    for rpc, request in (
        ("AddSegmentContacts", {"contactIds": ["contact-1"]}),
        ("RemoveSegmentContacts", {"contactIds": ["contact-1"]}),
        ("ListSegmentContacts", {}),
    ):
        refusal = refused(lambda rpc=rpc, request=request: client.call(rpc, {"id": made.id, **request}))
        assert (refusal.code.name, refusal.info.reason) == ("FAILED_PRECONDITION", "NOT_STATIC")


@pytest.mark.parametrize("rpc", ["AddSegmentContacts", "RemoveSegmentContacts"])
def test_ids_are_needed_and_limited(client: Client, refused: Refused, rpc: str) -> None:
    made = client.create(name="list", type="static")
    assert refused(lambda: client.call(rpc, {"id": made.id})).fields == ["contact_ids"]
    many = [f"contact-{n}" for n in range(50_001)]
    assert refused(lambda: client.call(rpc, {"id": made.id, "contactIds": many})).fields == ["contact_ids"]


def test_a_list_can_contain_leads(client: Client, insert: Insert) -> None:
    ids = insert([{}, {}], datatype="lead")
    made = client.create(name="leads", type="static", filter={"datatype": "lead"}, contactIds=ids)
    assert made.filter.datatype == "lead"
    assert client.members(audienceId=made.id) == sorted(ids)


@pytest.mark.slow
def test_a_list_larger_than_a_chunk_is_complete(
    client: Client, insert: Insert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audience_service.mongo.audiences.member_lists.CHUNK_SIZE", 50)
    ids = insert([{"id": f"{n:05d}"} for n in range(120)])
    made = client.create(name="large", type="static", contactIds=ids)
    assert made.contact_count == 120
    assert client.members(audienceId=made.id, batchSize=99) == ids
    removed = client.call("RemoveSegmentContacts", {"id": made.id, "contactIds": ids[:110]})
    assert (removed.removed_count, removed.segment.contact_count) == (110, 10)


def test_a_lists_page_token_is_bound_to_the_list(client: Client, insert: Insert, refused: Refused) -> None:
    ids = insert([{}, {}])
    one, two = (client.create(name=name, type="static", contactIds=ids) for name in "ab")
    token = client.call("ListSegmentContacts", {"id": one.id, "pageSize": 1}).next_page_token
    wrong = {"id": two.id, "pageToken": token}
    assert refused(lambda: client.call("ListSegmentContacts", wrong)).info.reason == "INVALID_PAGE_TOKEN"


@pytest.mark.parametrize(("repository", "method"), [("segments", "insert"), ("lists", "add_members")])
def test_a_failed_segment_creation_leaves_no_list(
    client: Client,
    service: Service,
    org: str,
    insert: Insert,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    repository: str,
    method: str,
) -> None:
    insert([{}, {}])
    target = type(getattr(service.store, repository))
    original = getattr(target, method)

    def fails(self: object, *arguments: object) -> None:
        if method == "add_members":
            original(self, *arguments)  # the rows are there when it fails
        raise NameTaken.of("taken meanwhile")

    monkeypatch.setattr(target, method, fails)
    all_contacts = {"datatype": "contact", "where": {}}
    refusal = refused(lambda: client.create(name="list", type="static", filter=all_contacts))
    assert refusal.info.reason == "NAME_TAKEN"
    assert service.store.database["audience_member"].count_documents({"sk": {"$regex": f"^{org}/"}}) == 0
    assert client.call("ListSegments").total_size == 0
