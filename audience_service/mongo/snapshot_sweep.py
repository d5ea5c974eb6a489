"""What is left of snapshots that were not made, or were deleted: marked, and removed, for all orgs.

Any process may sweep, several at once as well: each step is compare-and-set, or can be done twice. What has expired is
no business of the sweeper's: the database itself deletes it, by the indexes on `expire_at`.
"""

from datetime import datetime
from typing import Any

from pymongo.database import Database

from audience_service.domain.caller import Deadline
from audience_service.domain.snapshots.snapshot import SnapshotState
from audience_service.mongo.collections import SNAPSHOTS
from audience_service.mongo.failures import limited
from audience_service.mongo.scope import org_of
from audience_service.mongo.snapshot_documents import DELETED
from audience_service.mongo.snapshot_rows import MongoFrozen
from audience_service.mongo.snapshots import failure_of

_SECONDS = 30.0
_DROP_SECONDS = 600.0
_AT_ONCE = 100


class SnapshotSweeper:
    """Sweeps one database."""

    def __init__(self, database: Database[dict[str, Any]], rows: MongoFrozen) -> None:
        self._database = database
        self._collection = database[SNAPSHOTS]
        self._rows = rows

    def sweep(self, moment: datetime, busy_until: datetime) -> None:
        """Fail the attempts whose lease has run out, delete rows that nothing refers to, and manifests without rows.

        By `busy_until` commands that run at the moment have ended, and the rows that they write can go. Raises
        StoreUnavailable, OutOfTime; the next time goes on.
        """
        self._fail_abandoned(moment, busy_until)
        self._drop_leftovers(moment)
        with limited(self._database, Deadline.after(_SECONDS)):
            self._collection.delete_many({"state": DELETED, "leftovers": []})

    def _fail_abandoned(self, moment: datetime, busy_until: datetime) -> None:
        abandoned = {"state": SnapshotState.CREATING.value, "lease_until": {"$lt": moment}}
        with limited(self._database, Deadline.after(_SECONDS)):
            for record in list(self._collection.find(abandoned, {"pk": 1, "version": 1}, limit=_AT_ONCE)):
                rows_id = f"{record['pk']}.{record['version']}"
                same = {**abandoned, "_id": record["_id"], "version": record["version"]}
                self._collection.update_one(same, failure_of("the service that made it ended", rows_id, busy_until))

    def _drop_leftovers(self, moment: datetime) -> None:
        due = {"leftovers.after": {"$lte": moment}}
        with limited(self._database, Deadline.after(_SECONDS)):
            records = list(self._collection.find(due, {"sk": 1, "leftovers": 1}, limit=_AT_ONCE))
        for record in records:
            org = org_of(record["sk"])
            for left in record["leftovers"]:
                if left["after"] <= moment:
                    self._rows.drop(org, left["rows"], Deadline.after(_DROP_SECONDS))
                    with limited(self._database, Deadline.after(_SECONDS)):
                        gone = {"$pull": {"leftovers": {"rows": left["rows"]}}}
                        self._collection.update_one({"_id": record["_id"]}, gone)
