"""The embedded store's repositories of segments, whose calls take turns.

To the embedded store a replacement is not one step, and a reader may find the record gone in the midst of it. All that
reads or writes segments shares one lock.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from pymongo.database import Database

from audience_service.domain.audiences.references import AudienceUse, Usage
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.idempotency import IdempotencyKey
from audience_service.domain.core.lease import Lease
from audience_service.domain.custom_audiences.model import CustomAudience, CustomPage, CustomQuery
from audience_service.domain.filters.filter import Document
from audience_service.domain.segments.model import Segment, SegmentPage, SegmentQuery
from audience_service.domain.segments.version import VersionPage
from audience_service.domain.snapshots.model import Snapshot, SnapshotPage, SnapshotQuery
from audience_service.mongo.audiences.repository import MongoUses
from audience_service.mongo.custom_audiences.repository import MongoCustomAudiences
from audience_service.mongo.segments.repository import MongoSegments
from audience_service.mongo.segments.versions import MongoVersions
from audience_service.mongo.snapshots.repository import MongoSnapshots

Lock = AbstractContextManager[Any]


class EmbeddedSegments(MongoSegments):
    """MongoSegments, one call at a time."""

    def __init__(self, database: Database[dict[str, Any]], lock: Lock) -> None:
        super().__init__(database)
        self._lock = lock

    def insert(self, org: str, segment: Segment, key: IdempotencyKey | None, deadline: Deadline) -> None:
        """As on MongoDB."""
        with self._lock:
            super().insert(org, segment, key, deadline)

    def save(self, org: str, segment: Segment, deadline: Deadline, *, deleted: bool = False) -> Segment:
        """As on MongoDB."""
        with self._lock:
            return super().save(org, segment, deadline, deleted=deleted)

    def touch(self, org: str, segment: Segment, deadline: Deadline) -> Segment:
        """As on MongoDB."""
        with self._lock:
            return super().touch(org, segment, deadline)

    def remove(self, org: str, segment: Segment, deadline: Deadline) -> None:
        """As on MongoDB."""
        with self._lock:
            super().remove(org, segment, deadline)

    def page(
        self, org: str, query: SegmentQuery, size: int, after: tuple[str, str] | None, deadline: Deadline
    ) -> SegmentPage:
        """As on MongoDB."""
        with self._lock:
            return super().page(org, query, size, after, deadline)

    def get_many(self, org: str, ids: Sequence[str], deadline: Deadline) -> Mapping[str, Segment]:
        """As on MongoDB."""
        with self._lock:
            return super().get_many(org, ids, deadline)

    def _find(self, org: str, condition: Document, deadline: Deadline) -> dict[str, Any] | None:
        with self._lock:
            return super()._find(org, condition, deadline)


class EmbeddedVersions(MongoVersions):
    """MongoVersions, one call at a time."""

    def __init__(self, database: Database[dict[str, Any]], lock: Lock) -> None:
        super().__init__(database)
        self._lock = lock

    def page(self, org: str, segment_id: str, below: int | None, size: int, deadline: Deadline) -> VersionPage:
        """As on MongoDB."""
        with self._lock:
            return super().page(org, segment_id, below, size, deadline)

    def get(self, org: str, segment_id: str, version: int, deadline: Deadline) -> Segment:
        """As on MongoDB."""
        with self._lock:
            return super().get(org, segment_id, version, deadline)


class EmbeddedUses(MongoUses):
    """MongoUses, one call at a time."""

    def __init__(self, database: Database[dict[str, Any]], lock: Lock) -> None:
        super().__init__(database)
        self._lock = lock

    def add(self, org: str, use: AudienceUse, deadline: Deadline) -> AudienceUse:
        """As on MongoDB."""
        with self._lock:
            return super().add(org, use, deadline)

    def withdraw(self, org: str, use: AudienceUse, deadline: Deadline) -> None:
        """As on MongoDB."""
        with self._lock:
            super().withdraw(org, use, deadline)

    def remove(self, org: str, use: AudienceUse, deadline: Deadline) -> bool:
        """As on MongoDB."""
        with self._lock:
            return super().remove(org, use, deadline)

    def usage(self, org: str, audience_id: str, limit: int, deadline: Deadline) -> Usage:
        """As on MongoDB."""
        with self._lock:
            return super().usage(org, audience_id, limit, deadline)


class EmbeddedSnapshots(MongoSnapshots):
    """MongoSnapshots, one call at a time."""

    def __init__(self, database: Database[dict[str, Any]], lock: Lock) -> None:
        super().__init__(database)
        self._lock = lock

    def insert(
        self, org: str, snapshot: Snapshot, lease: Lease, key: IdempotencyKey | None, deadline: Deadline
    ) -> None:
        """As on MongoDB."""
        with self._lock:
            super().insert(org, snapshot, lease, key, deadline)

    def take_over(
        self, org: str, snapshot: Snapshot, lease: Lease, capacity_free_at: datetime, deadline: Deadline
    ) -> bool:
        """As on MongoDB."""
        with self._lock:
            return super().take_over(org, snapshot, lease, capacity_free_at, deadline)

    def page(
        self, org: str, query: SnapshotQuery, size: int, after: tuple[str, str] | None, deadline: Deadline
    ) -> SnapshotPage:
        """As on MongoDB."""
        with self._lock:
            return super().page(org, query, size, after, deadline)

    def remove(self, org: str, snapshot_id: str, capacity_free_at: datetime, deadline: Deadline) -> Snapshot:
        """As on MongoDB."""
        with self._lock:
            return super().remove(org, snapshot_id, capacity_free_at, deadline)

    def _update_attempt(
        self, org: str, snapshot: Snapshot, changes: Document, deadline: Deadline, condition: Document | None = None
    ) -> bool:
        with self._lock:
            return super()._update_attempt(org, snapshot, changes, deadline, condition)

    def _find(self, org: str, condition: Document, deadline: Deadline) -> dict[str, Any] | None:
        with self._lock:
            return super()._find(org, condition, deadline)


class EmbeddedCustomAudiences(MongoCustomAudiences):
    """MongoCustomAudiences, one call at a time."""

    def __init__(self, database: Database[dict[str, Any]], lock: Lock) -> None:
        super().__init__(database)
        self._lock = lock

    def insert(
        self,
        org: str,
        audience: CustomAudience,
        key: IdempotencyKey | None,
        deadline: Deadline,
        lease: Lease | None = None,
    ) -> None:
        """As on MongoDB."""
        with self._lock:
            super().insert(org, audience, key, deadline, lease)

    def page(
        self, org: str, query: CustomQuery, size: int, after: tuple[str, str] | None, deadline: Deadline
    ) -> CustomPage:
        """As on MongoDB."""
        with self._lock:
            return super().page(org, query, size, after, deadline)

    def save(self, org: str, audience: CustomAudience, deadline: Deadline) -> CustomAudience:
        """As on MongoDB."""
        with self._lock:
            return super().save(org, audience, deadline)

    def reserve(self, org: str, audience_id: str, list_version_id: str, until: datetime, deadline: Deadline) -> None:
        """As on MongoDB."""
        with self._lock:
            super().reserve(org, audience_id, list_version_id, until, deadline)

    def start_work(self, org: str, audience_id: str, lease: Lease, deadline: Deadline) -> CustomAudience | None:
        """As on MongoDB."""
        with self._lock:
            return super().start_work(org, audience_id, lease, deadline)

    def publish(
        self,
        org: str,
        audience: CustomAudience,
        list_version_id: str,
        publication: Mapping[str, Any],
        deadline: Deadline,
        *,
        ends_work: bool = False,
    ) -> CustomAudience:
        """As on MongoDB."""
        with self._lock:
            return super().publish(org, audience, list_version_id, publication, deadline, ends_work=ends_work)

    def remove(self, org: str, audience: CustomAudience, deadline: Deadline) -> None:
        """As on MongoDB."""
        with self._lock:
            super().remove(org, audience, deadline)

    def restore(self, org: str, audience: CustomAudience, deadline: Deadline) -> bool:
        """As on MongoDB."""
        with self._lock:
            return super().restore(org, audience, deadline)

    def _change_work(
        self, org: str, audience: CustomAudience, changes: Document, deadline: Deadline, extra: Document | None = None
    ) -> bool:
        with self._lock:
            return super()._change_work(org, audience, changes, deadline, extra)

    def _find(self, org: str, condition: Document, deadline: Deadline) -> dict[str, Any] | None:
        with self._lock:
            return super()._find(org, condition, deadline)
