"""The indexes that the service needs, and whether a database has them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pymongo.database import Database

from audience_service.mongo.core.collections import (
    CUSTOM_AUDIENCES,
    EVENTS,
    IDENTIFIERS,
    LISTS,
    MEMBER_STATES,
    PARTITIONS,
    SEGMENTS,
    SNAPSHOTS,
    SUBSCRIBERS,
    UPLOAD_ROWS,
    UPLOADS,
    USES,
    VERSIONS,
    WATCHES,
)

Keys = tuple[tuple[str, int], ...]

_TTL = {"expireAfterSeconds": 0}
"""The database deletes a document at the time that stands in its field."""


@dataclass(frozen=True, slots=True)
class Index:
    """One index and why it is there."""

    collection: str
    keys: Keys
    reason: str
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """The collection and the fields, as people speak of it."""
        return f"{self.collection}({', '.join(name for name, _ in self.keys)})"


def required_indexes(datatypes: Sequence[str], related: Sequence[str] = ()) -> list[Index]:
    """Every index that the service rests on, with filters on `datatypes` that look into those that are `related`.

    sk goes last in compound ones: the filter's fields narrow first.
    """
    unique_if_set = {"unique": True, "sparse": True}
    return [
        *(Index(name, (("sk", 1),), "the tenant scope, streams in sk order") for name in datatypes),
        *(Index(name, (("pk", 1), ("sk", 1)), "records by id, for static lists") for name in datatypes),
        # One of subscribers begins with sk anyway.
        *(
            Index(name, (("sk", 1),), "the tenant scope, in looks at related records")
            for name in related
            if name not in {*datatypes, SUBSCRIBERS}
        ),
        Index(SEGMENTS, (("sk", 1),), "the tenant scope"),
        Index(SEGMENTS, (("pk", 1), ("sk", 1)), "segments by id"),
        Index(SEGMENTS, (("data.unique.name", 1),), "one living segment of a name in an org", unique_if_set),
        Index(SEGMENTS, (("data.unique.request", 1),), "one segment for a request_id", unique_if_set),
        Index(SEGMENTS, (("data.references", 1), ("sk", 1)), "the segments that refer to an audience"),
        Index(USES, (("audience", 1), ("sk", 1)), "the registered uses of an audience"),
        Index(VERSIONS, (("pk", 1), ("version", -1), ("sk", 1)), "a segment's versions, newest first"),
        Index(LISTS, (("audience", 1), ("sk", 1)), "a static list in sk order; its length"),
        Index(LISTS, (("sk", 1), ("audience", 1)), "joining long lists into filters"),
        Index(LISTS, (("pk", 1), ("audience", 1)), "taking contacts off a list; the lists of a contact"),
        Index(LISTS, (("expire_at", 1),), "members of snapshots that have expired go", {**_TTL, "sparse": True}),
        Index(SNAPSHOTS, (("sk", 1),), "the tenant scope"),
        Index(SNAPSHOTS, (("expire_at", 1),), "snapshots that have expired go", _TTL),
        Index(SNAPSHOTS, (("data.unique.request", 1),), "one snapshot for a request_id", unique_if_set),
        Index(SNAPSHOTS, (("state", 1), ("lease_until", 1)), "snapshots whose maker has died"),
        Index(SNAPSHOTS, (("orphaned_lists.delete_after", 1),), "rows that nothing refers to", {"sparse": True}),
        Index(CUSTOM_AUDIENCES, (("sk", 1),), "the tenant scope"),
        Index(CUSTOM_AUDIENCES, (("data.unique.name", 1),), "one custom audience of a name in an org", unique_if_set),
        Index(CUSTOM_AUDIENCES, (("data.unique.request", 1),), "one custom audience for a request_id", unique_if_set),
        Index(CUSTOM_AUDIENCES, (("data.spec.source_audience_id", 1), ("sk", 1)), "the lookalikes of an audience"),
        Index(CUSTOM_AUDIENCES, (("state", 1),), "custom audiences that were deleted"),
        Index(
            CUSTOM_AUDIENCES,
            (("lease_until", 1),),
            "work on custom audiences whose process has ended",
            {"sparse": True},
        ),
        Index(
            CUSTOM_AUDIENCES,
            (("orphaned_lists.delete_after", 1),),
            "rows of lists that are none any more",
            {"sparse": True},
        ),
        Index(IDENTIFIERS, (("key", 1), ("sk", 1)), "matching the rows of uploads"),
        Index(IDENTIFIERS, (("sk", 1), ("rule", 1)), "bringing identifiers up to date"),
        Index(IDENTIFIERS, (("expire_at", 1),), "identifiers go after a while, used or not", _TTL),
        Index(UPLOADS, (("expires_at", 1),), "uploads that nobody went on with", {"sparse": True}),
        Index(SUBSCRIBERS, (("data.email", 1), ("sk", 1)), "who may not be reached by email"),
        Index(SUBSCRIBERS, (("data.phone", 1), ("sk", 1)), "who may not be reached by phone"),
        # sk first: a planner that takes a status for rare would serve the looks by email and phone from it.
        Index(
            SUBSCRIBERS, (("sk", 1), ("data.channel", 1), ("data.status", 1)), "all who may not be reached in an org"
        ),
        Index(WATCHES, (("lease_until", 1),), "watched audiences that no process tracks"),
        Index(EVENTS, (("sk", 1), ("_id", 1)), "what has happened to a record since, for members as of a time"),
        Index(PARTITIONS, (("expire_at", 1),), "parts that nobody reads any more are removed", _TTL),
    ]


def missing_indexes(
    database: Database[dict[str, Any]], datatypes: Sequence[str], related: Sequence[str] = ()
) -> list[Index]:
    """The required indexes that the database lacks; one of other options (not unique, say) counts as lacking."""
    present: dict[str, list[dict[str, Any]]] = {}
    for index in required_indexes(datatypes, related):
        if index.collection not in present:
            present[index.collection] = list(database[index.collection].index_information().values())
    return [
        index
        for index in required_indexes(datatypes, related)
        if not any(
            tuple((name, int(order)) for name, order in info["key"]) == index.keys
            and bool(info.get("unique")) >= bool(index.options.get("unique"))
            and info.get("expireAfterSeconds") == index.options.get("expireAfterSeconds")
            and "partialFilterExpression" not in info
            for info in present[index.collection]
        )
    ]


def create_index(database: Database[dict[str, Any]], index: Index) -> None:
    """Create one index; no error where it is there already."""
    database[index.collection].create_index(list(index.keys), **index.options)


def collated_collections(database: Database[dict[str, Any]], datatypes: Sequence[str]) -> list[str]:
    """The collections in use that have a default collation.

    Under one that ignores case, the range of sk that is org "acme" would hold "ACME" too: they must not be served.
    """
    own = {SEGMENTS, CUSTOM_AUDIENCES, VERSIONS, USES, LISTS, PARTITIONS, SNAPSHOTS, WATCHES, EVENTS, MEMBER_STATES}
    own |= {UPLOADS, UPLOAD_ROWS, IDENTIFIERS}
    used = {*datatypes, *own, SUBSCRIBERS}
    found = database.list_collections()
    return sorted(info["name"] for info in found if info["name"] in used and info.get("options", {}).get("collation"))
