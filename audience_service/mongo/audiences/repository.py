"""The consumers of an audience: registered uses, and segments, lookalikes and syncs that refer to it."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.audiences.model import MAX_NAME_LENGTH
from audience_service.domain.audiences.references import AudienceReference, AudienceUse, Usage
from audience_service.domain.core.context import Deadline
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.references import audience_references
from audience_service.domain.segments.model import SegmentType
from audience_service.mongo.core.collections import CUSTOM_AUDIENCES, SEGMENTS, SYNCS, USES
from audience_service.mongo.core.errors import retry_read, with_deadline
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.custom_audiences.documents import DELETED
from audience_service.mongo.segments.documents import read_segment
from audience_service.mongo.syncs.documents import ACTIVE as ACTIVE_SYNC

_PROJECTION = {"pk": 1, "name": 1, "data.name": 1}

# The stored references are valid if the service wrote the record's current version.
_VERSIONS: list[Document] = [{"$ifNull": ["$version", 0]}, {"$ifNull": ["$data.last_write.version", None]}]
_INDEXED: Document = {"$expr": {"$eq": _VERSIONS}}
_UNINDEXED: Document = {
    "$expr": {"$ne": _VERSIONS},
    "data.filter.where": {"$exists": True},
    "data.type": {"$ne": SegmentType.STATIC.value},
}


class MongoUses:
    """The UseRepository on MongoDB; the protocol states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope
        self._collection = database[USES]

    def add(self, org: str, use: AudienceUse, deadline: Deadline) -> AudienceUse:
        """Insert the use, or increment the counter of the existing one."""
        record = _record(org, use)
        while True:
            try:
                with with_deadline(self._database, deadline):
                    self._collection.insert_one(dict(record))
                return use
            except DuplicateKeyError:
                with with_deadline(self._database, deadline):
                    counted = {"$inc": {"registration_count": 1}}
                    found = self._collection.find_one_and_update(
                        self._scope.match(org, {"_id": record["_id"]}), counted
                    )
                if found:
                    return _read_use(found)
                # A concurrent call released it; insert it again.

    def undo_add(self, org: str, use: AudienceUse, deadline: Deadline) -> None:
        """Decrement the counter, and delete the use at 0."""
        key = {"_id": _key(org, use)}
        with with_deadline(self._database, deadline):
            self._collection.update_one(self._scope.match(org, key), {"$inc": {"registration_count": -1}})
            self._collection.delete_one(self._scope.match(org, key, {"registration_count": {"$lte": 0}}))

    def remove(self, org: str, use: AudienceUse, deadline: Deadline) -> bool:
        """Delete the use by key."""
        with with_deadline(self._database, deadline):
            return self._collection.delete_one(self._scope.match(org, {"_id": _key(org, use)})).deleted_count > 0

    def count(self, org: str, limit: int, deadline: Deadline) -> int:
        """Count in the index on `_id`, up to `limit`."""
        prefix = f"{org}/audience_use"
        keys = {"_id": {"$gte": f"{prefix}/", "$lt": f"{prefix}0"}}
        match = self._scope.match(org, keys, {"registration_count": {"$gt": 0}})
        return retry_read(self._database, deadline, lambda: self._collection.count_documents(match, limit=limit))

    def usage(self, org: str, audience_id: str, limit: int, deadline: Deadline) -> Usage:
        """Run indexed queries, and parse all filters of the org that have no stored references."""
        match = self._scope.match(org, {"audience": audience_id, "registration_count": {"$gt": 0}})
        with with_deadline(self._database, deadline):
            use_count = self._collection.count_documents(match)
            uses = tuple(_read_use(record) for record in self._collection.find(match, sort=[("sk", 1)], limit=limit))
            segments, segment_count = self._referring_segments(org, audience_id, limit)
            lookalikes, lookalike_count = self._lookalikes(org, audience_id, limit)
            syncs, sync_count = self._syncs(org, audience_id, limit)
        return Usage(segments, segment_count, uses, use_count, lookalikes, lookalike_count, syncs, sync_count)

    def _referring_segments(self, org: str, audience_id: str, limit: int) -> tuple[tuple[AudienceReference, ...], int]:
        """Return up to `limit` segments that refer to the audience, and how many do. Deleted ones do not count."""
        not_deleted = {"state": {"$ne": "deleted"}, "pk": {"$ne": audience_id}}
        indexed = self._scope.match(org, {"data.references": audience_id}, not_deleted, _INDEXED)
        segments = self._database[SEGMENTS]
        count = segments.count_documents(indexed)
        found = list(segments.find(indexed, _PROJECTION, sort=[("sk", 1)], limit=limit))
        unindexed, projection = self._scope.match(org, not_deleted, _UNINDEXED), {**_PROJECTION, "data.filter.where": 1}
        with segments.find(unindexed, projection, sort=[("sk", 1)]) as records:
            for record in records:
                if audience_id in audience_references(read_segment(record).filter.where):
                    count += 1
                    found.append({**record, "data": {"name": record["data"].get("name")}})
        return tuple(_audience_name(record) for record in found[:limit]), count

    def _lookalikes(self, org: str, audience_id: str, limit: int) -> tuple[tuple[AudienceReference, ...], int]:
        """Return the lookalikes of an audience, including those in creation."""
        match = self._scope.match(org, {"data.spec.source_audience_id": audience_id, "state": {"$ne": DELETED}})
        return self._named(CUSTOM_AUDIENCES, match, limit)

    def _syncs(self, org: str, audience_id: str, limit: int) -> tuple[tuple[AudienceReference, ...], int]:
        """Return the syncs that have an audience or exclude it. An org has few, so its range needs no other index."""
        paths = ("data.spec.audience_ids", "data.spec.exclude_audience_ids")
        match = self._scope.match(org, {"state": ACTIVE_SYNC, "$or": [{path: audience_id} for path in paths]})
        return self._named(SYNCS, match, limit)

    def _named(self, collection: str, match: Document, limit: int) -> tuple[tuple[AudienceReference, ...], int]:
        """Return up to `limit` matching records, and how many match."""
        found = self._database[collection].find(match, {"pk": 1, "name": 1}, sort=[("sk", 1)], limit=limit)
        references = tuple(AudienceReference(record["pk"], record["name"]) for record in found)
        return references, self._database[collection].count_documents(match)


def _key(org: str, use: AudienceUse) -> str:
    """Return the use's sk, which is also its `_id`. Quoting the caller's values keeps the keys unique."""
    return f"{org}/audience_use/{quote(use.audience_id, safe='')}/{use.kind}/{quote(use.consumer_id, safe='')}"


def _record(org: str, use: AudienceUse) -> dict[str, Any]:
    key = _key(org, use)
    return {
        "_id": key,
        "sk": key,
        "audience": use.audience_id,
        "kind": use.kind,
        "consumer_id": use.consumer_id,
        "description": use.description,
        "author": use.registrant,
        "createdate": use.created_at,
        "registration_count": 1,
    }


def _read_use(record: Mapping[str, Any]) -> AudienceUse:
    return AudienceUse(
        audience_id=record["audience"],
        kind=record["kind"],
        consumer_id=record["consumer_id"],
        description=record["description"],
        registrant=record["author"],
        created_at=record["createdate"],
    )


def _audience_name(record: Mapping[str, Any]) -> AudienceReference:
    segment = read_segment(record)
    return AudienceReference(segment.id, segment.name[:MAX_NAME_LENGTH])
