"""The segments of an org, in the platform's `segment` collection."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.caller import Deadline
from audience_service.domain.clock import now
from audience_service.domain.errors import AudienceNotFound, NameTaken, RequestIdReused, StaleVersion
from audience_service.domain.filters.filter import Document
from audience_service.domain.ports import CreateRequest
from audience_service.domain.segment import Order, Segment, SegmentPage, SegmentQuery, SegmentType
from audience_service.mongo.collections import SEGMENTS
from audience_service.mongo.documents import changed_record, new_record, read_segment, request_key
from audience_service.mongo.failures import time_limit, translated
from audience_service.mongo.scope import scoped

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_DELETED: Document = {"state": {"$ne": "deleted"}}

# What segments are ordered by, made uniform: names in one case, dates as dates whether stored as such or as text.
_ORDER_VALUES: dict[Order, Document] = {
    Order.NAME: {"$toLower": {"$ifNull": ["$name", "$data.name", ""]}},
    **{
        order: {"$convert": {"input": path, "to": "date", "onError": _EPOCH, "onNull": _EPOCH}}
        for order, path in ((Order.CREATE_TIME, "$createdate"), (Order.UPDATE_TIME, "$modifydate"))
    },
}


class MongoSegments:
    """The SegmentRepository on MongoDB; domain/ports.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._collection: Collection[dict[str, Any]] = database[SEGMENTS]

    def insert(self, org: str, segment: Segment, request: CreateRequest | None, deadline: Deadline) -> None:
        """Store a new segment."""
        deadline.remaining()
        try:
            with translated():
                self._collection.insert_one(new_record(org, segment, request))
        except DuplicateKeyError as error:
            if "data.unique.request" in ((error.details or {}).get("keyPattern") or {}):
                raise RequestIdReused("this request_id has made a segment already") from None
            raise NameTaken.of(segment.name) from None

    def find_request(self, org: str, request: CreateRequest, deadline: Deadline) -> tuple[Segment, str] | None:
        """The segment that a request has made."""
        record = self._find(org, {"data.unique.request": request_key(org, request)}, deadline)
        return (read_segment(record), str(record["data"]["unique"]["digest"])) if record else None

    def get(self, org: str, segment_id: str, deadline: Deadline) -> Segment:
        """The living segment."""
        return read_segment(self._living(org, segment_id, deadline))

    def is_name_taken(self, org: str, name: str, except_id: str, deadline: Deadline) -> bool:
        """Whether another living segment has the name, at either place where the platform keeps it."""
        named = {"$or": [{"name": name}, {"name": None, "data.name": name}]}
        return self._find(org, {"$and": [named, _NOT_DELETED, {"pk": {"$ne": except_id}}]}, deadline) is not None

    def page(
        self, org: str, query: SegmentQuery, size: int, after: tuple[str, str] | None, deadline: Deadline
    ) -> SegmentPage:
        """A page in the query's order. One segment more is read, to know whether there is another page."""
        direction = -1 if query.descending else 1
        match = scoped(org, *_conditions(query))
        stages: list[Document] = [{"$match": match}, {"$set": {"order": _ORDER_VALUES[query.order]}}]
        if after:
            stages.append({"$match": _behind(query, after)})
        stages += [{"$sort": {"order": direction, "sk": direction}}, {"$limit": size + 1}]
        with translated():
            total = self._collection.count_documents(match, **time_limit(deadline))
            records = list(self._collection.aggregate(stages, **time_limit(deadline)))
        last = _order_key(records[size - 1]) if len(records) > size else None
        return SegmentPage(tuple(read_segment(record) for record in records[:size]), last, total)

    def save(self, org: str, segment: Segment, deadline: Deadline) -> Segment:
        """Compare-and-set on the version.

        The record is replaced whole: $set would read the filter's own operators as its own.
        """
        record = self._living(org, segment.id, deadline)
        changed = changed_record(org, record, segment, now())
        # The platform's records may lack a version, which counts as 0.
        versions = [0, None] if segment.version == 0 else [segment.version]
        current = scoped(org, {"pk": segment.id, "version": {"$in": versions}}, _NOT_DELETED)
        try:
            with translated():
                written = self._collection.replace_one(current, changed)
        except DuplicateKeyError:
            raise NameTaken.of(segment.name) from None
        if not written.matched_count:
            newer = read_segment(self._living(org, segment.id, deadline))
            raise StaleVersion(
                f"the segment is at version {newer.version}, not {segment.version}",
                metadata={"current_version": str(newer.version)},
            )
        return read_segment(changed)

    def touch(self, org: str, segment_id: str, deadline: Deadline) -> Segment:
        """Mark a living segment as written."""
        deadline.remaining()
        change = {"$inc": {"version": 1}, "$set": {"modifydate": now()}}
        with translated():
            record = self._collection.find_one_and_update(
                scoped(org, {"pk": segment_id}, _NOT_DELETED), change, return_document=True
            )
        if record is None:
            raise AudienceNotFound.of(segment_id)
        return read_segment(record)

    def _living(self, org: str, segment_id: str, deadline: Deadline) -> dict[str, Any]:
        record = self._find(org, {"pk": segment_id, **_NOT_DELETED}, deadline)
        if record is None:
            raise AudienceNotFound.of(segment_id)
        return record

    def _find(self, org: str, condition: Document, deadline: Deadline) -> dict[str, Any] | None:
        limit = time_limit(deadline)
        with translated():
            return self._collection.find_one(scoped(org, condition), max_time_ms=limit.get("maxTimeMS"))


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


def _behind(query: SegmentQuery, after: tuple[str, str]) -> Document:
    """The records behind a key of `_order_key`."""
    beyond = "$lt" if query.descending else "$gt"
    value = after[0] if query.order is Order.NAME else datetime.fromisoformat(after[0])
    return {"$or": [{"order": {beyond: value}}, {"order": value, "sk": {beyond: after[1]}}]}
