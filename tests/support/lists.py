"""Lists of custom audiences, published as uploads and lookalikes publish theirs."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.idempotency import new_list_version_id
from audience_service.domain.custom_audiences.model import CustomAudience
from audience_service.mongo.store import Store

NO_DEADLINE = Deadline(None)


def write_rows(
    store: Store, org: str, list_version_id: str, contact_ids: Sequence[str], datatype: str = "contact"
) -> None:
    """Put contacts on a list that is not published yet."""
    found = store.database[datatype].find({"pk": {"$in": list(contact_ids)}, "sk": {"$regex": f"^{org}/"}})
    rows = [
        {"_id": f"{list_version_id}/{each['sk']}", "audience": list_version_id, "pk": each["pk"], "sk": each["sk"]}
        for each in found
    ]
    if rows:
        store.database["audience_member"].insert_many(rows)


def publish(store: Store, org: str, audience_id: str, contact_ids: Sequence[str], **published: Any) -> CustomAudience:
    """The audience with a new list of these contacts."""
    audience = store.custom_audiences.get(org, audience_id, NO_DEADLINE)
    list_version_id = new_list_version_id(audience_id)
    store.custom_audiences.reserve(org, audience_id, list_version_id, now() + timedelta(hours=1), NO_DEADLINE)
    write_rows(store, org, list_version_id, contact_ids, audience.datatype)
    return store.custom_audiences.publish(org, audience, list_version_id, published, NO_DEADLINE)


def rows_of(store: Store, audience_id: str) -> set[str]:
    """What the rows there are of an audience's lists carry, be they its list or left over."""
    rows = store.database["audience_member"].find({"audience": {"$regex": f"^{audience_id}"}})
    return {row["audience"] for row in rows}
