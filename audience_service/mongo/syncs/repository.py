"""The records of syncs, and their leases."""

import dataclasses
from typing import Any

from pymongo import ReturnDocument
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import RequestIdReused, StaleVersion
from audience_service.domain.core.idempotency import IdempotencyKey
from audience_service.domain.core.lease import Lease, LeaseLost
from audience_service.domain.core.pages import Page, PageKey
from audience_service.domain.filters.filter import Document
from audience_service.domain.syncs.errors import SyncNotFound
from audience_service.domain.syncs.model import RowFormat, Scan, Sync, SyncQuery
from audience_service.mongo.core.collections import SYNCS
from audience_service.mongo.core.documents import Record, request_key
from audience_service.mongo.core.errors import retry_read, with_deadline
from audience_service.mongo.core.pages import newest_page
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.syncs.documents import (
    ACTIVE,
    DELETED,
    format_fields,
    new_sync,
    read_sync,
    spec_fields,
    sync_sk,
)


class MongoSyncs:
    """The SyncRepository on MongoDB; domain/syncs/repository.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope
        self._collection = database[SYNCS]

    def insert(self, org: str, sync: Sync, key: IdempotencyKey | None, deadline: Deadline) -> None:
        """Insert. The index on the request's key refuses a second one."""
        try:
            with with_deadline(self._database, deadline):
                self._collection.insert_one(new_sync(org, sync, key))
        except DuplicateKeyError:
            raise RequestIdReused("this request_id has already created a sync; use a new one") from None

    def find_by_key(self, org: str, key: IdempotencyKey, deadline: Deadline) -> tuple[Sync, str] | None:
        """Find by the key of the request."""
        record = self._find(org, {"data.unique.request": request_key(org, key)}, deadline)
        return (read_sync(record), str(record["data"]["unique"]["digest"])) if record else None

    def get(self, org: str, sync_id: str, deadline: Deadline) -> Sync:
        """Find by key."""
        return read_sync(self._record(org, sync_id, deadline))

    def page(self, org: str, query: SyncQuery, size: int, after: PageKey | None, deadline: Deadline) -> Page[Sync]:
        """Return a page, newest first."""
        conditions: list[Document] = [{"state": ACTIVE}]
        if query.platform:
            conditions.append({"data.spec.platform": query.platform})
        if query.audience_id:
            conditions.append({"data.spec.audience_ids": query.audience_id})
        return newest_page(self._collection, self._scope, org, conditions, size, after, deadline).map(read_sync)

    def save(self, org: str, sync: Sync, deadline: Deadline) -> Sync:
        """Compare-and-set on the version. A scan that runs does not conflict."""
        saved = dataclasses.replace(sync, version=sync.version + 1, updated_at=now())
        changes = {
            "name": saved.spec.name,
            "version": saved.version,
            "modifydate": saved.updated_at,
            "data.spec": spec_fields(saved.spec),
        }
        self._update_version(org, sync, {"$set": changes}, deadline)
        return saved

    def remove(self, org: str, sync: Sync, deadline: Deadline) -> None:
        """Mark the sync as deleted. The cleanup deletes its rows, and then the record."""
        mark = {"$set": {"state": DELETED, "modifydate": now()}, "$unset": {"data.unique": ""}}
        self._update_version(org, sync, mark, deadline)

    def acquire(self, org: str, sync_id: str, lease: Lease, deadline: Deadline) -> bool:
        """Compare-and-set on the time of expiry."""
        free: list[Document] = [{"lease_until": None}, {"lease_until": {"$lt": now()}}]
        changes = {"$set": {"lease": {"owner": lease.owner}, "lease_until": lease.expires_at}}
        match = self._scope.match(org, {"_id": sync_sk(org, sync_id), "state": ACTIVE, "$or": free})
        with with_deadline(self._database, deadline):
            if self._collection.update_one(match, changes).matched_count:
                return True
        self._record(org, sync_id, deadline)
        return False

    def renew(self, org: str, sync_id: str, lease: Lease, deadline: Deadline) -> None:
        """Compare-and-set on the owner."""
        self._update_owned(org, sync_id, lease, {"$set": {"lease_until": lease.expires_at}}, deadline)

    def release(self, org: str, sync_id: str, lease: Lease, deadline: Deadline) -> None:
        """Compare-and-set on the owner."""
        with with_deadline(self._database, deadline):
            self._collection.update_one(
                self._scope.match(org, _owned(org, sync_id, lease)), {"$unset": {"lease": "", "lease_until": ""}}
            )

    def start_scan(
        self, org: str, sync_id: str, lease: Lease, row_format: RowFormat, deadline: Deadline
    ) -> tuple[int, int]:
        """Increment the counter, and append the format."""
        record = self._update_owned(org, sync_id, lease, {"$inc": {"scan_count": 1}}, deadline)
        formats, stored = record["data"]["formats"], format_fields(row_format)
        if stored in formats:
            return int(record["scan_count"]), formats.index(stored)
        self._update_owned(org, sync_id, lease, {"$push": {"data.formats": stored}}, deadline)
        return int(record["scan_count"]), len(formats)

    def finish_scan(self, org: str, sync_id: str, lease: Lease, scan: Scan, deadline: Deadline) -> None:
        """Compare-and-set on the owner."""
        changes = {"$set": {"data.latest_scan": dataclasses.asdict(scan)}}
        self._update_owned(org, sync_id, lease, changes, deadline)

    def _update_owned(self, org: str, sync_id: str, lease: Lease, changes: Document, deadline: Deadline) -> Record:
        """Update the record if the lease is still the caller's, and return it. Raises LeaseLost."""
        match = self._scope.match(org, _owned(org, sync_id, lease))
        with with_deadline(self._database, deadline):
            record = self._collection.find_one_and_update(match, changes, return_document=ReturnDocument.AFTER)
        if record is None:
            raise LeaseLost
        return record

    def _update_version(self, org: str, sync: Sync, changes: Document, deadline: Deadline) -> None:
        match = self._scope.match(org, {"_id": sync_sk(org, sync.id), "state": ACTIVE, "version": sync.version})
        with with_deadline(self._database, deadline):
            if self._collection.update_one(match, changes).matched_count:
                return
        current = self._record(org, sync.id, deadline)["version"]
        raise StaleVersion(
            f"the sync is at version {current}, not {sync.version}", metadata={"current_version": str(current)}
        )

    def _record(self, org: str, sync_id: str, deadline: Deadline) -> Record:
        record = self._find(org, {"_id": sync_sk(org, sync_id), "pk": sync_id}, deadline)
        if record is None:
            raise SyncNotFound.of(sync_id)
        return record

    def _find(self, org: str, condition: Document, deadline: Deadline) -> Record | None:
        match = self._scope.match(org, condition, {"state": ACTIVE})
        return retry_read(self._database, deadline, lambda: self._collection.find_one(match))


def _owned(org: str, sync_id: str, lease: Lease) -> Document:
    return {"_id": sync_sk(org, sync_id), "state": ACTIVE, "lease.owner": lease.owner}
