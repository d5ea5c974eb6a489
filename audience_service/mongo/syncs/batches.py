"""The batches of syncs."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pymongo import ReturnDocument
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.filters.filter import Document
from audience_service.domain.syncs.model import Batch, BatchState, Receipt
from audience_service.mongo.core.collections import SYNC_BATCHES
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.syncs.documents import batch_sk, new_batch, read_batch

_OPEN = BatchState.OPEN.value


class MongoSyncBatches:
    """The SyncBatchRepository on MongoDB; domain/syncs/repository.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope
        self._collection = database[SYNC_BATCHES]

    def reserve(self, org: str, sync_id: str, batch: Batch, deadline: Deadline) -> Batch:
        """Insert under the next number. Try again if another caller has taken it."""
        while True:
            with with_deadline(self._database, deadline):
                last = self._collection.find_one(_of_sync(self._scope, org, sync_id), {"number": 1}, sort=[("_id", -1)])
                reserved = dataclasses.replace(batch, number=int(last["number"]) + 1 if last else 1)
                try:
                    self._collection.insert_one(new_batch(org, sync_id, reserved, now()))
                except DuplicateKeyError:
                    continue
            return reserved

    def open(self, org: str, sync_id: str, batch: Batch, row_count: int, deadline: Deadline) -> None:
        """Compare-and-set on the state."""
        match = _one(self._scope, org, sync_id, batch.number, BatchState.BUILDING)
        with with_deadline(self._database, deadline):
            if row_count:
                changes = {"state": _OPEN, "row_count": row_count, "lease_until": batch.lease_until}
                self._collection.update_one(match, {"$set": changes})
            else:
                self._collection.delete_one(match)

    def claim(
        self, org: str, sync_id: str, worker_id: str, after: int, lease_until: datetime, deadline: Deadline
    ) -> Batch | None:
        """Compare-and-set on the lease."""
        available: Document = {"$or": [{"worker": worker_id}, {"lease_until": {"$lt": now()}}]}
        match = _of_sync(self._scope, org, sync_id, {"state": _OPEN, "number": {"$gt": after}}, available)
        changes = {"$set": {"worker": worker_id, "lease_until": lease_until}}
        with with_deadline(self._database, deadline):
            found = self._collection.find_one_and_update(
                match, changes, sort=[("_id", 1)], return_document=ReturnDocument.AFTER
            )
        return read_batch(found) if found else None

    def get(self, org: str, sync_id: str, number: int, deadline: Deadline) -> Batch | None:
        """Find by key."""
        with with_deadline(self._database, deadline):
            found = self._collection.find_one(_one(self._scope, org, sync_id, number))
        return read_batch(found) if found else None

    def list(self, org: str, sync_id: str, states: Sequence[BatchState], deadline: Deadline) -> Sequence[Batch]:
        """Find by the range of keys, without the digests of rejected rows unless they are still needed."""
        match = _of_sync(self._scope, org, sync_id, {"state": {"$in": [state.value for state in states]}})
        with with_deadline(self._database, deadline):
            return [read_batch(found) for found in self._collection.find(match, sort=[("_id", 1)])]

    def start_acknowledgement(
        self, org: str, sync_id: str, number: int, receipt: Receipt, rejected: Sequence[str], deadline: Deadline
    ) -> None:
        """Compare-and-set on the state, so that the first receipt counts."""
        changes = {
            "state": BatchState.APPLYING.value,
            "receipt": dataclasses.asdict(receipt),
            "rejected": list(rejected),
        }
        with with_deadline(self._database, deadline):
            self._collection.update_one(_one(self._scope, org, sync_id, number, BatchState.OPEN), {"$set": changes})

    def finish_acknowledgement(
        self, org: str, sync_id: str, number: int, expire_at: datetime, deadline: Deadline
    ) -> None:
        """Compare-and-set on the state."""
        changes = {
            "$set": {"state": BatchState.ACKNOWLEDGED.value, "expire_at": expire_at},
            "$unset": {"rejected": ""},
        }
        with with_deadline(self._database, deadline):
            self._collection.update_one(_one(self._scope, org, sync_id, number, BatchState.APPLYING), changes)

    def acknowledged(self, org: str, sync_id: str, limit: int, deadline: Deadline) -> Sequence[Batch]:
        """Find by the range of keys, backwards."""
        states = [BatchState.APPLYING.value, BatchState.ACKNOWLEDGED.value]
        match = _of_sync(self._scope, org, sync_id, {"state": {"$in": states}})
        with with_deadline(self._database, deadline):
            found = self._collection.find(match, {"rejected": 0}, sort=[("_id", -1)], limit=limit)
            return [read_batch(record) for record in found]

    def discard(self, org: str, sync_id: str, expire_at: datetime, deadline: Deadline) -> None:
        """Update by the range of keys."""
        match = _of_sync(self._scope, org, sync_id, {"state": {"$ne": BatchState.ACKNOWLEDGED.value}})
        changes = {"$set": {"state": BatchState.DISCARDED.value, "expire_at": expire_at}, "$unset": {"rejected": ""}}
        with with_deadline(self._database, deadline):
            self._collection.update_many(match, changes)


def _of_sync(scope: TenantScope, org: str, sync_id: str, *conditions: Document) -> Document:
    """Return the match of a sync's batches. "0" is the character after "/"."""
    prefix = f"{org}/{SYNC_BATCHES}/{sync_id}"
    return scope.match(org, {"_id": {"$gte": f"{prefix}/", "$lt": f"{prefix}0"}}, *conditions)


def _one(scope: TenantScope, org: str, sync_id: str, number: int, state: BatchState | None = None) -> Document:
    return scope.match(org, {"_id": batch_sk(org, sync_id, number)}, {"state": state.value} if state else {})
