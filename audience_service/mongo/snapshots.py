"""The manifests of an org's snapshots."""

from datetime import datetime
from typing import Any

import bson
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.caller import Deadline
from audience_service.domain.clock import now
from audience_service.domain.errors import InvalidArgument, RequestIdReused, SnapshotNotFound
from audience_service.domain.filters.filter import Document
from audience_service.domain.ports import CreateRequest
from audience_service.domain.snapshots.ports import Lease
from audience_service.domain.snapshots.snapshot import Snapshot, SnapshotPage, SnapshotQuery, SnapshotState
from audience_service.mongo.collections import SNAPSHOTS
from audience_service.mongo.documents import Record, request_key
from audience_service.mongo.failures import limited
from audience_service.mongo.pages import newest
from audience_service.mongo.scope import scoped
from audience_service.mongo.snapshot_documents import (
    DELETED,
    new_manifest,
    read_manifest,
    remade_manifest,
    results,
    snapshot_sk,
)
from audience_service.mongo.snapshot_rows import OUTLIVE

_MOST_BYTES = 1024 * 1024
"""What a manifest may take: a filter may be as large, and an answer takes up to four times as much."""

_CREATING: Document = {"state": SnapshotState.CREATING.value}


class MongoSnapshots:
    """The SnapshotRepository on MongoDB; domain/snapshots/ports.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._collection: Collection[dict[str, Any]] = database[SNAPSHOTS]

    def insert(
        self, org: str, snapshot: Snapshot, lease: Lease, request: CreateRequest | None, deadline: Deadline
    ) -> None:
        """Store, once more where an expired one that is to be removed has the request_id still."""
        record = {**new_manifest(org, snapshot, request), **_held(lease)}
        _check_size(record)
        try:
            with limited(self._database, deadline):
                self._collection.insert_one(record)
        except DuplicateKeyError:
            if request is None:
                raise
            gone: Document = {"data.unique.request": request_key(org, request), "expire_at": {"$lte": now()}}
            with limited(self._database, deadline):
                self._collection.delete_one(scoped(org, gone))
            # Whether it was there or not: another process may have deleted it, and not inserted its own yet.
            try:
                with limited(self._database, deadline):
                    self._collection.insert_one(record)
            except DuplicateKeyError:
                raise RequestIdReused("this request_id has made a snapshot already") from None

    def find_request(self, org: str, request: CreateRequest, deadline: Deadline) -> tuple[Snapshot, str] | None:
        """The snapshot that a request has made."""
        record = self._find(org, {"data.unique.request": request_key(org, request)}, deadline)
        return (read_manifest(record), str(record["data"]["unique"]["digest"])) if record else None

    def get(self, org: str, snapshot_id: str, deadline: Deadline) -> Snapshot:
        """By key."""
        return read_manifest(self._record(org, snapshot_id, deadline))

    def page(
        self, org: str, query: SnapshotQuery, size: int, after: tuple[str, str] | None, deadline: Deadline
    ) -> SnapshotPage:
        """Newest first."""
        conditions: list[Document] = [_there()]
        if query.audience_id:
            conditions.append({"data.sources.audience": query.audience_id})
        if query.state:
            conditions.append({"state": query.state})
        page = newest(self._collection, org, conditions, size, after, deadline)
        return SnapshotPage(tuple(read_manifest(record) for record in page.records), page.last, page.total)

    def renew(self, org: str, snapshot: Snapshot, lease: Lease, deadline: Deadline) -> bool:
        """Compare-and-set on attempt and owner."""
        held = {"lease.owner": lease.owner}
        changes = {"$set": _held(lease), "$max": {"data.progress": snapshot.progress}}
        return self._set(org, snapshot, changes, deadline, held)

    def take_over(self, org: str, snapshot: Snapshot, lease: Lease, busy_until: datetime, deadline: Deadline) -> bool:
        """Replaced whole: $set would read the filters' own operators as its own."""
        record = self._record(org, snapshot.id, deadline)
        free: Document = {"$or": [{"state": SnapshotState.FAILED.value}, {**_CREATING, "lease_until": {"$lt": now()}}]}
        left = record["leftovers"]
        if record["state"] == SnapshotState.CREATING:
            left = [*left, {"rows": f"{snapshot.id}.{record['version']}", "after": busy_until}]
        changed = {**remade_manifest(record, snapshot), **_held(lease), "leftovers": left, "modifydate": now()}
        _check_size(changed)
        same = {"_id": record["_id"], "version": snapshot.attempt - 1, "state": record["state"]}
        with limited(self._database, deadline):
            return self._collection.replace_one(scoped(org, same, free), changed).matched_count > 0

    def finish(self, org: str, snapshot: Snapshot, deadline: Deadline) -> bool:
        """Compare-and-set, the last thing that is written of a snapshot; done already where its answer was lost."""
        changes = {"$set": {**results(snapshot), "modifydate": now()}, "$unset": {"lease": "", "lease_until": ""}}
        made_or_not = {"state": {"$in": [SnapshotState.CREATING.value, SnapshotState.READY.value]}}
        return self._set(org, snapshot, changes, deadline, made_or_not)

    def fail(self, org: str, snapshot: Snapshot, busy_until: datetime, deadline: Deadline) -> None:
        """Compare-and-set."""
        self._set(org, snapshot, failure_of(snapshot.failure, snapshot.rows_id, busy_until), deadline)

    def remove(self, org: str, snapshot_id: str, busy_until: datetime, deadline: Deadline) -> Snapshot:
        """Marked, so that nobody finds it any more; its rows are swept, and then the mark."""
        record = self._record(org, snapshot_id, deadline)
        snapshot = read_manifest(record)
        being_made = snapshot.state is SnapshotState.CREATING
        left = {"rows": snapshot.rows_id, "after": busy_until if being_made else now() + OUTLIVE}
        mark = {
            "$set": {"state": DELETED, "modifydate": now()},
            "$unset": {"data.unique": "", "lease": "", "lease_until": ""},
            "$push": {"leftovers": left},
        }
        same = {"_id": record["_id"], "version": snapshot.attempt, "state": snapshot.state.value}
        with limited(self._database, deadline):
            if not self._collection.update_one(scoped(org, same), mark).modified_count:
                return self.remove(org, snapshot_id, busy_until, deadline)  # it has moved on
        return snapshot

    def _set(
        self, org: str, snapshot: Snapshot, changes: Document, deadline: Deadline, held: Document | None = None
    ) -> bool:
        """Change an attempt that is being made, or for which `held` holds; answers with whether it was."""
        same = {"_id": snapshot_sk(org, snapshot.id), "version": snapshot.attempt, **_CREATING, **(held or {})}
        with limited(self._database, deadline):
            return self._collection.update_one(scoped(org, same), changes).matched_count > 0

    def _record(self, org: str, snapshot_id: str, deadline: Deadline) -> Record:
        record = self._find(org, {"_id": snapshot_sk(org, snapshot_id)}, deadline)
        if record is None:
            raise SnapshotNotFound.of(snapshot_id)
        return record

    def _find(self, org: str, condition: Document, deadline: Deadline) -> Record | None:
        with limited(self._database, deadline):
            return self._collection.find_one(scoped(org, condition, _there()))


def failure_of(why: str, rows_id: str, busy_until: datetime) -> Document:
    """The update that makes an attempt FAILED, whose rows may be written until then."""
    return {
        "$set": {"state": SnapshotState.FAILED.value, "data.failure": why, "modifydate": now()},
        "$unset": {"lease": "", "lease_until": ""},
        "$push": {"leftovers": {"rows": rows_id, "after": busy_until}},
    }


def _there() -> Document:
    return {"state": {"$ne": DELETED}, "expire_at": {"$gt": now()}}


def _held(lease: Lease) -> Document:
    return {"lease": {"owner": lease.owner}, "lease_until": lease.until}


def _check_size(record: Record) -> None:
    size = len(bson.encode(record))
    if size > _MOST_BYTES + 64 * 1024:
        raise InvalidArgument.at(
            "audience_ids",
            f"have filters that take {size:,} bytes together, more than the {_MOST_BYTES:,} of a snapshot",
        )
