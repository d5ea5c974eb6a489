"""Updates of segments: with a mask and without, refused with their place, and none of them lost."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from tests.support.client import Client, Refusal

VIP = {"datatype": "contact", "where": {"tags": "vip"}}
Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


def test_update_with_a_mask_changes_the_named_fields_alone(client: Client) -> None:
    made = client.create(name="VIPs", description="first", filter=VIP)
    request = {"segment": {"id": made.id, "name": "Stars", "description": "x"}, "updateMask": "name"}
    changed = client.call("UpdateSegment", request)
    assert (changed.name, changed.description, changed.version) == ("Stars", "first", 1)
    assert changed.filter == made.filter
    assert changed.update_time.ToDatetime() >= made.update_time.ToDatetime()
    assert client.call("GetSegment", {"id": made.id}) == changed


def test_update_without_a_mask_replaces_all_that_a_caller_may_set(client: Client, refused: Refused) -> None:
    made = client.create(name="VIPs", description="first", filter=VIP)
    all_contacts = {"datatype": "contact", "where": {}}
    changed = client.call("UpdateSegment", {"segment": {"id": made.id, "name": "All", "filter": all_contacts}})
    assert (changed.name, changed.description) == ("All", "")
    assert MessageToDict(changed.filter) == all_contacts
    incomplete = {"segment": {"id": made.id, "name": "All"}}
    assert refused(lambda: client.call("UpdateSegment", incomplete)).fields == ["segment.filter"]


def test_a_segment_from_get_can_be_written_back(client: Client, insert: Insert) -> None:
    ids = insert([{}, {}])
    for segment in (
        client.create(name="dynamic", filter=VIP),
        client.create(name="ids", type="static", contactIds=ids),
        client.create(name="frozen", type="static", filter=VIP),
    ):
        put = client.call("UpdateSegment", {"segment": MessageToDict(segment)})
        assert put.version == segment.version + 1
        assert MessageToDict(put.filter) == MessageToDict(segment.filter)


@pytest.mark.parametrize(
    ("change", "mask", "field"),
    [
        ({"type": "static"}, "name", "segment.type"),
        ({"contactIds": ["contact-1"]}, "name", "segment.contact_ids"),
        ({"filter": {"datatype": "contact", "where": {"$x": 1}}}, "filter", "segment.filter.where.$x"),
        ({}, "state", "update_mask"),
        ({"id": ""}, "name", "segment.id"),
    ],
)
def test_a_bad_update_is_refused_with_its_field_path(
    client: Client, refused: Refused, change: dict[str, Any], mask: str, field: str
) -> None:
    made = client.create(name="VIPs", filter=VIP)
    request = {"segment": {"id": made.id, "name": "VIPs", **change}, "updateMask": mask}
    assert refused(lambda: client.call("UpdateSegment", request)).fields == [field]
    assert client.call("GetSegment", {"id": made.id}) == made


def test_a_static_segments_filter_stays(client: Client, refused: Refused) -> None:
    made = client.create(name="frozen", type="static", filter=VIP)
    other = {"datatype": "contact", "where": {"tags": "mql"}}
    request = {"segment": {"id": made.id, "name": "frozen", "filter": other}}
    assert refused(lambda: client.call("UpdateSegment", request)).fields == ["segment.filter"]


def test_a_write_on_a_stale_version_is_refused(client: Client, refused: Refused) -> None:
    made = client.create(name="VIPs", filter=VIP)
    update = {"segment": {"id": made.id, "name": "Stars", "version": 0}, "updateMask": "name"}
    assert client.call("UpdateSegment", update).version == 1
    refusal = refused(lambda: client.call("UpdateSegment", update))
    assert (refusal.code.name, refusal.info.reason) == ("ABORTED", "STALE_VERSION")
    assert refusal.info.metadata["current_version"] == "1"
    assert refused(lambda: client.call("DeleteSegment", {"id": made.id, "version": 0})).info.reason == "STALE_VERSION"
    assert client.call("DeleteSegment", {"id": made.id, "version": 1}).state == "deleted"


def test_validate_only_update_leaves_the_segment_unchanged(client: Client) -> None:
    made = client.create(name="VIPs", filter=VIP)
    request = {"segment": {"id": made.id, "name": "Stars"}, "updateMask": "name", "validateOnly": True}
    assert client.call("UpdateSegment", request).name == "Stars"
    assert client.call("GetSegment", {"id": made.id}) == made


def test_updates_without_a_version_all_come_through(client: Client) -> None:
    made = client.create(name="busy", filter=VIP)
    requests = [
        {"segment": {"id": made.id, "description": str(number)}, "updateMask": "description"} for number in range(24)
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda request: client.call("UpdateSegment", request), requests))
    assert client.call("GetSegment", {"id": made.id}).version == len(requests)
