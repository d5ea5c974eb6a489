"""How segments are made, found by their id and deleted, on every store."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, Parse

from audience_service.pb.audience.v1.segment_service_pb2 import CreateSegmentRequest
from tests.conftest import Service
from tests.support.client import Client, Refusal

VIP = {"datatype": "contact", "where": {"tags": "vip"}}
Refused = Callable[..., Refusal]

MISSION_SEGMENT = (
    '{"name": "VIP recent openers", "type": "dynamic", "filter": {"datatype":"contact","where":{"$and":[{"tags":"vip"},'
    '{"lastEmailOpenedAt":{"$gte":"2026-03-25T00:00:00Z"}}]}}}'
)


def test_the_missions_segment_is_accepted_to_the_letter(client: Client) -> None:
    request = Parse('{"segment": ' + MISSION_SEGMENT + "}", CreateSegmentRequest())
    made = client.call("CreateSegment", MessageToDict(request))
    assert made.type == "dynamic"
    assert MessageToDict(made.filter) == MessageToDict(request.segment.filter)
    assert made.version == 0
    assert made.author == "tester"
    assert made.id.startswith("segment-")
    assert client.call("GetSegment", {"id": made.id}) == made


def test_a_name_is_needed_and_trimmed(client: Client, refused: Refused) -> None:
    assert refused(lambda: client.create(name="  ", filter=VIP)).fields == ["segment.name"]
    assert client.create(name="  VIPs ", filter=VIP).name == "VIPs"


@pytest.mark.parametrize(
    ("segment", "field"),
    [
        ({"name": "x" * 201, "filter": VIP}, "segment.name"),
        ({"name": "a\nb", "filter": VIP}, "segment.name"),
        ({"name": "x", "description": "d" * 2_001, "filter": VIP}, "segment.description"),
        ({"name": "x", "type": "frozen", "filter": VIP}, "segment.type"),
        ({"name": "x"}, "segment.filter"),
        ({"name": "x", "filter": {"datatype": "contact"}}, "segment.filter.where"),
        ({"name": "x", "filter": {"where": {}}}, "segment.filter.datatype"),
        ({"name": "x", "filter": {"datatype": "order", "where": {}}}, "segment.filter.datatype"),
        ({"name": "x", "filter": {"datatype": "contact", "whereJson": "{"}}, "segment.filter.where_json"),
        ({"name": "x", "filter": VIP, "contactIds": ["contact-1"]}, "segment.contact_ids"),
        ({"name": "x", "type": "static", "filter": VIP, "contactIds": ["contact-1"]}, "segment"),
        ({"name": "x", "type": "static", "filter": {"datatype": "order"}}, "segment.filter.datatype"),
        ({"name": "x", "type": "static", "contactIds": ["contact-1", ""]}, "segment.contact_ids[1]"),
    ],
)
def test_a_bad_segment_is_refused_with_its_field_path(
    client: Client, refused: Refused, segment: dict[str, Any], field: str
) -> None:
    refusal = refused(lambda: client.create(**segment))
    assert refusal.code.name == "INVALID_ARGUMENT"
    assert refusal.fields == [field]


def test_a_source_is_for_static_segments_and_not_empty(client: Client, refused: Refused) -> None:
    dynamic = {"segment": {"name": "x", "filter": VIP}, "source": {"filter": VIP}}
    assert refused(lambda: client.call("CreateSegment", dynamic)).fields == ["source"]
    empty = {"segment": {"name": "x", "type": "static"}, "source": {}}
    assert refused(lambda: client.call("CreateSegment", empty)).fields == ["source"]
    wrong = {"segment": {"name": "x", "type": "static"}, "source": {"filter": {"datatype": "contact"}}}
    assert refused(lambda: client.call("CreateSegment", wrong)).fields == ["source.filter.where"]


def test_names_are_unique_among_an_orgs_active_segments(client: Client, service: Service, refused: Refused) -> None:
    first = client.create(name="VIPs", filter=VIP)
    refusal = refused(lambda: client.create(name="VIPs", filter=VIP))
    assert (refusal.code.name, refusal.info.reason) == ("ALREADY_EXISTS", "NAME_TAKEN")
    other = client.create(name="Others", filter=VIP)
    rename = {"segment": {"id": other.id, "name": "VIPs"}, "updateMask": "name"}
    assert refused(lambda: client.call("UpdateSegment", rename)).info.reason == "NAME_TAKEN"
    client.call("DeleteSegment", {"id": first.id})
    client.create(name="VIPs", filter=VIP)
    service.client("another-org").call(
        "CreateSegment", {"segment": {"name": "VIPs", "filter": VIP}, "validateOnly": True}
    )


def test_validate_only_checks_everything_without_writing(client: Client, refused: Refused) -> None:
    request = {"segment": {"name": "VIPs", "filter": VIP}, "validateOnly": True}
    checked = client.call("CreateSegment", request)
    assert (checked.id, checked.name) == ("", "VIPs")
    assert client.call("ListSegments").total_size == 0
    unknown = {"segment": {"name": "x", "type": "static", "contactIds": ["contact-no"]}, "validateOnly": True}
    assert refused(lambda: client.call("CreateSegment", unknown)).info.reason == "CONTACT_NOT_FOUND"


def test_a_repeated_request_id_makes_one_segment(client: Client, service: Service, org: str, refused: Refused) -> None:
    request = {"segment": {"name": "VIPs", "filter": VIP}, "requestId": "6a1f7e9c"}
    first = client.call("CreateSegment", request)
    assert client.call("CreateSegment", request) == first
    assert client.call("ListSegments").total_size == 1
    changed = {**request, "segment": {"name": "Other", "filter": VIP}}
    refusal = refused(lambda: client.call("CreateSegment", changed))
    assert (refusal.code.name, refusal.info.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    other = service.client(org, subject="somebody else")
    assert other.call("CreateSegment", changed).id != first.id


def test_a_request_id_has_a_limit(client: Client, refused: Refused) -> None:
    request = {"segment": {"name": "VIPs", "filter": VIP}, "requestId": "x" * 65}
    assert refused(lambda: client.call("CreateSegment", request)).fields == ["request_id"]


def test_a_deleted_segment_is_found_by_no_call_but_the_list_of_deleted_ones(client: Client, refused: Refused) -> None:
    made = client.create(name="VIPs", filter=VIP)
    assert client.call("DeleteSegment", {"id": made.id}).state == "deleted"
    calls: list[tuple[str, dict[str, Any]]] = [
        ("GetSegment", {"id": made.id}),
        ("DeleteSegment", {"id": made.id}),
        ("UpdateSegment", {"segment": {"id": made.id, "name": "x"}, "updateMask": "name"}),
        ("EstimateReach", {"audienceId": made.id}),
        ("StreamMembers", {"audienceId": made.id}),
        ("AddSegmentContacts", {"id": made.id, "contactIds": ["contact-1"]}),
    ]
    for rpc, request in calls:
        refusal = refused(lambda rpc=rpc, request=request: client.call(rpc, request))
        assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "AUDIENCE_NOT_FOUND"), rpc
    assert client.call("ListSegments").total_size == 0
    assert [s.id for s in client.call("ListSegments", {"state": "deleted"}).segments] == [made.id]


def test_a_foreign_id_is_answered_as_an_unknown_one(client: Client, service: Service, refused: Refused) -> None:
    foreign = service.client("the-owner").create(name=f"of another org {client.metadata[1][1]}", filter=VIP)
    for rpc in ("GetSegment", "DeleteSegment"):
        theirs = refused(lambda rpc=rpc: client.call(rpc, {"id": foreign.id}))
        unknown = refused(lambda rpc=rpc: client.call(rpc, {"id": "segment-unknown"}))
        assert (theirs.code, theirs.message) == (unknown.code, unknown.message)
        assert theirs.info.reason == unknown.info.reason == "AUDIENCE_NOT_FOUND"


def test_an_exact_filter_comes_back_as_text(client: Client) -> None:
    text = '{"data.sub": {"b": {"$numberLong": "9007199254740993"}, "a": 1}}'
    made = client.create(name="exact", filter={"datatype": "contact", "whereJson": text})
    assert made.filter.WhichOneof("conditions") == "where_json"
    again = client.create(name="again", filter={"datatype": "contact", "whereJson": made.filter.where_json})
    assert again.filter == made.filter


def test_concurrent_identical_requests_create_one_segment(client: Client) -> None:
    for number in range(5):
        request = {"segment": {"name": f"once {number}", "filter": VIP}, "requestId": f"r{number}"}
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda _, request=request: client.call("CreateSegment", request).id, range(8)))
        assert len(set(made)) == 1
    assert client.call("ListSegments").total_size == 5


def test_request_ids_are_scoped_to_their_subject(client: Client, service: Service, org: str) -> None:
    one, other = service.client(org, subject="a/b"), service.client(org, subject="a")
    first = one.call("CreateSegment", {"segment": {"name": "1", "filter": VIP}, "requestId": "c"})
    second = other.call("CreateSegment", {"segment": {"name": "2", "filter": VIP}, "requestId": "b/c"})
    assert first.id != second.id
