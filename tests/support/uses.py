"""Uses of audiences: as clients register them, and as filters of the platform's segments refer to them."""

from collections.abc import Iterable
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
    [pk] = refer_many(service, org, [key], audience_id, **record)
    return pk


def refer_many(service: Service, org: str, keys: Iterable[str], audience_id: str, **record: Any) -> list[str]:
    """As many segments as there are keys, written in one command."""
    where = {"$and": [{"country": "US"}, {"$or": [{"$inAudience": audience_id}, {"$inAudience": "segment-other"}]}]}
    data = {"filter": {"datatype": "contact", "where": where}, **record.pop("data", {})}
    written = [
        {"pk": f"segment-{key}{org}", "sk": f"{org}/segment/{key}", **record, "data": {"name": f"refers {key}", **data}}
        for key in keys
    ]
    service.store.database["segment"].insert_many(written)
    return [segment["pk"] for segment in written]
