"""Audiences inside filters: the members of the audience match $inAudience at any depth, on every store."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from audience_service.mongo.query import joins
from tests.conftest import Service
from tests.support.client import Client

Insert = Callable[..., list[str]]


def contact_filter(where: dict[str, Any]) -> dict[str, Any]:
    return {"datatype": "contact", "where": where}


@pytest.fixture
def ids(insert: Insert) -> list[str]:
    """Ten contacts, the odd ones of the US, the last one archived."""
    contacts: list[dict[str, Any]] = [{"data": {"n": n, "country": "US" if n % 2 else "FR"}} for n in range(10)]
    contacts[9]["state"] = "archived"
    return insert(contacts)


@pytest.fixture
def found(client: Client, ids: list[str]) -> Callable[[dict[str, Any]], list[int]]:
    """The numbers of the contacts that a filter finds, counted and streamed alike."""

    def find(where: dict[str, Any]) -> list[int]:
        members = client.members(filter=contact_filter(where))
        assert client.count(filter=contact_filter(where)) == len(members)
        return sorted(ids.index(member) for member in members)

    return find


@pytest.fixture
def static(client: Client, ids: list[str]) -> str:
    """The first four, as a list."""
    return str(client.create(name="first four", type="static", contactIds=ids[:4]).id)


@pytest.fixture
def dynamic(client: Client, ids: list[str]) -> str:
    """Those of the US, as a filter."""
    return str(client.create(name="of the US", filter=contact_filter({"country": "US"})).id)


Find = Callable[[dict[str, Any]], list[int]]


@pytest.fixture(params=["inline", "joined"])
def join_mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Lists go into the filter, or are too long for it."""
    if request.param == "joined":
        monkeypatch.setattr(joins, "MAX_INLINE_BYTES", 10)
    return str(request.param)


def test_members_are_found_and_others_are_not(join_mode: str, found: Find, static: str, dynamic: str) -> None:
    assert found({"$inAudience": static}) == [0, 1, 2, 3]
    assert found({"$inAudience": dynamic}) == [1, 3, 5, 7]
    assert found({"$nor": [{"$inAudience": static}]}) == [4, 5, 6, 7, 8]
    assert found({"$nor": [{"$inAudience": dynamic}]}) == [0, 2, 4, 6, 8]


def test_audiences_are_allowed_in_place_of_any_condition(
    join_mode: str, found: Find, static: str, dynamic: str
) -> None:
    assert found({"$and": [{"$inAudience": static}, {"$inAudience": dynamic}]}) == [1, 3]
    assert found({"$or": [{"$inAudience": static}, {"n": {"$gte": 8}}]}) == [0, 1, 2, 3, 8]
    assert found({"$or": [{"$inAudience": static}, {"$inAudience": dynamic}], "n": {"$gt": 2}}) == [3, 5, 7]
    assert found({"$nor": [{"$inAudience": static}, {"$inAudience": dynamic}]}) == [4, 6, 8]
    assert found({"$nor": [{"$nor": [{"$inAudience": static}]}]}) == [0, 1, 2, 3]
    assert found({"$or": [{"$inAudience": static}, {"$nor": [{"$inAudience": static}]}]}) == list(range(9))


def test_nested_segments_are_resolved(
    join_mode: str, client: Client, found: Find, ids: list[str], static: str, dynamic: str
) -> None:
    where = {"$or": [{"$inAudience": static}, {"$nor": [{"$inAudience": dynamic}]}]}
    inner = client.create(name="inner", filter=contact_filter(where))
    outer = client.create(name="outer", filter=contact_filter({"$nor": [{"$inAudience": inner.id}]}))
    assert found({"$inAudience": inner.id}) == [0, 1, 2, 3, 4, 6, 8]
    assert found({"$inAudience": outer.id}) == [5, 7]
    assert sorted(ids.index(member) for member in client.members(audienceId=outer.id)) == [5, 7]
    assert client.count(audienceId=outer.id) == 2


def test_a_list_is_frozen_from_a_filter_with_audiences(
    join_mode: str, client: Client, ids: list[str], static: str, dynamic: str
) -> None:
    where = {"$inAudience": static, "$nor": [{"$inAudience": dynamic}]}
    static_copy = client.create(name="frozen", type="static", filter=contact_filter(where))
    assert static_copy.contact_count == 2
    assert client.members(audienceId=static_copy.id) == sorted((ids[0], ids[2]), key=lambda pk: pk)


def test_a_stream_with_audiences_resumes_by_its_cursor(join_mode: str, client: Client, static: str) -> None:
    request = {"filter": contact_filter({"$inAudience": static}), "batchSize": 3}
    first, *_ = client.call("StreamMembers", request)
    rest = [
        m.id for message in client.call("StreamMembers", {**request, "cursor": first.cursor}) for m in message.members
    ]
    assert [m.id for m in first.members] + rest == client.members(**request)
    assert len(rest) == 1


def test_archived_contacts_are_members_as_they_are_of_the_audience_itself(
    join_mode: str, client: Client, found: Find, ids: list[str]
) -> None:
    source = {"filter": contact_filter({"state": "archived"})}
    listed = client.call("CreateSegment", {"segment": {"name": "listed", "type": "static"}, "source": source})
    archived = client.create(name="archived", filter=contact_filter({"state": "archived"}))
    any_state = {"state": {"$in": ["active", "archived", "deleted"]}}
    assert (listed.contact_count, client.count(audienceId=listed.id), client.count(audienceId=archived.id)) == (1, 0, 1)
    assert found({"$inAudience": listed.id, "state": "archived"}) == []
    assert found({"$inAudience": archived.id, "state": "archived"}) == [9]
    assert found({"$inAudience": archived.id}) == [], "the outer filter has not named state, and asks for those in use"
    assert found({"$nor": [{"$inAudience": archived.id}], **any_state}) == []


def test_the_current_definition_of_an_audience_is_used(client: Client, found: Find, ids: list[str]) -> None:
    listed = client.create(name="listed", type="static", contactIds=ids[:2])
    dynamic = client.create(name="dynamic", filter=contact_filter({"n": 7}))
    both = {"$or": [{"$inAudience": listed.id}, {"$inAudience": dynamic.id}]}
    assert found(both) == [0, 1, 7]
    client.call("RemoveSegmentContacts", {"id": listed.id, "contactIds": ids[:2]})
    edited = {"id": dynamic.id, "filter": contact_filter({"n": {"$gte": 7}})}
    client.call("UpdateSegment", {"segment": edited, "updateMask": "filter"})
    assert found(both) == [7, 8]


def test_lists_of_another_org_are_refused(
    service: Service, client: Client, refused: Any, static: str, org: str
) -> None:
    stranger = service.client(f"{org}2")
    service.insert(f"{org}2", [{"data": {}}])
    for audience_id in (static, "segment-none", "contact-x"):
        refusal = refused(lambda a=audience_id: stranger.count(filter=contact_filter({"$inAudience": a})))
        assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.NOT_FOUND, "AUDIENCE_NOT_FOUND")
        assert refusal.fields == ["filter.where.$inAudience"]


def test_a_self_reference_is_refused_on_save(client: Client, refused: Any, dynamic: str, ids: list[str]) -> None:
    outer = client.create(name="outer", filter=contact_filter({"$inAudience": dynamic}))
    for target in (dynamic, outer.id):
        edited = {"id": dynamic, "filter": contact_filter({"$or": [{"n": 1}, {"$inAudience": target}]})}
        refusal = refused(lambda e=edited: client.call("UpdateSegment", {"segment": e, "updateMask": "filter"}))
        assert refusal.info.reason == "INVALID_FILTER"
        assert refusal.fields == ["segment.filter.where.$or[1].$inAudience"]
        assert "refers back" in refusal.message
    assert client.count(audienceId=outer.id) == 4


def test_a_stored_reference_cycle_is_refused_on_use(
    service: Service, client: Client, refused: Any, dynamic: str, ids: list[str]
) -> None:
    outer = client.create(name="outer", filter=contact_filter({"$inAudience": dynamic}))
    circle = {"$set": {"data.filter.where": {"$literal": {"$inAudience": outer.id}}}}
    service.store.database["segment"].update_one({"pk": dynamic}, [circle])
    for audience_id in (dynamic, outer.id):
        refusal = refused(lambda a=audience_id: client.count(audienceId=a))
        assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UNUSABLE_AUDIENCE")
    refusal = refused(lambda: client.count(filter=contact_filter({"$inAudience": outer.id})))
    assert (refusal.info.reason, refusal.fields) == ("INVALID_FILTER", ["filter.where.$inAudience"])


def test_an_audience_with_a_deleted_reference_is_refused(
    client: Client, refused: Any, dynamic: str, ids: list[str]
) -> None:
    outer = client.create(name="outer", filter=contact_filter({"$inAudience": dynamic}))
    client.call("DeleteSegment", {"id": dynamic, "force": True})
    refusal = refused(lambda: client.count(audienceId=outer.id))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UNUSABLE_AUDIENCE")
    refusal = refused(lambda: client.count(filter=contact_filter({"$nor": [{"$inAudience": outer.id}]})))
    assert (refusal.info.reason, refusal.fields) == ("INVALID_FILTER", ["filter.where.$nor[0].$inAudience"])


def test_an_audience_of_another_datatype_is_refused(client: Client, refused: Any) -> None:
    leads = client.create(name="leads", filter={"datatype": "lead", "where": {}})
    listed = client.create(name="list of leads", type="static", filter={"datatype": "lead"})
    for audience_id in (leads.id, listed.id):
        refusal = refused(lambda a=audience_id: client.count(filter=contact_filter({"$inAudience": a})))
        assert (refusal.info.reason, refusal.fields) == ("INVALID_FILTER", ["filter.where.$inAudience"])
        assert "of lead, not of contact" in refusal.message


def test_audiences_nest_five_deep_and_no_deeper(client: Client, refused: Any, ids: list[str], found: Find) -> None:
    inner = client.create(name="0", filter=contact_filter({"n": 3}))
    for depth in range(1, 5):
        inner = client.create(name=str(depth), filter=contact_filter({"$inAudience": inner.id}))
    assert found({"$inAudience": inner.id}) == [3]
    deep = client.create(name="deep", filter=contact_filter({"$inAudience": inner.id}))
    refusal = refused(lambda: client.count(filter=contact_filter({"$inAudience": deep.id})))
    assert (refusal.info.reason, refusal.fields) == ("FILTER_TOO_LARGE", ["filter.where.$inAudience"])
    assert refusal.info.metadata["limit"] == "5"


def test_the_conditions_of_audiences_count_towards_the_limit(client: Client, refused: Any) -> None:
    wide = client.create(name="wide", filter=contact_filter({"$or": [{"n": n} for n in range(100, 500)]}))
    assert client.count(filter=contact_filter({"$or": [{"$inAudience": wide.id}, {"$inAudience": wide.id}]})) == 0
    refusal = refused(lambda: client.count(filter=contact_filter({"$or": [{"$inAudience": wide.id}] * 3})))
    assert (refusal.info.reason, refusal.fields) == ("FILTER_TOO_LARGE", ["filter.where.$or[2].$inAudience"])


def test_lists_are_not_inlined_beyond_the_size_limit(
    service: Service, client: Client, found: Find, static: str, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = client.create(name="longer", type="static", contactIds=ids[:8])
    read: list[str] = []
    read_list = joins.read_list

    def reading(database: Any, scope: Any, org: str, audience_id: str, *arguments: Any) -> list[str] | None:
        read.append(audience_id)
        return read_list(database, scope, org, audience_id, *arguments)

    monkeypatch.setattr(joins, "read_list", reading)
    monkeypatch.setattr(joins, "MAX_INLINE_BYTES", 6 * 70)
    where = {"$or": [{"$inAudience": longer.id, "n": {"$gte": 4}}, {"$inAudience": static, "n": {"$lt": 1}}]}
    assert found(where) == [0, 4, 5, 6, 7]
    assert static in read
    twice = {"$and": [{"$inAudience": static}, {"$or": [{"$inAudience": static}, {"n": 100}]}]}
    assert found(twice) == [0, 1, 2, 3], "a list that stands twice takes the room of two"
