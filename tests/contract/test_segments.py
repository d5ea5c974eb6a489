"""What SegmentService promises, on every store."""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, Parse

from audience_service.pb.audience.v1.segment_service_pb2 import CreateSegmentRequest
from tests.client import Client, Refusal
from tests.conftest import Service

VIP = {"datatype": "contact", "where": {"tags": "vip"}}
Insert = Callable[..., list[str]]
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
def test_a_bad_segment_is_refused_with_its_place(
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


def test_names_are_unique_among_an_orgs_living_segments(client: Client, service: Service, refused: Refused) -> None:
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


def test_validate_only_checks_everything_and_writes_nothing(client: Client, refused: Refused) -> None:
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
    everyone = {"datatype": "contact", "where": {}}
    changed = client.call("UpdateSegment", {"segment": {"id": made.id, "name": "All", "filter": everyone}})
    assert (changed.name, changed.description) == ("All", "")
    assert MessageToDict(changed.filter) == everyone
    incomplete = {"segment": {"id": made.id, "name": "All"}}
    assert refused(lambda: client.call("UpdateSegment", incomplete)).fields == ["segment.filter"]


def test_what_get_answers_can_be_put_back(client: Client, insert: Insert) -> None:
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
    ],
)
def test_a_bad_update_is_refused_with_its_place(
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


def test_validate_only_of_an_update_writes_nothing(client: Client) -> None:
    made = client.create(name="VIPs", filter=VIP)
    request = {"segment": {"id": made.id, "name": "Stars"}, "updateMask": "name", "validateOnly": True}
    assert client.call("UpdateSegment", request).name == "Stars"
    assert client.call("GetSegment", {"id": made.id}) == made


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


@pytest.mark.parametrize("order", ["name", "name desc", "create_time", "create_time desc", "update_time", ""])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_pages_hold_every_segment_once_and_in_order(client: Client, order: str, size: int) -> None:
    names = ["delta", "Alpha", "charlie", "Bravo", "echo", "alpha", "foxtrot"]
    made = [client.create(name=name, filter=VIP) for name in names]
    listed, token = [], ""
    while True:
        page = client.call("ListSegments", {"pageSize": size, "orderBy": order, "pageToken": token})
        assert page.total_size == len(names)
        assert len(page.segments) <= size
        listed += page.segments
        token = page.next_page_token
        if not token:
            break
    assert sorted(s.id for s in listed) == sorted(s.id for s in made)
    keys: list[Any] = [s.name.lower() if "name" in order else s.create_time.ToNanoseconds() for s in listed]
    descending = order.endswith("desc") or not order
    pairs = itertools.pairwise(keys)
    assert all(a >= b if descending else a <= b for a, b in pairs)


def test_a_list_can_be_narrowed(client: Client) -> None:
    client.create(name="Summer VIPs", filter=VIP)
    client.create(name="summer (frozen)", type="static", filter=VIP)
    client.create(name="Winter", filter=VIP)

    def names(**query: str) -> list[str]:
        return sorted(s.name for s in client.call("ListSegments", query).segments)

    assert names(name="SUMMER") == ["Summer VIPs", "summer (frozen)"]
    assert names(name="(frozen)") == ["summer (frozen)"]
    assert names(type="static") == ["summer (frozen)"]
    assert names(type="dynamic") == ["Summer VIPs", "Winter"]
    assert names(state="active", name="winter") == ["Winter"]
    assert names(state="archived") == []


def test_a_page_token_is_bound_to_its_request(client: Client, service: Service, refused: Refused) -> None:
    for name in ("a", "b"):
        client.create(name=name, filter=VIP)
    token = client.call("ListSegments", {"pageSize": 1}).next_page_token
    other = service.client("yet-another-org")
    for wrong in (
        lambda: client.call("ListSegments", {"pageToken": token, "type": "static"}),
        lambda: client.call("ListSegments", {"pageToken": token[:-2]}),
        lambda: client.call("ListSegments", {"pageToken": "x"}),
        lambda: other.call("ListSegments", {"pageToken": token}),
    ):
        refusal = refused(wrong)
        assert (refusal.info.reason, refusal.fields) == ("INVALID_PAGE_TOKEN", ["page_token"])


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"pageSize": -1}, "page_size"),
        ({"orderBy": "size"}, "order_by"),
        ({"orderBy": "name sideways"}, "order_by"),
        ({"type": "frozen"}, "type"),
        ({"name": "x" * 201}, "name"),
    ],
)
def test_a_bad_list_request_is_refused_with_its_place(
    client: Client, refused: Refused, request_: dict[str, Any], field: str
) -> None:
    assert refused(lambda: client.call("ListSegments", request_)).fields == [field]


def test_records_that_the_platform_made_are_read_and_kept(client: Client, service: Service, org: str) -> None:
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


def test_an_exact_filter_comes_back_as_text(client: Client) -> None:
    text = '{"data.sub": {"b": {"$numberLong": "9007199254740993"}, "a": 1}}'
    made = client.create(name="exact", filter={"datatype": "contact", "whereJson": text})
    assert made.filter.WhichOneof("conditions") == "where_json"
    again = client.create(name="again", filter={"datatype": "contact", "whereJson": made.filter.where_json})
    assert again.filter == made.filter


def test_writing_to_a_platform_record_changes_only_what_the_write_says(
    client: Client, service: Service, org: str
) -> None:
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


def test_updates_without_a_version_all_come_through(client: Client) -> None:
    made = client.create(name="busy", filter=VIP)
    requests = [
        {"segment": {"id": made.id, "description": str(number)}, "updateMask": "description"} for number in range(24)
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda request: client.call("UpdateSegment", request), requests))
    assert client.call("GetSegment", {"id": made.id}).version == len(requests)


def test_one_request_sent_many_times_at_once_makes_one_segment(client: Client) -> None:
    for number in range(5):
        request = {"segment": {"name": f"once {number}", "filter": VIP}, "requestId": f"r{number}"}
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda _, request=request: client.call("CreateSegment", request).id, range(8)))
        assert len(set(made)) == 1
    assert client.call("ListSegments").total_size == 5


def test_subjects_and_request_ids_are_told_apart(client: Client, service: Service, org: str) -> None:
    one, other = service.client(org, subject="a/b"), service.client(org, subject="a")
    first = one.call("CreateSegment", {"segment": {"name": "1", "filter": VIP}, "requestId": "c"})
    second = other.call("CreateSegment", {"segment": {"name": "2", "filter": VIP}, "requestId": "b/c"})
    assert first.id != second.id


def test_a_page_of_large_segments_fits_a_message(client: Client) -> None:
    emails = [f"somebody.{number}@example.com" for number in range(8_000)]
    for number in range(12):
        client.create(name=str(number), filter={"datatype": "contact", "where": {"email": {"$in": emails}}})
    listed, token = 0, ""
    while True:
        page = client.call("ListSegments", {"pageToken": token})
        assert page.ByteSize() < 4 * 1024 * 1024
        assert page.total_size == 12
        listed += len(page.segments)
        token = page.next_page_token
        if not token:
            break
    assert listed == 12


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


def test_a_name_to_search_for_holds_no_nul(client: Client, refused: Refused) -> None:
    assert refused(lambda: client.call("ListSegments", {"name": "a\0b"})).fields == ["name"]
