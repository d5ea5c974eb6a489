"""Manifests of snapshots."""

from datetime import datetime
from typing import Any

import bson
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import InvalidArgument, RequestIdReused, SnapshotNotFound
from audience_service.domain.core.idempotency import CreationState, IdempotencyKey
from audience_service.domain.core.lease import Lease
from audience_service.domain.core.pages import Page, PageKey
from audience_service.domain.filters.filter import Document
from audience_service.domain.snapshots.model import Snapshot, SnapshotQuery
from audience_service.mongo.core.collections import SNAPSHOTS
from audience_service.mongo.core.documents import Record, request_key
from audience_service.mongo.core.errors import retry_read, with_deadline
from audience_service.mongo.core.pages import newest_page
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.snapshots.documents import (
    DELETED,
    new_manifest,
    read_manifest,
    restart_manifest,
    result_fields,
    snapshot_sk,
)
from audience_service.mongo.snapshots.rows import RETENTION_GRACE

_MAX_MANIFEST_BYTES = 1024 * 1024
"""The limit of a manifest's filters. A single filter may be as large, and four times as large in a response."""

_CREATING: Document = {"state": CreationState.CREATING.value}


class MongoSnapshots:
    """The SnapshotRepository on MongoDB; domain/snapshots/repository.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope
        self._collection: Collection[dict[str, Any]] = database[SNAPSHOTS]

    def insert(
        self, org: str, snapshot: Snapshot, lease: Lease, key: IdempotencyKey | None, deadline: Deadline
    ) -> None:
        """Insert. If an expired snapshot still reserves the request_id, delete it and retry."""
        record = {**new_manifest(org, snapshot, key), **_lease_fields(lease)}
        _check_size(record)
        try:
            with with_deadline(self._database, deadline):
                self._collection.insert_one(record)
        except DuplicateKeyError:
            if key is None:
                raise
            expired: Document = {"data.unique.request": request_key(org, key), "expire_at": {"$lte": now()}}
            with with_deadline(self._database, deadline):
                self._collection.delete_one(self._scope.match(org, expired))
            # Retry even if this call deleted none: another process may have deleted it and not inserted yet.
            try:
                with with_deadline(self._database, deadline):
                    self._collection.insert_one(record)
            except DuplicateKeyError:
                raise RequestIdReused("this request_id has already created a snapshot; use a new one") from None

    def find_by_key(self, org: str, key: IdempotencyKey, deadline: Deadline) -> tuple[Snapshot, str] | None:
        """Return the snapshot that a request created, and the request's digest."""
        record = self._find(org, {"data.unique.request": request_key(org, key)}, deadline)
        return (read_manifest(record), str(record["data"]["unique"]["digest"])) if record else None

    def get(self, org: str, snapshot_id: str, deadline: Deadline) -> Snapshot:
        """Find by key."""
        return read_manifest(self._record(org, snapshot_id, deadline))

    def count(self, org: str, limit: int, deadline: Deadline) -> int:
        """Count on the primary, up to `limit`."""
        match = self._scope.match(org, _available())
        return retry_read(self._database, deadline, lambda: self._collection.count_documents(match, limit=limit))

    def page(
        self, org: str, query: SnapshotQuery, size: int, after: PageKey | None, deadline: Deadline
    ) -> Page[Snapshot]:
        """Return a page, newest first."""
        conditions: list[Document] = [_available()]
        if query.audience_id:
            conditions.append({"data.sources.audience": query.audience_id})
        if query.state:
            conditions.append({"state": query.state})
        return newest_page(self._collection, self._scope, org, conditions, size, after, deadline).map(read_manifest)

    def renew(self, org: str, snapshot: Snapshot, lease: Lease, deadline: Deadline) -> bool:
        """Compare-and-set on the attempt and its owner."""
        owner_match = {"lease.owner": lease.owner}
        changes = {"$set": _lease_fields(lease), "$max": {"data.progress": snapshot.progress}}
        return self._update_attempt(org, snapshot, changes, deadline, owner_match)

    def take_over(
        self, org: str, snapshot: Snapshot, lease: Lease, capacity_free_at: datetime, deadline: Deadline
    ) -> bool:
        """Replace the complete record, because $set would interpret the filters' operators."""
        record = self._record(org, snapshot.id, deadline)
        claimable: Document = {
            "$or": [{"state": CreationState.FAILED.value}, {**_CREATING, "lease_until": {"$lt": now()}}]
        }
        orphans = record["orphaned_lists"]
        if record["state"] == CreationState.CREATING:
            orphans = [
                *orphans,
                {"list_version_id": f"{snapshot.id}.{record['version']}", "delete_after": capacity_free_at},
            ]
        updated = {
            **restart_manifest(record, snapshot),
            **_lease_fields(lease),
            "orphaned_lists": orphans,
            "modifydate": now(),
        }
        _check_size(updated)
        expected = {"_id": record["_id"], "version": snapshot.attempt - 1, "state": record["state"]}
        with with_deadline(self._database, deadline):
            return self._collection.replace_one(self._scope.match(org, expected, claimable), updated).matched_count > 0

    def finish(self, org: str, snapshot: Snapshot, deadline: Deadline) -> bool:
        """Compare-and-set, as the last write of a snapshot. It succeeds again if the first response was lost."""
        changes = {"$set": {**result_fields(snapshot), "modifydate": now()}, "$unset": {"lease": "", "lease_until": ""}}
        creating_or_ready = {"state": {"$in": [CreationState.CREATING.value, CreationState.READY.value]}}
        return self._update_attempt(org, snapshot, changes, deadline, creating_or_ready)

    def fail(self, org: str, snapshot: Snapshot, capacity_free_at: datetime, deadline: Deadline) -> None:
        """Compare-and-set on the attempt."""
        self._update_attempt(
            org, snapshot, failure_update(snapshot.error, snapshot.list_version_id, capacity_free_at), deadline
        )

    def remove(self, org: str, snapshot_id: str, capacity_free_at: datetime, deadline: Deadline) -> Snapshot:
        """Mark the snapshot as deleted. The cleanup deletes its rows, and then the manifest."""
        record = self._record(org, snapshot_id, deadline)
        snapshot = read_manifest(record)
        is_creating = snapshot.state is CreationState.CREATING
        orphan = {
            "list_version_id": snapshot.list_version_id,
            "delete_after": capacity_free_at if is_creating else now() + RETENTION_GRACE,
        }
        mark = {
            "$set": {"state": DELETED, "modifydate": now()},
            "$unset": {"data.unique": "", "lease": "", "lease_until": ""},
            "$push": {"orphaned_lists": orphan},
        }
        expected = {"_id": record["_id"], "version": snapshot.attempt, "state": snapshot.state.value}
        with with_deadline(self._database, deadline):
            if not self._collection.update_one(self._scope.match(org, expected), mark).modified_count:
                return self.remove(org, snapshot_id, capacity_free_at, deadline)  # it has changed; try again
        return snapshot

    def _update_attempt(
        self, org: str, snapshot: Snapshot, changes: Document, deadline: Deadline, condition: Document | None = None
    ) -> bool:
        """Update an attempt that is CREATING, or meets `condition` instead. Return whether it did."""
        expected = {"_id": snapshot_sk(org, snapshot.id), "version": snapshot.attempt, **_CREATING, **(condition or {})}
        with with_deadline(self._database, deadline):
            return self._collection.update_one(self._scope.match(org, expected), changes).matched_count > 0

    def _record(self, org: str, snapshot_id: str, deadline: Deadline) -> Record:
        record = self._find(org, {"_id": snapshot_sk(org, snapshot_id)}, deadline)
        if record is None:
            raise SnapshotNotFound.of(snapshot_id)
        return record

    def _find(self, org: str, condition: Document, deadline: Deadline) -> Record | None:
        match = self._scope.match(org, condition, _available())
        return retry_read(self._database, deadline, lambda: self._collection.find_one(match))


def failure_update(error: str, list_version_id: str, capacity_free_at: datetime) -> Document:
    """Return the update that fails an attempt. Commands may still write its rows until `capacity_free_at`."""
    return {
        "$set": {"state": CreationState.FAILED.value, "data.error": error, "modifydate": now()},
        "$unset": {"lease": "", "lease_until": ""},
        "$push": {"orphaned_lists": {"list_version_id": list_version_id, "delete_after": capacity_free_at}},
    }


def _available() -> Document:
    return {"state": {"$ne": DELETED}, "expire_at": {"$gt": now()}}


def _lease_fields(lease: Lease) -> Document:
    return {"lease": {"owner": lease.owner}, "lease_until": lease.expires_at}


def _check_size(record: Record) -> None:
    size = len(bson.encode(record))
    if size > _MAX_MANIFEST_BYTES + 64 * 1024:
        raise InvalidArgument.at(
            "audience_ids",
            f"have filters of {size:,} bytes together; a snapshot can store {_MAX_MANIFEST_BYTES:,}",
        )
