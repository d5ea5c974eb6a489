"""What EstimateReach promises, on every store."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, Parse
from hypothesis import given
from hypothesis import strategies as st

from audience_service.pb.audience.v1.reach_service_pb2 import EstimateReachRequest
from audience_service.sample_data import sample_contacts
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.examples import examples

MISSION_REACH = '{"filter":{"datatype":"contact","where":{"country":"US","tags":{"$in":["lead","mql"]}}}}'


def reference(service: Service, org: str, query: dict[str, Any]) -> int:
    """A count as somebody at the database's shell would type it."""
    mine = {"sk": {"$regex": f"^{org}/"}, "state": {"$nin": ["archived", "deleted"]}}
    return service.store.database["contact"].count_documents({**mine, **query})


@pytest.mark.parametrize("iso_text", [False, True])
@pytest.mark.slow
def test_documented_examples_equal_the_reference_count(
    client: Client, service: Service, org: str, iso_text: bool
) -> None:
    service.store.insert(list(sample_contacts(org, 1_000, iso_text=iso_text)))
    service.store.insert(list(sample_contacts(f"{org}2", 100)))
    reach = client.call("EstimateReach", MessageToDict(Parse(MISSION_REACH, EstimateReachRequest())))
    assert reach.count == reference(service, org, {"data.country": "US", "data.tags": {"$in": ["lead", "mql"]}}) > 0
    opened = "2026-03-25T00:00:00.000Z" if iso_text else datetime(2026, 3, 25, tzinfo=UTC)
    where = {"$and": [{"tags": "vip"}, {"lastEmailOpenedAt": {"$gte": "2026-03-25T00:00:00Z"}}]}
    vip = client.create(name="VIP recent openers", type="dynamic", filter={"datatype": "contact", "where": where})
    expected = reference(service, org, {"data.tags": "vip", "data.lastEmailOpenedAt": {"$gte": opened}})
    assert client.count(audienceId=vip.id) == len(client.members(audienceId=vip.id)) == expected > 0


def test_an_empty_audience_has_count_0_and_no_profile(client: Client) -> None:
    reach = client.call("EstimateReach", {"filter": {"datatype": "contact", "where": {}}})
    assert reach.count == 0
    assert not reach.HasField("sample_profile")
    assert reach.HasField("read_time")


def test_the_sample_profile_masks_personal_data(client: Client, insert: Callable[..., list[str]]) -> None:
    insert(
        [
            {
                "data": {
                    "email": "renée.smith@example.com",
                    "phone": "+14155550123",
                    "firstName": "Renée",
                    "lastName": "Smith",
                    "birthday": "1990-05-17",
                    "country": "US",
                    "tags": ["vip"],
                    "score": 42,
                    "address": [{"street1": "1 Main St", "city": "Austin", "zip": "78701", "country": "US"}],
                    "socialSecurityNumber": 123456789,
                    "company": {"name": "Acme", "city": "Austin", "owner": {"email": "own@example.com"}},
                    "subscriptions": [{"email": "sub@example.com", "phone": "+14155550123", "status": "active"}],
                    "lastEmailOpenedAt": datetime(2026, 4, 1, tzinfo=UTC),
                }
            }
        ]
    )
    reach = client.call("EstimateReach", {"filter": {"datatype": "contact", "where": {}}})
    assert MessageToDict(reach.sample_profile) == {
        "email": "r***@example.com",
        "phone": "***23",
        "firstName": "R***",
        "lastName": "S***",
        "birthday": "1990-**-**",
        "country": "US",
        "tags": ["vip"],
        "score": 42,
        "address": [{"street1": "***", "city": "Austin", "zip": "***", "country": "US"}],
        "socialSecurityNumber": "***",
        "company": {"name": "***", "city": "Austin", "owner": "***"},
        "subscriptions": [{"email": "s***@example.com", "phone": "***23", "status": "active"}],
        "lastEmailOpenedAt": "2026-04-01T00:00:00.000Z",
    }


@pytest.mark.parametrize("payload", ["text", 5, ["a"], [{"email": "ann@example.com"}], None])
def test_a_record_without_an_object_payload_is_counted_with_an_empty_profile(
    client: Client, insert: Callable[..., list[str]], payload: Any
) -> None:
    insert([{"data": payload}])
    for budget in ("20s", "0s"):
        reach = client.call(
            "EstimateReach", {"filter": {"datatype": "contact", "where": {}}, "exactCountTimeout": budget}
        )
        assert (reach.count, reach.HasField("sample_profile"), len(reach.sample_profile)) == (1, True, 0)


def test_a_population_is_needed(client: Client, refused: Callable[..., Refusal]) -> None:
    assert refused(lambda: client.call("EstimateReach", {})).fields == ["filter"]
    assert refused(lambda: client.call("StreamMembers", {})).fields == ["filter"]
    assert refused(lambda: client.call("EstimateReach", {"filter": {}})).fields == ["filter.datatype"]


def test_archived_and_deleted_records_come_in_only_when_the_top_level_asks(
    client: Client, insert: Callable[..., list[str]]
) -> None:
    insert([{"state": state} for state in ("active", "archived", "deleted")] + [{}])

    def count(where: dict[str, Any]) -> int:
        return client.count(filter={"datatype": "contact", "where": where})

    assert count({}) == 2
    assert count({"state": "archived"}) == 1
    assert count({"$and": [{"pk": {"$regex": "^contact-"}}, {"$and": [{"state": {"$in": ["deleted", "new"]}}]}]}) == 1
    assert count({"state": {"$not": {"$in": ["active"]}}}) == 1
    assert count({"$and": [{"pk": {"$regex": "^contact-"}}, {"$and": [{"state": {"$ne": "deleted"}}]}]}) == 2
    assert count({"$or": [{"state": "archived"}, {"state": "deleted"}]}) == 0
    assert count({"$nor": [{"state": "active"}]}) == 1


CROWD = {"embedded": 250, "mongodb": 5_000}
Meets = Callable[[dict[str, Any]], bool]
Choice = tuple[dict[str, Any], Meets]


def field(name: str, condition: Any, matches: Callable[[Any], bool]) -> Choice:
    return {name: condition}, lambda data: name in data and matches(data[name])


def joined(name: str, parts: list[Choice]) -> Choice:
    def matches(data: dict[str, Any]) -> bool:
        met = [part(data) for _, part in parts]
        return all(met) if name == "$and" else any(met) != (name == "$nor")

    return {name: [where for where, _ in parts]}, matches


FIELDS: st.SearchStrategy[Choice] = st.one_of(
    st.sampled_from(["US", "DE", "nowhere"]).map(lambda one: field("country", one, lambda own: own == one)),
    st.lists(st.sampled_from(["US", "GB", "JP"])).map(lambda some: field("country", {"$in": some}, some.__contains__)),
    st.integers(-1, 101).map(lambda least: field("score", {"$gte": least}, lambda own: own >= least)),
    st.sampled_from(["vip", "lead", "none"]).map(lambda tag: field("tags", tag, lambda own: tag in own)),
    st.datetimes(datetime(2025, 1, 1), datetime(2026, 5, 1), timezones=st.just(UTC)).map(
        lambda since: field(
            "lastEmailOpenedAt",
            {"$gte": f"{since:%Y-%m-%dT%H:%M:%S}Z"},
            lambda own: own >= since.replace(microsecond=0),
        )
    ),
)
CHOICES = st.recursive(
    FIELDS,
    lambda inner: st.builds(joined, st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=5,
)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_any_filter_reaches_as_many_of_a_crowd_as_are_counted_one_by_one(service: Service, org: str) -> None:
    records = list(sample_contacts(org, CROWD[service.kind]))
    service.store.insert([dict(record) for record in records])
    client = service.client(org)
    active_records = [record["data"] for record in records if record.get("state") not in ("archived", "deleted")]

    @examples(30 if service.kind == "mongodb" else 10)
    @given(CHOICES)
    def agree(choice: Choice) -> None:
        where, matches = choice
        expected = sum(matches(data) for data in active_records)
        request = {"filter": {"datatype": "contact", "where": where}}
        reach = client.call("EstimateReach", request)
        assert (reach.count, reach.exact, reach.HasField("sample_profile")) == (expected, True, expected > 0)
        last = list(client.call("StreamReach", request))[-1]
        assert (last.count, last.exact) == (expected, True)
        assert len(client.members(**request)) == expected

    agree()


def test_an_org_whose_name_begins_like_anothers_is_another(client: Client, service: Service, org: str) -> None:
    for other in (f"{org}2", f"{org}-x", f"{org}.x", org[:-1], f"{org}_"):
        service.insert(other, [{"data": {"country": "US"}}])
    mine = service.insert(org, [{"data": {"country": "US"}}])
    all_contacts = {"datatype": "contact", "where": {}}
    assert client.members(filter=all_contacts) == mine
    assert client.count(filter=all_contacts) == 1
    for reach_out in ({"sk": {"$gte": ""}}, {"sk": {"$regex": "2/"}}, {"$or": [{"sk": {"$exists": True}}, {}]}):
        assert client.count(filter={"datatype": "contact", "where": reach_out}) <= 1
