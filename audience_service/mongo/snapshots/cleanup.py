"""Cleans up failed and deleted snapshots, for all orgs.

Any process may run it, also concurrently: every step is compare-and-set or idempotent. The database itself deletes
expired snapshots, by the indexes on `expire_at`.
"""

from datetime import datetime
from typing import Any

from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.idempotency import CreationState
from audience_service.mongo.core.collections import SNAPSHOTS
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import org_of
from audience_service.mongo.snapshots.documents import DELETED
from audience_service.mongo.snapshots.repository import failure_update
from audience_service.mongo.snapshots.rows import MongoSnapshotRows

_COMMAND_TIMEOUT_SECONDS = 30.0
_DELETE_TIMEOUT_SECONDS = 600.0
_BATCH_SIZE = 100


class SnapshotSweeper:
    """Cleans up the snapshots of one database."""

    def __init__(self, database: Database[dict[str, Any]], snapshot_rows: MongoSnapshotRows) -> None:
        self._database = database
        self._collection = database[SNAPSHOTS]
        self._snapshot_rows = snapshot_rows

    def sweep(self, now: datetime, capacity_free_at: datetime) -> None:
        """Fail attempts whose lease has expired, delete orphaned rows, and then deleted manifests without rows.

        All commands that run now have ended by `capacity_free_at`. Rows of failed attempts are deleted after that time.

        Raises StoreUnavailable, OutOfTime. The next run continues.
        """
        self._fail_expired(now, capacity_free_at)
        self._delete_orphans(now)
        with with_deadline(self._database, Deadline.after(_COMMAND_TIMEOUT_SECONDS)):
            self._collection.delete_many({"state": DELETED, "orphaned_lists": []})

    def _fail_expired(self, now: datetime, capacity_free_at: datetime) -> None:
        expired = {"state": CreationState.CREATING.value, "lease_until": {"$lt": now}}
        with with_deadline(self._database, Deadline.after(_COMMAND_TIMEOUT_SECONDS)):
            for record in list(self._collection.find(expired, {"pk": 1, "version": 1}, limit=_BATCH_SIZE)):
                list_version_id = f"{record['pk']}.{record['version']}"
                expected = {**expired, "_id": record["_id"], "version": record["version"]}
                self._collection.update_one(
                    expected, failure_update("the process that created it ended", list_version_id, capacity_free_at)
                )

    def _delete_orphans(self, now: datetime) -> None:
        due = {"orphaned_lists.delete_after": {"$lte": now}}
        with with_deadline(self._database, Deadline.after(_COMMAND_TIMEOUT_SECONDS)):
            records = list(self._collection.find(due, {"sk": 1, "orphaned_lists": 1}, limit=_BATCH_SIZE))
        for record in records:
            org = org_of(record["sk"])
            for orphan in record["orphaned_lists"]:
                if orphan["delete_after"] <= now:
                    self._snapshot_rows.delete(org, orphan["list_version_id"], Deadline.after(_DELETE_TIMEOUT_SECONDS))
                    with with_deadline(self._database, Deadline.after(_COMMAND_TIMEOUT_SECONDS)):
                        removal = {"$pull": {"orphaned_lists": {"list_version_id": orphan["list_version_id"]}}}
                        self._collection.update_one({"_id": record["_id"]}, removal)
