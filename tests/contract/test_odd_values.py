"""A record may contain any BSON value. None of them makes a call of its org INTERNAL."""

from collections.abc import Callable
from typing import Any

import grpc

from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.odd_values import ODD_VALUES

FIELDS = ["odd", "email", "age", "country", "tags", "createdate", "score"]
ALL_CONTACTS = {"datatype": "contact", "where": {}}
MENTION = {"datatype": "contact", "where": {"$or": [{"odd": {"$gte": 1}}, {"odd": {"$exists": True}}, {"odd": "a"}]}}

CALLS: dict[str, Callable[[Client, str, list[str]], Any]] = {
    "EstimateReach": lambda client, *_: client.call("EstimateReach", {"filter": MENTION}),
    "StreamReach": lambda client, *_: list(client.call("StreamReach", {"filter": MENTION})),
    "StreamMembers": lambda client, *_: list(client.call("StreamMembers", {"filter": ALL_CONTACTS, "fields": FIELDS})),
    "ListFields": lambda client, *_: client.call("ListFields", {"datatype": "contact"}),
    "ExplainFilter": lambda client, *_: client.call("ExplainFilter", {"filter": MENTION}),
    "CreateSegment": lambda client, *_: client.create(name="odd", filter=MENTION),
    "GetInsights": lambda client, segment, _: client.call("GetInsights", {"audienceId": segment}),
    "ExplainMembership": lambda client, _, ids: [
        client.call("ExplainMembership", {"filter": MENTION, "contactId": contact_id}) for contact_id in ids
    ],
    "CheckMembership": lambda client, segment, ids: client.call(
        "CheckMembership", {"audienceIds": [segment], "contactIds": ids}
    ),
    "ListAudiencesOfContact": lambda client, _, ids: [
        client.call("ListAudiencesOfContact", {"contactId": contact_id}) for contact_id in ids[:3]
    ],
    "ExportIdentifiers": lambda client, segment, _: list(
        client.call("ExportIdentifiers", {"audienceIds": [segment], "platform": "meta"})
    ),
    "CreateSnapshot": lambda client, *_: client.call("CreateSnapshot", {"filter": MENTION}),
    "CreateCustomAudience": lambda client, segment, _: client.custom(
        name="like", type="lookalike", lookalike={"sourceAudienceId": segment, "count": 1}
    ),
}


def test_no_value_of_a_record_is_internal(service: Service, org: str, client: Client) -> None:
    """The values are at a field of the tenant's and at fields that the service reads itself."""
    ids = []
    for name, value in ODD_VALUES.items():
        data = dict.fromkeys((*FIELDS, "phone", "zip", "birthday", "name"), value)
        try:
            ids += service.insert(org, [{"id": name, "data": data}])
        except Exception as error:
            assert service.kind == "embedded", (name, error)  # which does not store some of them
    segment = client.create(name="everybody", filter=ALL_CONTACTS).id
    problems = []
    for rpc, call in CALLS.items():
        try:
            call(client, segment, ids)
        except grpc.RpcError as error:
            refusal = Refusal(error)
            if refusal.code.name in {"INTERNAL", "UNKNOWN", "UNAVAILABLE"} or not refusal.details:
                problems.append((rpc, refusal.code.name, refusal.message))
    assert problems == []
    assert len(ids) > 15
