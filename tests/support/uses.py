"""Uses of audiences: as clients register them, and as filters of the platform's segments refer to them."""

from typing import Any

from tests.conftest import Service
from tests.support.client import Client


def register(client: Client, audience_id: str, kind: str = "campaign", consumer_id: str = "spring", **more: Any) -> Any:
    """A registered use."""
    return client.call(
        "RegisterUse", {"use": {"audienceId": audience_id, "consumerKind": kind, "consumerId": consumer_id, **more}}
    )


def release(client: Client, audience_id: str, kind: str = "campaign", consumer_id: str = "spring") -> bool:
    """Whether there was such a use to end."""
    request = {"audienceId": audience_id, "consumerKind": kind, "consumerId": consumer_id}
    return bool(client.call("ReleaseUse", request).released)


def refer(service: Service, org: str, key: str, audience_id: str, **record: Any) -> str:
    """A segment that the platform wrote, whose filter refers to an audience somewhere."""
    where = {"$and": [{"country": "US"}, {"$or": [{"$inAudience": audience_id}, {"$inAudience": "segment-other"}]}]}
    data = {"name": f"refers {key}", "filter": {"datatype": "contact", "where": where}, **record.pop("data", {})}
    pk = f"segment-{key}{org}"
    service.store.database["segment"].insert_one({"pk": pk, "sk": f"{org}/segment/{key}", **record, "data": data})
    return pk
