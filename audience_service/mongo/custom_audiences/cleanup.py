"""Cleans up custom audiences, for all orgs: expired work, orphaned lists, and deleted audiences.

Any process may run it, also concurrently: every step is compare-and-set or idempotent.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.idempotency import CreationState
from audience_service.domain.filters.filter import Document
from audience_service.mongo.core.collections import CUSTOM_AUDIENCES
from audience_service.mongo.core.documents import Record
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import org_of
from audience_service.mongo.custom_audiences.documents import DELETED, INTERRUPTED, ended_work, orphaned_list
from audience_service.mongo.snapshots.rows import RETENTION_GRACE, MongoSnapshotRows

_COMMAND_TIMEOUT_SECONDS = 30.0
_DELETE_TIMEOUT_SECONDS = 600.0
BATCH_SIZE = 100

DeleteChildren = Callable[[str, str, Deadline], None]
"""Deletes the children of a deleted audience, such as uploads, by org and id. It must be idempotent."""


class CustomAudienceSweeper:
    """Cleans up the custom audiences of one database."""

    def __init__(
        self,
        database: Database[dict[str, Any]],
        snapshot_rows: MongoSnapshotRows,
        child_deleters: Sequence[DeleteChildren] = (),
    ) -> None:
        self._database = database
        self._collection = database[CUSTOM_AUDIENCES]
        self._snapshot_rows = snapshot_rows
        self._child_deleters = child_deleters

    def sweep(self, now: datetime) -> None:
        """Fail work whose lease has expired, delete orphaned lists, and then deleted audiences.

        Raises StoreUnavailable, OutOfTime. The next run continues.
        """
        with with_deadline(self._database, Deadline.after(_COMMAND_TIMEOUT_SECONDS)):
            expired = {"work.state": CreationState.CREATING.value, "lease_until": {"$lt": now}}
            self._collection.update_many({**expired, "state": {"$ne": DELETED}}, ended_work(INTERRUPTED, now))
        self._orphan_deleted_lists(now)
        self._delete_orphans(now)
        # A long reservation may delay the record's deletion, but not that of uploads, which are personal data.
        for record in self._find_records(
            {"state": DELETED, "data.list_version_id": "", "modifydate": {"$lte": now - RETENTION_GRACE}}
        ):
            self._delete_children(record)
        for record in self._find_records({"state": DELETED, "orphaned_lists": [], "data.list_version_id": ""}):
            self._delete_children(record)
            with with_deadline(self._database, Deadline.after(_COMMAND_TIMEOUT_SECONDS)):
                self._collection.delete_one({"_id": record["_id"], "state": DELETED})

    def _delete_children(self, record: Record) -> None:
        for delete in self._child_deleters:
            delete(org_of(record["sk"]), record["pk"], Deadline.after(_DELETE_TIMEOUT_SECONDS))

    def _orphan_deleted_lists(self, now: datetime) -> None:
        """Register as orphans the lists of audiences that the platform marked as deleted."""
        for record in self._find_records({"state": DELETED, "data.list_version_id": {"$ne": ""}}):
            orphans = [
                *record["orphaned_lists"],
                orphaned_list(record["data"]["list_version_id"], now + RETENTION_GRACE),
            ]
            self._update(record, {"$set": {"data.list_version_id": "", "orphaned_lists": orphans}})

    def _delete_orphans(self, now: datetime) -> None:
        for record in self._find_records({"orphaned_lists.delete_after": {"$lte": now}}):
            # First mark them, so that they can neither be published nor postponed.
            orphans = [{**each, "is_deleting": each["delete_after"] <= now} for each in record["orphaned_lists"]]
            due = [each["list_version_id"] for each in orphans if each["is_deleting"]]
            if self._update(record, {"$set": {"orphaned_lists": orphans}}):
                for list_version_id in due:
                    self._snapshot_rows.delete(
                        org_of(record["sk"]), list_version_id, Deadline.after(_DELETE_TIMEOUT_SECONDS)
                    )
                with with_deadline(self._database, Deadline.after(_COMMAND_TIMEOUT_SECONDS)):
                    removal = {"$pull": {"orphaned_lists": {"list_version_id": {"$in": due}}}}
                    self._collection.update_one({"_id": record["_id"]}, removal)

    def _find_records(self, condition: Document) -> Iterator[Record]:
        """Yield all records that meet the condition, in batches by _id, so that remaining ones do not block others."""
        after_key: Document = {}
        while True:
            with with_deadline(self._database, Deadline.after(_COMMAND_TIMEOUT_SECONDS)):
                records = list(self._collection.find({**condition, **after_key}, sort=[("_id", 1)], limit=BATCH_SIZE))
            yield from records
            if len(records) < BATCH_SIZE:
                return
            after_key = {"_id": {"$gt": records[-1]["_id"]}}

    def _update(self, record: Record, change: Document) -> bool:
        """Update a record unless it has changed. The next run handles the changed ones."""
        expected = {name: record[name] for name in ("_id", "version", "state", "orphaned_lists")}
        with with_deadline(self._database, Deadline.after(_COMMAND_TIMEOUT_SECONDS)):
            return self._collection.update_one(expected, change).matched_count > 0
