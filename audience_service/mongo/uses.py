"""Who uses an audience: the uses that were registered, and the segments whose filters refer to it."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.audiences.use import AudienceName, AudienceUse, Usage
from audience_service.domain.caller import Deadline
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.references import audience_references
from audience_service.domain.segments.segment import MAX_NAME_LENGTH, SegmentType
from audience_service.mongo.collections import CUSTOM, SEGMENTS, USES
from audience_service.mongo.custom_documents import DELETED
from audience_service.mongo.documents import read_segment
from audience_service.mongo.failures import limited
from audience_service.mongo.scope import scoped

_MAX_WALKED = 10_000
"""How many filters that the platform wrote are read for references at a time."""

_SHOWN = {"pk": 1, "name": 1, "data.name": 1}

# What the service notes of a record holds where the version that it wrote is the record's still.
_VERSIONS: list[Document] = [{"$ifNull": ["$version", 0]}, {"$ifNull": ["$data.written.version", None]}]
_NOTED: Document = {"$expr": {"$eq": _VERSIONS}}
_UNNOTED: Document = {
    "$expr": {"$ne": _VERSIONS},
    "data.filter.where": {"$exists": True},
    "data.type": {"$ne": SegmentType.STATIC.value},
}


class MongoUses:
    """The UseRepository on MongoDB; domain/ports.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._collection = database[USES]

    def add(self, org: str, use: AudienceUse, deadline: Deadline) -> AudienceUse:
        """Insert, or count one call more on the use that is there."""
        record = _record(org, use)
        while True:
            try:
                with limited(self._database, deadline):
                    self._collection.insert_one(dict(record))
                return use
            except DuplicateKeyError:
                with limited(self._database, deadline):
                    counted = {"$inc": {"calls": 1}}
                    found = self._collection.find_one_and_update(scoped(org, {"_id": record["_id"]}), counted)
                if found:
                    return _read_use(found)
                # It was released in between.

    def withdraw(self, org: str, use: AudienceUse, deadline: Deadline) -> None:
        """Count one call less; a use without any is none."""
        key = {"_id": _key(org, use)}
        with limited(self._database, deadline):
            self._collection.update_one(scoped(org, key), {"$inc": {"calls": -1}})
            self._collection.delete_one(scoped(org, key, {"calls": {"$lte": 0}}))

    def remove(self, org: str, use: AudienceUse, deadline: Deadline) -> bool:
        """Delete by key."""
        with limited(self._database, deadline):
            return self._collection.delete_one(scoped(org, {"_id": _key(org, use)})).deleted_count > 0

    def usage(self, org: str, audience_id: str, limit: int, deadline: Deadline) -> Usage:
        """Three indexed queries, and a walk through the filters that carry no note of what they refer to."""
        match = scoped(org, {"audience": audience_id, "calls": {"$gt": 0}})
        with limited(self._database, deadline):
            use_count = self._collection.count_documents(match)
            uses = tuple(_read_use(record) for record in self._collection.find(match, sort=[("sk", 1)], limit=limit))
            segments, segment_count = self._referring(org, audience_id, limit)
            lookalikes, lookalike_count = self._lookalikes(org, audience_id, limit)
        return Usage(segments, segment_count, uses, use_count, lookalikes, lookalike_count)

    def _referring(self, org: str, audience_id: str, limit: int) -> tuple[tuple[AudienceName, ...], int]:
        """The living segments that refer to an audience, up to `limit` of them, and how many there are."""
        living = {"state": {"$ne": "deleted"}, "pk": {"$ne": audience_id}}
        noted = scoped(org, {"data.references": audience_id}, living, _NOTED)
        segments = self._database[SEGMENTS]
        count = segments.count_documents(noted)
        found = list(segments.find(noted, _SHOWN, sort=[("sk", 1)], limit=limit))
        unnoted, shown = scoped(org, living, _UNNOTED), {**_SHOWN, "data.filter.where": 1}
        with segments.find(unnoted, shown, sort=[("sk", 1)], limit=_MAX_WALKED) as records:
            for record in records:
                if audience_id in audience_references(read_segment(record).filter.where):
                    count += 1
                    found.append({**record, "data": {"name": record["data"].get("name")}})
        return tuple(_name(record) for record in found[:limit]), count

    def _lookalikes(self, org: str, audience_id: str, limit: int) -> tuple[tuple[AudienceName, ...], int]:
        """The lookalikes of an audience, those that are being made included."""
        match = scoped(org, {"data.spec.source_audience_id": audience_id, "state": {"$ne": DELETED}})
        customs = self._database[CUSTOM]
        found = customs.find(match, {"pk": 1, "name": 1}, sort=[("sk", 1)], limit=limit)
        return tuple(AudienceName(record["pk"], record["name"]) for record in found), customs.count_documents(match)


def _key(org: str, use: AudienceUse) -> str:
    """The use's sk, which is also its `_id`; what callers choose is quoted, so that no two uses share one."""
    return f"{org}/audience_use/{quote(use.audience_id, safe='')}/{use.kind}/{quote(use.user_id, safe='')}"


def _record(org: str, use: AudienceUse) -> dict[str, Any]:
    key = _key(org, use)
    return {
        "_id": key,
        "sk": key,
        "audience": use.audience_id,
        "kind": use.kind,
        "user": use.user_id,
        "description": use.description,
        "author": use.subject,
        "createdate": use.create_time,
        "calls": 1,
    }


def _read_use(record: Mapping[str, Any]) -> AudienceUse:
    return AudienceUse(
        audience_id=record["audience"],
        kind=record["kind"],
        user_id=record["user"],
        description=record["description"],
        subject=record["author"],
        create_time=record["createdate"],
    )


def _name(record: Mapping[str, Any]) -> AudienceName:
    segment = read_segment(record)
    return AudienceName(segment.id, segment.name[:MAX_NAME_LENGTH])
