"""The privileges that the service needs, by collection. deploy/mongodb/role.js grants them, and `doctor` checks them.

The names are MongoDB's actions (https://www.mongodb.com/docs/manual/reference/privilege-actions/).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from audience_service.mongo.core.collections import (
    CUSTOM_AUDIENCES,
    ERASURES,
    EVENTS,
    EXPORTS,
    IDENTIFIERS,
    LISTS,
    MEMBER_STATES,
    PARTITIONS,
    PLATFORM_IDS,
    PLATFORM_TREES,
    SEGMENTS,
    SNAPSHOTS,
    SUBSCRIBERS,
    SYNC_BATCHES,
    SYNC_MEMBERS,
    SYNC_ROWS,
    SYNCS,
    UPLOAD_REJECTIONS,
    UPLOAD_ROWS,
    UPLOADS,
    USES,
    VERSIONS,
    WATCHES,
)

OWN_COLLECTIONS = (
    SEGMENTS,
    LISTS,
    SNAPSHOTS,
    CUSTOM_AUDIENCES,
    UPLOADS,
    UPLOAD_REJECTIONS,
    UPLOAD_ROWS,
    IDENTIFIERS,
    VERSIONS,
    USES,
    PARTITIONS,
    WATCHES,
    EVENTS,
    MEMBER_STATES,
    PLATFORM_IDS,
    PLATFORM_TREES,
    ERASURES,
    SYNCS,
    SYNC_ROWS,
    SYNC_BATCHES,
    SYNC_MEMBERS,
    EXPORTS,
)
"""The collections that the service writes."""

READ_ACTIONS = ("find", "listIndexes", "changeStream")
"""On the platform's collections: they are never written."""
WRITE_ACTIONS = ("find", "insert", "update", "remove", "listIndexes")
"""On the service's own collections. `$merge` needs insert and update."""
DATABASE_ACTIONS = ("listCollections",)
"""On the database, as the collection "": to check collations, and to read the schemas of collections."""

ACTIONS_OF_METHODS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("find", "find_one", "count_documents", "aggregate"), ("find",)),
    **dict.fromkeys(("insert_one", "insert_many"), ("insert",)),
    **dict.fromkeys(("update_one", "update_many", "replace_one", "find_one_and_update"), ("find", "insert", "update")),
    **dict.fromkeys(("delete_one", "delete_many"), ("remove",)),
    "bulk_write": ("insert", "update", "remove"),
    "index_information": ("listIndexes",),
    "list_collections": ("listCollections",),
    "watch": ("changeStream", "find"),
    "create_index": ("createIndex",),
    "command": ("find",),
}
"""The actions that each method of the driver needs. `createIndex` is only for the command `indexes`."""


def required_privileges(datatypes: Iterable[str], related: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
    """Return the actions that a server needs, by collection; "" is the database."""
    read = dict.fromkeys((*datatypes, *related, SUBSCRIBERS), READ_ACTIONS)
    return {"": DATABASE_ACTIONS, **read, **dict.fromkeys(OWN_COLLECTIONS, WRITE_ACTIONS)}


def missing_privileges(
    granted: Sequence[Mapping[str, Any]], database: str, required: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Return the actions that the privileges of a connection lack, by collection.

    `granted` are the privileges that connectionStatus returns.
    """
    missing = {}
    for collection, actions in required.items():
        given = {
            action
            for privilege in granted
            if _covers(privilege["resource"], database, collection)
            for action in privilege["actions"]
        }
        if lacking := [action for action in actions if not {action, "anyAction"} & given]:
            missing[collection] = lacking
    return missing


def _covers(resource: Mapping[str, Any], database: str, collection: str) -> bool:
    """Return whether a privilege on the resource holds for a collection. An empty name stands for all."""
    if resource.get("anyResource"):
        return True
    if "db" not in resource:
        return False
    return resource["db"] in ("", database) and resource["collection"] in ("", collection)
