"""Versions of segments: the current record, and the older ones that each write stored."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import AudienceNotFound, VersionNotFound
from audience_service.domain.segments.model import Segment
from audience_service.domain.segments.version import VersionPage
from audience_service.mongo.core.collections import SEGMENTS, VERSIONS
from audience_service.mongo.core.documents import Record
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.page_size import limit_page_bytes
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.segments.documents import read_segment

MAX_VERSIONS = 1_000
"""The most stored versions of a segment. Older ones are deleted."""

_FILTER_OMITTED = "omits_filter"
"""Marks a stored version whose filter equals that of the next version."""


def store_version(database: Database[Record], record: Record, deadline: Deadline, *, list_edit: bool = False) -> None:
    """Store a record as a version before it is overwritten. `list_edit` means that the write edits only its list.

    Every write is compare-and-set and increments the version, so the content of a version never changes. Concurrent
    writers store the same content, and the first of them succeeds. If the write then fails, the stored version equals
    the current one, which readers take from the segment itself. Only writers outside this service can give a version
    number to other content; then the newer content replaces the older.
    """
    version = read_segment(record).version
    stored = {**record, "_id": f"{record['sk']}/{version}", "version": version}
    if list_edit and "filter" in (record.get("data") or {}):
        # A filter may be large, and an edit of the list does not change it. Copies would waste space.
        stored = {**stored, "data": _without_filter(stored), _FILTER_OMITTED: True}
    try:
        with with_deadline(database, deadline):
            database[VERSIONS].insert_one(dict(stored))
    except DuplicateKeyError:
        _replace_if_newer(database, stored, deadline)
    if version >= MAX_VERSIONS:
        _delete_oldest(database, record, deadline)


def _replace_if_newer(database: Database[Record], stored: Record, deadline: Deadline) -> None:
    """Replace the stored version of the same number if its content differs."""
    with with_deadline(database, deadline):
        found = database[VERSIONS].find_one({"_id": stored["_id"]})
        if found is not None and _content(found, stored) != _content(stored, found):
            database[VERSIONS].replace_one({"_id": stored["_id"]}, stored)


def _delete_oldest(database: Database[Record], record: Record, deadline: Deadline) -> None:
    match = {"pk": record["pk"], "sk": record["sk"]}
    projection = {"_id": 0, "version": 1}
    with with_deadline(database, deadline):
        for oldest in database[VERSIONS].find(match, projection, sort=[("version", -1)], skip=MAX_VERSIONS, limit=1):
            database[VERSIONS].delete_many({**match, "version": {"$lte": oldest["version"]}})


def _content(record: Record, other: Record) -> Record:
    """Return the content to compare. It omits the filter if either version does: then both have the same."""
    if not (record.get(_FILTER_OMITTED) or other.get(_FILTER_OMITTED)):
        return record
    bare = {name: value for name, value in record.items() if name != _FILTER_OMITTED}
    return {**bare, "data": _without_filter(record)}


def _without_filter(record: Record) -> Record:
    data = record.get("data")
    return {name: value for name, value in data.items() if name != "filter"} if isinstance(data, Mapping) else {}


class MongoVersions:
    """The VersionRepository on MongoDB; the protocol states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope

    def page(self, org: str, segment_id: str, below: int | None, size: int, deadline: Deadline) -> VersionPage:
        """Return the current record first, then the stored versions below it."""
        current = self._current(org, segment_id, deadline)
        newest = read_segment(current).version
        older = self._scope.match(org, {"pk": segment_id, "version": {"$lt": newest}})
        first = newest if below is None else min(below, newest)
        match = self._scope.match(org, {"pk": segment_id, "version": {"$lt": first}})
        with with_deadline(self._database, deadline):
            total = self._database[VERSIONS].count_documents(older) + 1
            with self._database[VERSIONS].find(match, sort=[("version", -1)], limit=size + 1) as stored:
                complete = self._with_filters(org, current, itertools.chain([current] if below is None else [], stored))
                records, next_record = limit_page_bytes(complete, size)
        versions = tuple(read_segment(record) for record in records)
        return VersionPage(versions, read_segment(next_record) if next_record else None, total)

    def get(self, org: str, segment_id: str, version: int, deadline: Deadline) -> Segment:
        """Return the current record, or a stored version."""
        current = self._current(org, segment_id, deadline)
        newest = read_segment(current).version
        if version == newest:
            return read_segment(current)
        if 0 <= version < newest:
            with with_deadline(self._database, deadline):
                stored = self._database[VERSIONS].find_one(
                    self._scope.match(org, {"pk": segment_id, "version": version})
                )
                for record in self._with_filters(org, current, [stored] if stored else []):
                    return read_segment(record)
        raise VersionNotFound(
            "the segment has no such version, or no longer stores it",
            metadata={"version": str(version), "current_version": str(newest)},
        )

    def _with_filters(self, org: str, current: Record, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records, newest first, with omitted filters restored from the next higher version that has one."""
        above: Record | None = None
        for record in records:
            if not record.get(_FILTER_OMITTED):
                above = record
                yield record
                continue
            above = above or self._next_with_filter(org, current, record["version"])
            data = above.get("data")
            own = data.get("filter") if isinstance(data, Mapping) else None
            yield {**record, "data": {**record["data"], "filter": own}}

    def _next_with_filter(self, org: str, current: Record, version: int) -> Record:
        between = {"$gt": version, "$lt": read_segment(current).version}
        match = self._scope.match(org, {"pk": current["pk"], "version": between, _FILTER_OMITTED: None})
        return self._database[VERSIONS].find_one(match, sort=[("version", 1)]) or current

    def _current(self, org: str, segment_id: str, deadline: Deadline) -> Record:
        with with_deadline(self._database, deadline):
            record = self._database[SEGMENTS].find_one(self._scope.match(org, {"pk": segment_id}))
        if record is None:
            raise AudienceNotFound.of(segment_id)
        return record
