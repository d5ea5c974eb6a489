"""Segments brought back, on every store: deleted ones by UndeleteSegment, older versions by RollbackSegment."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.versions import update, versions

VIP = {"datatype": "contact", "where": {"tags": "vip"}}
MQL = {"datatype": "contact", "where": {"$and": [{"tags": {"$in": ["mql"]}}, {"score": {"$gte": 5}}]}}
Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


def test_a_deleted_segment_is_brought_back(client: Client, service: Service, org: str) -> None:
    made = client.create(name="VIPs", description="d", filter=MQL)
    client.call("DeleteSegment", {"id": made.id})
    restored = service.client(org, subject="bob").call("UndeleteSegment", {"id": made.id})
    assert (restored.state, restored.version, restored.name, restored.filter) == ("active", 2, "VIPs", made.filter)
    assert client.call("GetSegment", {"id": made.id}) == restored
    [top, *_] = versions(client, made.id)
    assert (top.editor, list(top.changed_fields)) == ("bob", ["state"])


def test_a_version_is_brought_back(client: Client) -> None:
    made = client.create(name="VIPs", description="first", filter=VIP)
    update(client, made.id, "name,description,filter", name="Stars", description="", filter=MQL)
    restored = client.call("RollbackSegment", {"id": made.id, "targetVersion": 0})
    assert (restored.name, restored.description, restored.version) == ("VIPs", "first", 2)
    assert MessageToDict(restored.filter) == VIP
    client.call("DeleteSegment", {"id": made.id})
    again = client.call("RollbackSegment", {"id": made.id, "targetVersion": 1})
    assert (again.name, again.state, MessageToDict(again.filter)) == ("Stars", "active", MQL)


def test_a_segment_that_is_not_deleted_is_not_undeleted(client: Client, refused: Refused) -> None:
    made = client.create(name="VIPs", filter=VIP)
    refusal = refused(lambda: client.call("UndeleteSegment", {"id": made.id}))
    assert (refusal.code.name, refusal.info.reason) == ("ALREADY_EXISTS", "NOT_DELETED")
    assert dict(refusal.info.metadata) == {"id": made.id}
    assert "RollbackSegment" in refusal.message
    assert client.call("GetSegment", {"id": made.id}) == made


def test_a_segment_is_undeleted_by_one_of_two_concurrent_calls(client: Client) -> None:
    made = client.create(name="VIPs", filter=VIP)
    client.call("DeleteSegment", {"id": made.id})

    def attempt(_: int) -> bool:
        try:
            client.call("UndeleteSegment", {"id": made.id})
        except grpc.RpcError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(attempt, range(2))) == [False, True]
    assert [v.segment.state for v in versions(client, made.id)] == ["active", "deleted", "active"]


def test_a_rollback_names_its_target(client: Client, refused: Refused) -> None:
    made = client.create(name="VIPs", filter=VIP)
    refusal = refused(lambda: client.call("RollbackSegment", {"id": made.id}))
    assert (refusal.info.reason, refusal.fields) == ("INVALID_FIELD", ["target_version"])


def test_a_segment_is_rolled_back_only_to_a_version_that_it_has(client: Client, refused: Refused) -> None:
    made = client.create(name="VIPs", filter=VIP)
    for version in (1, -1, 2**31 - 1):
        request = {"id": made.id, "targetVersion": version}
        refusal = refused(lambda request=request: client.call("RollbackSegment", request))
        assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "VERSION_NOT_FOUND")
    assert client.call("GetSegment", {"id": made.id}) == made


def test_a_deleted_segment_whose_name_was_taken_comes_back_by_a_rollback(client: Client, refused: Refused) -> None:
    made = client.create(name="first", filter=VIP)
    update(client, made.id, "name", name="second")
    client.call("DeleteSegment", {"id": made.id})
    client.create(name="second", filter=VIP)
    assert refused(lambda: client.call("UndeleteSegment", {"id": made.id})).info.reason == "NAME_TAKEN"
    back = client.call("RollbackSegment", {"id": made.id, "targetVersion": 0, "version": 2})
    assert (back.name, back.state, back.version) == ("first", "active", 3)


def test_a_name_taken_meanwhile_is_not_taken_back(client: Client, refused: Refused) -> None:
    made = client.create(name="VIPs", filter=VIP)
    client.call("DeleteSegment", {"id": made.id})
    other = client.create(name="VIPs", filter=VIP)
    refusal = refused(lambda: client.call("UndeleteSegment", {"id": made.id}))
    assert (refusal.code.name, refusal.info.reason) == ("ALREADY_EXISTS", "NAME_TAKEN")
    update(client, other.id, "name", name="Others")
    assert client.call("UndeleteSegment", {"id": made.id}).name == "VIPs"
    update(client, made.id, "name", name="Mine")
    update(client, other.id, "name", name="VIPs")
    by_version = {"id": made.id, "targetVersion": 0}
    assert refused(lambda: client.call("RollbackSegment", by_version)).info.reason == "NAME_TAKEN"


def test_an_undeletion_and_a_rollback_on_a_stale_version_are_refused(client: Client, refused: Refused) -> None:
    made = client.create(name="VIPs", filter=VIP)
    client.call("DeleteSegment", {"id": made.id})
    for rpc, target in (("UndeleteSegment", {}), ("RollbackSegment", {"targetVersion": 0})):
        request = {"id": made.id, "version": 0, **target}
        refusal = refused(lambda rpc=rpc, request=request: client.call(rpc, request))
        assert (refusal.code.name, refusal.info.reason) == ("ABORTED", "STALE_VERSION")
    assert client.call("UndeleteSegment", {"id": made.id, "version": 1}).version == 2


def test_a_filter_that_no_longer_compiles_is_not_brought_back(
    client: Client, service: Service, org: str, refused: Refused
) -> None:
    odd = {"name": "odd", "filter": {"datatype": "contact", "where": {"$where": "1"}}}
    record: dict[str, Any] = {"pk": f"segment-odd{org}", "sk": f"{org}/segment/odd", "data": odd}
    service.store.database["segment"].insert_one(record)
    update(client, record["pk"], "filter", filter=VIP)
    refusal = refused(lambda: client.call("RollbackSegment", {"id": record["pk"], "targetVersion": 0}))
    assert (refusal.code.name, refusal.info.reason) == ("INVALID_ARGUMENT", "INVALID_FILTER")


def test_a_static_segment_comes_back_with_its_list_as_it_is(client: Client, insert: Insert) -> None:
    ids = insert([{}, {}, {}])
    made = client.create(name="list", type="static", contactIds=ids[:1])
    client.call("AddSegmentContacts", {"id": made.id, "contactIds": ids})
    client.call("DeleteSegment", {"id": made.id})
    assert client.call("RollbackSegment", {"id": made.id, "targetVersion": 0}).contact_count == 3
    assert client.count(audienceId=made.id) == 3


def test_a_segment_that_references_a_deleted_audience_is_not_restored(client: Client, refused: Refused) -> None:
    y = client.create(name="y", filter=VIP)
    z = client.create(name="z", filter={"datatype": "contact", "where": {"$inAudience": y.id}})
    for segment_id in (z.id, y.id):
        client.call("DeleteSegment", {"id": segment_id})
    refusal = refused(lambda: client.call("UndeleteSegment", {"id": z.id}))
    assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "AUDIENCE_NOT_FOUND")
    assert [field.startswith("segment.filter.where") for field in refusal.fields] == [True]
    client.call("UndeleteSegment", {"id": y.id})
    assert client.call("UndeleteSegment", {"id": z.id}).state == "active"


def test_a_deleted_filter_outside_the_language_is_not_brought_back(
    client: Client, service: Service, org: str, refused: Refused
) -> None:
    odd = {"name": "odd", "filter": {"datatype": "contact", "where": {"$where": "1"}}}
    record: dict[str, Any] = {"pk": f"segment-odd{org}", "sk": f"{org}/segment/odd", "data": odd}
    service.store.database["segment"].insert_one(record)
    client.call("DeleteSegment", {"id": record["pk"]})
    assert refused(lambda: client.call("UndeleteSegment", {"id": record["pk"]})).info.reason == "INVALID_FILTER"


@pytest.mark.parametrize(("rpc", "target"), [("UndeleteSegment", {}), ("RollbackSegment", {"targetVersion": 1})])
def test_a_segment_comes_back_in_the_state_that_it_had(
    client: Client, service: Service, rpc: str, target: dict[str, int]
) -> None:
    made = client.create(name="VIPs", filter=VIP)
    service.store.database["segment"].update_one({"pk": made.id}, {"$set": {"state": "archived", "version": 1}})
    client.call("DeleteSegment", {"id": made.id})
    assert client.call(rpc, {"id": made.id, **target}).state == "archived"


def test_a_segment_that_the_platform_deleted_comes_back_active(client: Client, service: Service) -> None:
    made = client.create(name="VIPs", filter=VIP)
    service.store.database["segment"].update_one({"pk": made.id}, {"$set": {"state": "deleted", "version": 1}})
    assert client.call("UndeleteSegment", {"id": made.id}).state == "active"
    service.store.database["segment"].update_one({"pk": made.id}, {"$set": {"state": "deleted", "version": 3}})
    assert client.call("UndeleteSegment", {"id": made.id}).state == "active"
