"""Segments brought back: deleted ones, and earlier versions of living ones, on every store."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from tests.client import Client, Refusal
from tests.conftest import Service
from tests.versions import update, versions

VIP = {"datatype": "contact", "where": {"tags": "vip"}}
MQL = {"datatype": "contact", "where": {"$and": [{"tags": {"$in": ["mql"]}}, {"score": {"$gte": 5}}]}}
Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


def test_a_deleted_segment_is_brought_back(client: Client, service: Service, org: str) -> None:
    made = client.create(name="VIPs", description="d", filter=MQL)
    client.call("DeleteSegment", {"id": made.id})
    restored = service.client(org, subject="bob").call("RestoreSegment", {"id": made.id})
    assert (restored.state, restored.version, restored.name, restored.filter) == ("active", 2, "VIPs", made.filter)
    assert client.call("GetSegment", {"id": made.id}) == restored
    [top, *_] = versions(client, made.id)
    assert (top.subject, list(top.changed_fields)) == ("bob", ["state"])


def test_a_version_is_brought_back(client: Client) -> None:
    made = client.create(name="VIPs", description="first", filter=VIP)
    update(client, made.id, "name,description,filter", name="Stars", description="", filter=MQL)
    restored = client.call("RestoreSegment", {"id": made.id, "restoreVersion": 0})
    assert (restored.name, restored.description, restored.version) == ("VIPs", "first", 2)
    assert MessageToDict(restored.filter) == VIP
    client.call("DeleteSegment", {"id": made.id})
    again = client.call("RestoreSegment", {"id": made.id, "restoreVersion": 1})
    assert (again.name, again.state, MessageToDict(again.filter)) == ("Stars", "active", MQL)


def test_a_living_segment_is_restored_to_a_version_that_it_has(client: Client, refused: Refused) -> None:
    made = client.create(name="VIPs", filter=VIP)
    assert refused(lambda: client.call("RestoreSegment", {"id": made.id})).fields == ["restore_version"]
    for version in (1, -1, 2**31 - 1):
        request = {"id": made.id, "restoreVersion": version}
        refusal = refused(lambda request=request: client.call("RestoreSegment", request))
        assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "VERSION_NOT_FOUND")
    assert client.call("GetSegment", {"id": made.id}) == made


def test_a_name_taken_meanwhile_is_not_taken_back(client: Client, refused: Refused) -> None:
    made = client.create(name="VIPs", filter=VIP)
    client.call("DeleteSegment", {"id": made.id})
    other = client.create(name="VIPs", filter=VIP)
    refusal = refused(lambda: client.call("RestoreSegment", {"id": made.id}))
    assert (refusal.code.name, refusal.info.reason) == ("ALREADY_EXISTS", "NAME_TAKEN")
    update(client, other.id, "name", name="Others")
    assert client.call("RestoreSegment", {"id": made.id}).name == "VIPs"
    update(client, made.id, "name", name="Mine")
    update(client, other.id, "name", name="VIPs")
    by_version = {"id": made.id, "restoreVersion": 0}
    assert refused(lambda: client.call("RestoreSegment", by_version)).info.reason == "NAME_TAKEN"


def test_a_restore_on_a_stale_version_is_refused(client: Client, refused: Refused) -> None:
    made = client.create(name="VIPs", filter=VIP)
    client.call("DeleteSegment", {"id": made.id})
    refusal = refused(lambda: client.call("RestoreSegment", {"id": made.id, "version": 0}))
    assert (refusal.code.name, refusal.info.reason) == ("ABORTED", "STALE_VERSION")
    assert client.call("RestoreSegment", {"id": made.id, "version": 1}).version == 2


def test_a_filter_that_no_longer_compiles_is_not_brought_back(
    client: Client, service: Service, org: str, refused: Refused
) -> None:
    odd = {"name": "odd", "filter": {"datatype": "contact", "where": {"$where": "1"}}}
    record: dict[str, Any] = {"pk": f"segment-odd{org}", "sk": f"{org}/segment/odd", "data": odd}
    service.store.database["segment"].insert_one(record)
    update(client, record["pk"], "filter", filter=VIP)
    refusal = refused(lambda: client.call("RestoreSegment", {"id": record["pk"], "restoreVersion": 0}))
    assert (refusal.code.name, refusal.info.reason) == ("INVALID_ARGUMENT", "INVALID_FILTER")


def test_a_static_segment_comes_back_with_its_list_as_it_is(client: Client, insert: Insert) -> None:
    ids = insert([{}, {}, {}])
    made = client.create(name="list", type="static", contactIds=ids[:1])
    client.call("AddSegmentContacts", {"id": made.id, "contactIds": ids})
    client.call("DeleteSegment", {"id": made.id})
    assert client.call("RestoreSegment", {"id": made.id, "restoreVersion": 0}).contact_count == 3
    assert client.count(audienceId=made.id) == 3


def test_a_segment_whose_audience_is_gone_is_not_brought_back(client: Client, refused: Refused) -> None:
    y = client.create(name="y", filter=VIP)
    z = client.create(name="z", filter={"datatype": "contact", "where": {"$inAudience": y.id}})
    for segment_id in (z.id, y.id):
        client.call("DeleteSegment", {"id": segment_id})
    refusal = refused(lambda: client.call("RestoreSegment", {"id": z.id}))
    assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "AUDIENCE_NOT_FOUND")
    assert [field.startswith("segment.filter.where") for field in refusal.fields] == [True]
    client.call("RestoreSegment", {"id": y.id})
    assert client.call("RestoreSegment", {"id": z.id}).state == "active"


def test_a_deleted_filter_outside_the_language_is_not_brought_back(
    client: Client, service: Service, org: str, refused: Refused
) -> None:
    odd = {"name": "odd", "filter": {"datatype": "contact", "where": {"$where": "1"}}}
    record: dict[str, Any] = {"pk": f"segment-odd{org}", "sk": f"{org}/segment/odd", "data": odd}
    service.store.database["segment"].insert_one(record)
    client.call("DeleteSegment", {"id": record["pk"]})
    assert refused(lambda: client.call("RestoreSegment", {"id": record["pk"]})).info.reason == "INVALID_FILTER"


@pytest.mark.parametrize("restore_version", [{}, {"restoreVersion": 1}])
def test_a_segment_comes_back_in_the_state_that_it_had(
    client: Client, service: Service, restore_version: dict[str, int]
) -> None:
    made = client.create(name="VIPs", filter=VIP)
    service.store.database["segment"].update_one({"pk": made.id}, {"$set": {"state": "archived", "version": 1}})
    client.call("DeleteSegment", {"id": made.id})
    assert client.call("RestoreSegment", {"id": made.id, **restore_version}).state == "archived"


def test_a_segment_that_the_platform_deleted_comes_back_active(client: Client, service: Service) -> None:
    made = client.create(name="VIPs", filter=VIP)
    service.store.database["segment"].update_one({"pk": made.id}, {"$set": {"state": "deleted", "version": 1}})
    assert client.call("RestoreSegment", {"id": made.id}).state == "active"
    service.store.database["segment"].update_one({"pk": made.id}, {"$set": {"state": "deleted", "version": 3}})
    assert client.call("RestoreSegment", {"id": made.id}).state == "active"
