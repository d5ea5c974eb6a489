"""Deletes the rows, members and batches of deleted syncs, for all orgs, and then their records.

Any process may run it, also concurrently: every step is idempotent.
"""

from datetime import datetime, timedelta
from typing import Any

from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.mongo.core.collections import SYNC_BATCHES, SYNC_MEMBERS, SYNC_ROWS, SYNCS
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import complete_org_match, org_of
from audience_service.mongo.syncs.documents import DELETED

_COMMAND_TIMEOUT_SECONDS = 30.0
_DELETE_TIMEOUT_SECONDS = 600.0
_BATCH_SIZE = 100
_GRACE = timedelta(minutes=15)
"""Longer than the lease of a sync, without which a scan writes no rows."""


class SyncSweeper:
    """Cleans up the syncs of one database."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database

    def sweep(self, now: datetime) -> None:
        """Delete what belongs to deleted syncs, once no scan of them can be running.

        Raises StoreUnavailable, OutOfTime. The next run continues.
        """
        due = {"state": DELETED, "modifydate": {"$lt": now - _GRACE}}
        with with_deadline(self._database, Deadline.after(_COMMAND_TIMEOUT_SECONDS)):
            deleted = list(self._database[SYNCS].find(due, {"pk": 1, "sk": 1}, limit=_BATCH_SIZE))
        for record in deleted:
            org = org_of(record["sk"])
            for collection in (SYNC_MEMBERS, SYNC_ROWS, SYNC_BATCHES):
                prefix = f"{org}/{collection}/{record['pk']}"
                keys = {"_id": {"$gte": f"{prefix}/", "$lt": f"{prefix}0"}}
                with with_deadline(self._database, Deadline.after(_DELETE_TIMEOUT_SECONDS)):
                    self._database[collection].delete_many(complete_org_match(org, keys))
            with with_deadline(self._database, Deadline.after(_COMMAND_TIMEOUT_SECONDS)):
                self._database[SYNCS].delete_one(complete_org_match(org, {"_id": record["_id"], "state": DELETED}))
