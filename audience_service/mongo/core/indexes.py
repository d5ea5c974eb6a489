"""The indexes that the service needs, and which of them a database lacks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pymongo.database import Database

from audience_service.mongo.core.collections import (
    CUSTOM_AUDIENCES,
    ERASURES,
    EVENTS,
    EXPORTS,
    IDENTIFIERS,
    LISTS,
    MEMBER_STATES,
    PARTITIONS,
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

Keys = tuple[tuple[str, int], ...]

_TTL = {"expireAfterSeconds": 0}
"""The database deletes a document at the time in the indexed field."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index, and what it is for."""

    collection: str
    keys: Keys
    reason: str
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the collection and the fields, such as `segment(pk, sk)`."""
        return f"{self.collection}({', '.join(name for name, _ in self.keys)})"


def required_indexes(datatypes: Sequence[str], related: Sequence[str] = ()) -> list[Index]:
    """Return every index that the service needs.

    `datatypes` are those that filters select, `related` those that filters join. sk comes last in compound indexes,
    because the filter's fields narrow first.
    """
    unique_if_set = {"unique": True, "sparse": True}
    return [
        *(Index(name, (("sk", 1),), "the tenant scope, streams in sk order") for name in datatypes),
        *(Index(name, (("pk", 1), ("sk", 1)), "records by id, for static lists") for name in datatypes),
        # Subscribers have another index that begins with sk.
        *(
            Index(name, (("sk", 1),), "the tenant scope, in joins of related records")
            for name in related
            if name not in {*datatypes, SUBSCRIBERS}
        ),
        Index(SEGMENTS, (("sk", 1),), "the tenant scope"),
        Index(SEGMENTS, (("pk", 1), ("sk", 1)), "segments by id"),
        Index(SEGMENTS, (("data.unique.name", 1),), "unique names of segments in an org", unique_if_set),
        Index(SEGMENTS, (("data.unique.request", 1),), "one segment for a request_id", unique_if_set),
        Index(SEGMENTS, (("data.references", 1), ("sk", 1)), "the segments that refer to an audience"),
        Index(USES, (("audience", 1), ("sk", 1)), "the registered uses of an audience"),
        Index(VERSIONS, (("pk", 1), ("version", -1), ("sk", 1)), "a segment's versions, newest first"),
        Index(LISTS, (("audience", 1), ("sk", 1)), "a list in sk order, and its size"),
        Index(LISTS, (("sk", 1), ("audience", 1)), "joining long lists into filters"),
        Index(LISTS, (("pk", 1), ("audience", 1)), "removal of contacts from a list; the lists of a contact"),
        Index(LISTS, (("expire_at", 1),), "deletion of the members of expired snapshots", {**_TTL, "sparse": True}),
        Index(SNAPSHOTS, (("sk", 1),), "the tenant scope"),
        Index(SNAPSHOTS, (("expire_at", 1),), "deletion of expired snapshots", _TTL),
        Index(SNAPSHOTS, (("data.unique.request", 1),), "one snapshot for a request_id", unique_if_set),
        Index(SNAPSHOTS, (("state", 1), ("lease_until", 1)), "snapshots whose lease has expired"),
        Index(SNAPSHOTS, (("orphaned_lists.delete_after", 1),), "rows that nothing refers to", {"sparse": True}),
        Index(CUSTOM_AUDIENCES, (("sk", 1),), "the tenant scope"),
        Index(
            CUSTOM_AUDIENCES, (("data.unique.name", 1),), "unique names of custom audiences in an org", unique_if_set
        ),
        Index(CUSTOM_AUDIENCES, (("data.unique.request", 1),), "one custom audience for a request_id", unique_if_set),
        Index(CUSTOM_AUDIENCES, (("data.spec.source_audience_id", 1), ("sk", 1)), "the lookalikes of an audience"),
        Index(CUSTOM_AUDIENCES, (("state", 1),), "deleted custom audiences"),
        Index(
            CUSTOM_AUDIENCES,
            (("lease_until", 1),),
            "work on custom audiences whose lease has expired",
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
        Index(IDENTIFIERS, (("expire_at", 1),), "deletion of expired identifiers", _TTL),
        Index(UPLOAD_REJECTIONS, (("expire_at", 1),), "deletion of expired rejections of rows", _TTL),
        Index(UPLOADS, (("expires_at", 1),), "uploads that nobody went on with", {"sparse": True}),
        Index(SUBSCRIBERS, (("data.email", 1), ("sk", 1)), "suppressed email addresses"),
        Index(SUBSCRIBERS, (("data.phone", 1), ("sk", 1)), "suppressed phone numbers"),
        # sk first: a planner that considers a status rare would use this index for lookups by email and phone.
        Index(SUBSCRIBERS, (("sk", 1), ("data.channel", 1), ("data.status", 1)), "all suppressed addresses of an org"),
        Index(WATCHES, (("lease_until", 1),), "watched audiences whose lease has expired"),
        Index(EVENTS, (("sk", 1), ("_id", 1)), "the later events of a record, for members as of a time"),
        Index(ERASURES, (("changed_at", 1),), "erasures since a time, for every process"),
        Index(ERASURES, (("sweep_until", 1),), "erasures whose removal is repeated"),
        Index(SYNCS, (("sk", 1),), "the tenant scope"),
        Index(SYNCS, (("state", 1),), "deleted syncs"),
        Index(SYNCS, (("data.unique.request", 1),), "one sync for a request_id", unique_if_set),
        Index(SYNC_ROWS, (("keys", 1),), "rows with the same identifiers"),
        Index(SYNC_ROWS, (("todo", 1), ("_id", 1)), "rows to add or remove", {"sparse": True}),
        Index(SYNC_ROWS, (("batch", 1), ("_id", 1)), "the rows of a batch", {"sparse": True}),
        Index(SYNC_MEMBERS, (("rows", 1),), "the members with a row"),
        Index(SYNC_BATCHES, (("expire_at", 1),), "deletion of old receipts", {**_TTL, "sparse": True}),
        Index(EXPORTS, (("sk", 1),), "the tenant scope, exports in order of time"),
        Index(EXPORTS, (("content.audience_ids", 1), ("sk", 1)), "the exports of an audience"),
        Index(EXPORTS, (("expire_at", 1),), "deletion of old records of exports", _TTL),
        Index(PARTITIONS, (("expire_at", 1),), "deletion of expired partitions", _TTL),
    ]


def missing_indexes(
    database: Database[dict[str, Any]], datatypes: Sequence[str], related: Sequence[str] = ()
) -> list[Index]:
    """Return the required indexes that the database lacks. An index with other options counts as missing."""
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
    """Create an index unless it exists."""
    database[index.collection].create_index(list(index.keys), **index.options)


def collated_collections(database: Database[dict[str, Any]], datatypes: Sequence[str]) -> list[str]:
    """Return the service's collections that have a default collation. The service must not run on them.

    With a collation that ignores case, the range of sk for the org "acme" would include "ACME".
    """
    own = {SEGMENTS, CUSTOM_AUDIENCES, VERSIONS, USES, LISTS, PARTITIONS, SNAPSHOTS, WATCHES, EVENTS, MEMBER_STATES}
    own |= {UPLOADS, UPLOAD_ROWS, IDENTIFIERS, ERASURES, SYNCS, SYNC_BATCHES, SYNC_ROWS, SYNC_MEMBERS, EXPORTS}
    used = {*datatypes, *own, SUBSCRIBERS}
    found = database.list_collections()
    return sorted(info["name"] for info in found if info["name"] in used and info.get("options", {}).get("collation"))
