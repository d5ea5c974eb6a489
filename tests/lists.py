"""Lists of custom audiences, published as uploads and lookalikes publish theirs."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from audience_service.domain.caller import Deadline
from audience_service.domain.clock import now
from audience_service.domain.creation import new_rows_id
from audience_service.domain.custom.audience import CustomAudience
from audience_service.mongo.store import Store

NEVER = Deadline(None)


def write_rows(store: Store, org: str, rows_id: str, contact_ids: Sequence[str], datatype: str = "contact") -> None:
    """Put contacts on a list that nobody reads yet."""
    found = store.database[datatype].find({"pk": {"$in": list(contact_ids)}, "sk": {"$regex": f"^{org}/"}})
    rows = [
        {"_id": f"{rows_id}/{each['sk']}", "audience": rows_id, "pk": each["pk"], "sk": each["sk"]} for each in found
    ]
    if rows:
        store.database["audience_member"].insert_many(rows)


def publish(store: Store, org: str, audience_id: str, contact_ids: Sequence[str], **published: Any) -> CustomAudience:
    """The audience with a new list of these contacts."""
    audience = store.customs.get(org, audience_id, NEVER)
    rows_id = new_rows_id(audience_id)
    store.customs.reserve(org, audience_id, rows_id, now() + timedelta(hours=1), NEVER)
    write_rows(store, org, rows_id, contact_ids, audience.datatype)
    return store.customs.publish(org, audience, rows_id, published, NEVER)


def rows_of(store: Store, audience_id: str) -> set[str]:
    """What the rows there are of an audience's lists carry, be they its list or left over."""
    rows = store.database["audience_member"].find({"audience": {"$regex": f"^{audience_id}"}})
    return {row["audience"] for row in rows}
