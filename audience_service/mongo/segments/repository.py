"""Segments in the platform's `segment` collection."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import (
    AudienceNotFound,
    InvalidArgument,
    NameTaken,
    RequestIdReused,
    StaleVersion,
)
from audience_service.domain.core.idempotency import IdempotencyKey
from audience_service.domain.core.pages import Page, PageKey
from audience_service.domain.filters.filter import Document
from audience_service.domain.segments.model import ID_PREFIX, Order, Segment, SegmentQuery, SegmentType
from audience_service.mongo.core.collections import SEGMENTS, VERSIONS
from audience_service.mongo.core.documents import Record, name_key, request_key
from audience_service.mongo.core.errors import retry_read, with_deadline
from audience_service.mongo.core.page_size import limit_page_bytes
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.segments.documents import (
    MAX_VERSION,
    new_segment_record,
    read_segment,
    touch_segment_record,
    update_segment_record,
)
from audience_service.mongo.segments.versions import store_version

_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_DELETED: Document = {"state": {"$ne": "deleted"}}


def _if_text(path: str, otherwise: Any) -> Document:
    return {"$cond": [{"$eq": [{"$type": path}, "string"]}, path, otherwise]}


# Uniform sort values: names in lower case, dates as dates even if stored as text.
_ORDER_VALUES: dict[Order, Document] = {
    Order.NAME: {"$toLower": _if_text("$name", _if_text("$data.name", ""))},
    **{
        order: {
            "$convert": {
                "input": {"$ifNull": [path, _UNIX_EPOCH]},
                "to": "date",
                "onError": _UNIX_EPOCH,
                "onNull": _UNIX_EPOCH,
            }
        }
        for order, path in ((Order.CREATE_TIME, "$createdate"), (Order.UPDATE_TIME, "$modifydate"))
    },
}


class MongoSegments:
    """The SegmentRepository on MongoDB; the protocol states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope
        self._collection: Collection[dict[str, Any]] = database[SEGMENTS]

    def insert(self, org: str, segment: Segment, key: IdempotencyKey | None, deadline: Deadline) -> None:
        """Insert the segment. If a deleted or renamed segment still reserves the name, release it and retry."""
        record = new_segment_record(org, segment, key)
        try:
            with with_deadline(self._database, deadline):
                self._collection.insert_one(record)
        except DuplicateKeyError as error:
            if "data.unique.request" in ((error.details or {}).get("keyPattern") or {}):
                raise RequestIdReused("this request_id has already created a segment; use a new one") from None
            if not self._release_name(org, segment.name, deadline):
                raise NameTaken.of(segment.name) from None
            self.insert(org, segment, key, deadline)

    def find_by_key(self, org: str, key: IdempotencyKey, deadline: Deadline) -> tuple[Segment, str] | None:
        """Return the segment that a request created, and the request's digest."""
        record = self._find(org, {"data.unique.request": request_key(org, key)}, deadline)
        return (read_segment(record), str(record["data"]["unique"]["digest"])) if record else None

    def get(self, org: str, segment_id: str, deadline: Deadline) -> Segment:
        """Return the segment unless it is deleted."""
        return read_segment(self._record(org, segment_id, _NOT_DELETED, deadline))

    def get_many(self, org: str, ids: Sequence[str], deadline: Deadline) -> Mapping[str, Segment]:
        """Return those that are not deleted."""
        if not (segment_ids := [segment_id for segment_id in ids if segment_id.startswith(ID_PREFIX)]):
            return {}
        with with_deadline(self._database, deadline):
            records = self._collection.find(self._scope.match(org, {"pk": {"$in": segment_ids}, **_NOT_DELETED}))
            return {segment.id: segment for segment in map(read_segment, records)}

    def find(self, org: str, segment_id: str, deadline: Deadline) -> Segment:
        """Return the segment, even if it is deleted."""
        return read_segment(self._record(org, segment_id, {}, deadline))

    def is_name_taken(self, org: str, name: str, except_id: str, deadline: Deadline) -> bool:
        """Return whether another segment has the name, in either field of the platform. Deleted ones do not count."""
        named = {"$or": [{"name": name}, {"name": None, "data.name": name}]}
        return self._find(org, {"$and": [named, _NOT_DELETED, {"pk": {"$ne": except_id}}]}, deadline) is not None

    def count(self, org: str, limit: int, deadline: Deadline) -> int:
        """Count on the primary, up to `limit`."""
        match = self._scope.match(org, _NOT_DELETED)
        return retry_read(self._database, deadline, lambda: self._collection.count_documents(match, limit=limit))

    def page(
        self, org: str, query: SegmentQuery, size: int, after: PageKey | None, deadline: Deadline
    ) -> Page[Segment]:
        """Return a page in the query's order. One further segment shows whether another page follows."""
        direction = -1 if query.descending else 1
        match = self._scope.match(org, *_conditions(query))
        stages: list[Document] = [{"$match": match}, {"$set": {"order": _ORDER_VALUES[query.order]}}]
        if after:
            stages.append({"$match": _after_condition(query, after)})
        stages += [{"$sort": {"order": direction, "sk": direction}}, {"$limit": size + 1}]
        with with_deadline(self._database, deadline):
            total = self._collection.count_documents(match)
            with self._collection.aggregate(stages) as records:
                page, next_record = limit_page_bytes(records, size)
        last_key = _order_key(page[-1]) if next_record else None
        return Page(page, last_key, total).map(read_segment)

    def save(self, org: str, segment: Segment, deadline: Deadline, *, deleted: bool = False) -> Segment:
        """Compare-and-set on the version.

        It replaces the complete record, because $set would interpret the filter's operators.
        """
        guard = {} if deleted else _NOT_DELETED
        record = self._record(org, segment.id, guard, deadline)
        updated = update_segment_record(org, record, segment, now())
        try:
            return self._replace(org, segment, record, updated, guard, deadline)
        except DuplicateKeyError:
            if not self._release_name(org, segment.name, deadline):
                raise NameTaken.of(segment.name) from None
            return self.save(org, segment, deadline, deleted=deleted)

    def touch(self, org: str, segment: Segment, deadline: Deadline) -> Segment:
        """Compare-and-set on the version. The previous version is stored, as in `save`."""
        record = self._record(org, segment.id, _NOT_DELETED, deadline)
        updated = touch_segment_record(record, segment, now())
        return self._replace(org, segment, record, updated, _NOT_DELETED, deadline, list_edit=True)

    def remove(self, org: str, segment: Segment, deadline: Deadline) -> None:
        """Delete the segment if it is still at that version, and its stored versions."""
        record = self._record(org, segment.id, {}, deadline)
        found = read_segment(record).version
        with with_deadline(self._database, deadline):
            current = self._scope.match(org, {"pk": segment.id}, _version_match(record))
            if found != segment.version or not self._collection.delete_one(current).deleted_count:
                raise _stale_version_error(found, segment)
            self._database[VERSIONS].delete_many(self._scope.match(org, {"pk": segment.id}))

    def _replace(
        self,
        org: str,
        segment: Segment,
        record: Record,
        updated: Record,
        guard: Document,
        deadline: Deadline,
        *,
        list_edit: bool = False,
    ) -> Segment:
        """Store the record as a version, then replace it by the changed one if it is still at that version.

        A failure between the two steps is harmless: the stored version then equals the current one.
        """
        found = read_segment(record).version
        if found == segment.version:
            if found == MAX_VERSION:
                raise InvalidArgument.at(
                    "version", f"is {found} on the segment, the maximum: the segment can no longer be changed"
                )
            store_version(self._database, record, deadline, list_edit=list_edit)
            if self._write(
                self._scope.match(org, {"pk": segment.id}, _version_match(record), guard), updated, deadline
            ):
                return read_segment(updated)
            found = read_segment(self._record(org, segment.id, guard, deadline)).version
        raise _stale_version_error(found, segment)

    def _write(self, current: Document, updated: Record, deadline: Deadline) -> bool:
        with with_deadline(self._database, deadline):
            return self._collection.replace_one(current, updated).matched_count > 0

    def _record(self, org: str, segment_id: str, guard: Document, deadline: Deadline) -> Record:
        record = self._find(org, {"pk": segment_id, **guard}, deadline)
        if record is None:
            raise AudienceNotFound.of(segment_id)
        return record

    def _find(self, org: str, condition: Document, deadline: Deadline) -> dict[str, Any] | None:
        return retry_read(
            self._database, deadline, lambda: self._collection.find_one(self._scope.match(org, condition))
        )

    def _release_name(self, org: str, name: str, deadline: Deadline) -> bool:
        """Release a name whose segment the platform has deleted or renamed. The platform leaves the service's key."""
        renamed = {"name": {"$nin": [name, None]}}
        former_holder = {"data.unique.name": name_key(org, name), "$or": [{"state": "deleted"}, renamed]}
        with with_deadline(self._database, deadline):
            result = self._collection.update_many(
                self._scope.match(org, former_holder), {"$unset": {"data.unique.name": ""}}
            )
        return result.modified_count > 0


def _version_match(record: Record) -> Document:
    """Return the match on the exact stored version, which can have any type in records of the platform."""
    version = record.get("version")
    return {"version": None if version is None else {"$eq": version}}


def _stale_version_error(current_version: int, segment: Segment) -> StaleVersion:
    return StaleVersion(
        f"the segment is at version {current_version}, not {segment.version}",
        metadata={"current_version": str(current_version)},
    )


def _conditions(query: SegmentQuery) -> list[Document]:
    conditions: list[Document] = [{"state": query.state} if query.state else _NOT_DELETED]
    if query.state == "active":
        conditions = [{"state": {"$in": ["active", None]}}]
    if query.type == SegmentType.STATIC:
        conditions.append({"data.type": query.type})
    elif query.type:
        conditions.append({"data.type": {"$ne": SegmentType.STATIC}})
    if query.name:
        part = {"$regex": re.escape(query.name), "$options": "i"}
        conditions.append({"$or": [{"name": part}, {"name": None, "data.name": part}]})
    return conditions


def _order_key(record: Mapping[str, Any]) -> tuple[str, str]:
    value = record["order"]
    return (value.isoformat() if isinstance(value, datetime) else str(value), record["sk"])


def _after_condition(query: SegmentQuery, after: PageKey) -> Document:
    """Return the condition on records after a key of `_order_key`."""
    comparison = "$lt" if query.descending else "$gt"
    value = after[0] if query.order is Order.NAME else datetime.fromisoformat(after[0])
    return {"$or": [{"order": {comparison: value}}, {"order": value, "sk": {comparison: after[1]}}]}
