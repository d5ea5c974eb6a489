"""Segments that the platform created or changed: read as they are; writes keep all other fields."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Service
from tests.support.client import Client, Refusal

VIP = {"datatype": "contact", "where": {"tags": "vip"}}
Refused = Callable[..., Refusal]


def test_platform_records_are_read_and_preserved(client: Client, service: Service, org: str) -> None:
    service.store.database["segment"].insert_one(
        {
            "pk": "segment-platform1" + org,
            "sk": f"{org}/segment/platform1",
            "datatype": "segment",
            "createdate": "2026-01-02T03:04:05.678Z",
            "owner": {"title": "Sales"},
            "data": {"name": "From the platform", "filter": {"datatype": "contact", "where": {"tags": "vip"}}, "x": 1},
        }
    )
    found = client.call("GetSegment", {"id": "segment-platform1" + org})
    assert (found.name, found.type, found.state, found.version) == ("From the platform", "dynamic", "active", 0)
    assert found.create_time.ToJsonString() == "2026-01-02T03:04:05.678Z"
    assert client.count(audienceId=found.id) == 0
    assert client.call("ListSegments", {"name": "platform"}).total_size == 1
    changed = client.call("UpdateSegment", {"segment": {"id": found.id, "name": "Ours"}, "updateMask": "name"})
    assert changed.version == 1
    record = service.store.database["segment"].find_one({"pk": found.id})
    assert record is not None
    assert record["owner"] == {"title": "Sales"}
    assert record["data"]["x"] == 1
    assert record["data"]["name"] == record["name"] == "Ours"


def test_a_saved_filter_that_cannot_be_run_says_so(
    client: Client, service: Service, org: str, refused: Refused
) -> None:
    service.store.database["segment"].insert_one(
        {
            "pk": f"segment-odd{org}",
            "sk": f"{org}/segment/odd",
            "datatype": "segment",
            "data": {"name": "odd", "filter": {"datatype": "contact", "where": {"$where": "1"}}},
        }
    )
    assert client.call("GetSegment", {"id": f"segment-odd{org}"}).name == "odd"
    refusal = refused(lambda: client.call("EstimateReach", {"audienceId": f"segment-odd{org}"}))
    assert (refusal.code.name, refusal.info.reason) == ("FAILED_PRECONDITION", "UNUSABLE_AUDIENCE")


def test_a_write_changes_only_its_fields_of_a_platform_record(client: Client, service: Service, org: str) -> None:
    data = {"name": "odd", "filter": {"datatype": "contact", "where": '{"country": "US"}', "limit": 5}, "type": "smart"}
    collection = service.store.database["segment"]
    collection.insert_one({"pk": f"segment-kept{org}", "sk": f"{org}/segment/kept", "version": None, "data": data})
    rename = {"segment": {"id": f"segment-kept{org}", "name": "renamed"}, "updateMask": "name"}
    assert client.call("UpdateSegment", rename).version == 1
    client.call("DeleteSegment", {"id": f"segment-kept{org}"})
    record = collection.find_one({"pk": f"segment-kept{org}"})
    assert record is not None
    assert record["state"] == "deleted"
    assert {name: record["data"][name] for name in data} == {**data, "name": "renamed"}


@pytest.mark.parametrize(
    "odd",
    [
        {"data": {"filter": "text"}},
        {"data": "text"},
        {"data": None, "version": 2**40},
        {"version": None, "createdate": "0001-01-01T00:00:00+05:00"},
        {"name": {"first": "x"}, "state": 5, "author": ["x"], "modifydate": 7},
        {"pk": None},
    ],
)
def test_a_malformed_platform_record_spoils_no_list(real_service: Service, odd: dict[str, Any]) -> None:
    org = f"malformed{next(real_service.names)}"
    record = {"pk": f"segment-{org}", "sk": f"{org}/segment/odd", "datatype": "segment", **odd}
    real_service.store.database["segment"].insert_one(record)
    client = real_service.client(org)
    good = client.create(name="good", filter=VIP)
    for order in ("name", "create_time desc", "update_time"):
        page = client.call("ListSegments", {"orderBy": order})
        assert page.total_size == 2
        assert good.id in [segment.id for segment in page.segments]


def test_a_name_that_the_platform_freed_can_be_taken(client: Client, service: Service) -> None:
    collection = service.store.database["segment"]
    deleted, renamed = client.create(name="deleted there", filter=VIP), client.create(name="renamed there", filter=VIP)
    collection.update_one({"pk": deleted.id}, {"$set": {"state": "deleted"}})
    collection.update_one({"pk": renamed.id}, {"$set": {"name": "another", "data.name": "another"}})
    for name in ("deleted there", "renamed there"):
        client.create(name=name, filter=VIP)
    assert client.call("ListSegments").total_size == 3


def test_a_segment_cannot_be_frozen_from_an_audience_that_cannot_be_run(
    client: Client, service: Service, org: str, refused: Refused
) -> None:
    odd = {"name": "odd", "filter": {"datatype": "contact", "where": {"$where": "1"}}}
    record = {"pk": f"segment-odd{org}", "sk": f"{org}/segment/odd", "data": odd}
    service.store.database["segment"].insert_one(record)
    for validate_only in (True, False):
        request = {
            "segment": {"name": "frozen", "type": "static"},
            "source": {"audienceId": f"segment-odd{org}"},
            "validateOnly": validate_only,
        }
        assert refused(lambda request=request: client.call("CreateSegment", request)).info.reason == "UNUSABLE_AUDIENCE"


def test_a_list_of_a_datatype_that_is_not_served_is_not_touched(
    client: Client, service: Service, org: str, refused: Refused
) -> None:
    data = {"name": "users", "type": "static", "filter": {"datatype": "user"}}
    record = {"pk": f"segment-users{org}", "sk": f"{org}/segment/users", "data": data}
    service.store.database["segment"].insert_one(record)
    request = {"id": f"segment-users{org}", "contactIds": ["user-1"]}
    assert refused(lambda: client.call("AddSegmentContacts", request)).info.reason == "UNUSABLE_AUDIENCE"
