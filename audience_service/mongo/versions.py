"""The versions of segments: the record in `segment` and, below it, those that were kept before each write."""

import contextlib
import itertools
from typing import Any

from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.caller import Deadline
from audience_service.domain.errors import AudienceNotFound, VersionNotFound
from audience_service.domain.segment import Segment
from audience_service.domain.version import VersionPage
from audience_service.mongo.collections import SEGMENTS, VERSIONS
from audience_service.mongo.documents import Record, read_segment
from audience_service.mongo.failures import limited
from audience_service.mongo.scope import scoped
from audience_service.mongo.sizes import within_bytes


def keep_version(database: Database[Record], record: Record, deadline: Deadline) -> None:
    """Keep a record that is about to be written over.

    Every write is compare-and-set and one version up, so what a version holds never changes: writers that compete keep
    the same, and the first of them does. Kept by a write that then fails, it is the current version still, and no
    reader looks for that one here.
    """
    version = read_segment(record).version
    kept = {**record, "_id": f"{record['sk']}/{version}", "version": version}
    with contextlib.suppress(DuplicateKeyError), limited(database, deadline):
        database[VERSIONS].insert_one(kept)


class MongoVersions:
    """The VersionRepository on MongoDB; domain/ports.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database

    def page(self, org: str, segment_id: str, below: int | None, size: int, deadline: Deadline) -> VersionPage:
        """The current record first; of those kept, only what lies below it."""
        current = self._current(org, segment_id, deadline)
        newest = read_segment(current).version
        older = scoped(org, {"pk": segment_id, "version": {"$lt": newest}})
        first = newest if below is None else min(below, newest)
        match = scoped(org, {"pk": segment_id, "version": {"$lt": first}})
        with limited(self._database, deadline):
            total = self._database[VERSIONS].count_documents(older) + 1
            with self._database[VERSIONS].find(match, sort=[("version", -1)], limit=size + 1) as kept:
                records, behind = within_bytes(itertools.chain([current] if below is None else [], kept), size)
        versions = tuple(read_segment(record) for record in records)
        return VersionPage(versions, read_segment(behind) if behind else None, total)

    def get(self, org: str, segment_id: str, version: int, deadline: Deadline) -> Segment:
        """The current record or one that was kept."""
        current = read_segment(self._current(org, segment_id, deadline))
        if version == current.version:
            return current
        kept = None
        if 0 <= version < current.version:
            with limited(self._database, deadline):
                kept = self._database[VERSIONS].find_one(scoped(org, {"pk": segment_id, "version": version}))
        if kept is None:
            raise VersionNotFound(
                "the segment has no such version, or none that was kept",
                metadata={"version": str(version), "current_version": str(current.version)},
            )
        return read_segment(kept)

    def _current(self, org: str, segment_id: str, deadline: Deadline) -> Record:
        with limited(self._database, deadline):
            record = self._database[SEGMENTS].find_one(scoped(org, {"pk": segment_id}))
        if record is None:
            raise AudienceNotFound.of(segment_id)
        return record
