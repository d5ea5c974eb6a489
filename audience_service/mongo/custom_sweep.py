"""What is left of custom audiences: lists that were given up or have been followed by others, and what was deleted.

Any process may sweep, for all orgs, several at once as well: each step is compare-and-set, or can be done twice.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from pymongo.database import Database

from audience_service.domain.caller import Deadline
from audience_service.domain.creation import CreationState
from audience_service.domain.filters.filter import Document
from audience_service.mongo.collections import CUSTOM
from audience_service.mongo.custom_documents import DELETED, INTERRUPTED, ended_work, leftover
from audience_service.mongo.documents import Record
from audience_service.mongo.failures import limited
from audience_service.mongo.scope import org_of
from audience_service.mongo.snapshot_rows import OUTLIVE, MongoFrozen

_SECONDS = 30.0
_DROP_SECONDS = 600.0
_AT_ONCE = 100

DropBelongings = Callable[[str, str, Deadline], None]
"""Deletes what else there is of an audience that was deleted, by org and id: uploads, models. May be called again."""


class CustomSweeper:
    """Sweeps one database."""

    def __init__(
        self, database: Database[dict[str, Any]], rows: MongoFrozen, belongings: Sequence[DropBelongings] = ()
    ) -> None:
        self._database = database
        self._collection = database[CUSTOM]
        self._rows = rows
        self._belongings = belongings

    def sweep(self, moment: datetime) -> None:
        """Mark work as FAILED whose lease has expired, delete rows that are no list, and then what was deleted.

        Raises StoreUnavailable, OutOfTime; the next time goes on.
        """
        with limited(self._database, Deadline.after(_SECONDS)):
            expired = {"work.state": CreationState.CREATING.value, "lease_until": {"$lt": moment}}
            self._collection.update_many({**expired, "state": {"$ne": DELETED}}, ended_work(INTERRUPTED, moment))
        self._leave_lists(moment)
        self._drop_leftovers(moment)
        # Rows that were reserved for long may keep the record; what was uploaded, people's data, does not wait.
        for record in self._found({"state": DELETED, "data.rows": "", "modifydate": {"$lte": moment - OUTLIVE}}):
            self._drop_belongings(record)
        for record in self._found({"state": DELETED, "leftovers": [], "data.rows": ""}):
            self._drop_belongings(record)
            with limited(self._database, Deadline.after(_SECONDS)):
                self._collection.delete_one({"_id": record["_id"], "state": DELETED})

    def _drop_belongings(self, record: Record) -> None:
        for drop in self._belongings:
            drop(org_of(record["sk"]), record["pk"], Deadline.after(_DROP_SECONDS))

    def _leave_lists(self, moment: datetime) -> None:
        """Note the lists of audiences that the platform has marked as deleted."""
        for record in self._found({"state": DELETED, "data.rows": {"$ne": ""}}):
            left = [*record["leftovers"], leftover(record["data"]["rows"], moment + OUTLIVE)]
            self._update(record, {"$set": {"data.rows": "", "leftovers": left}})

    def _drop_leftovers(self, moment: datetime) -> None:
        for record in self._found({"leftovers.after": {"$lte": moment}}):
            # First nothing may make them a list any more, nor move their time.
            left = [{**each, "swept": each["after"] <= moment} for each in record["leftovers"]]
            due = [each["rows"] for each in left if each["swept"]]
            if self._update(record, {"$set": {"leftovers": left}}):
                for rows_id in due:
                    self._rows.drop(org_of(record["sk"]), rows_id, Deadline.after(_DROP_SECONDS))
                with limited(self._database, Deadline.after(_SECONDS)):
                    gone = {"$pull": {"leftovers": {"rows": {"$in": due}}}}
                    self._collection.update_one({"_id": record["_id"]}, gone)

    def _found(self, condition: Document) -> Iterator[Record]:
        """All such records, some at a time: those that stay keep none behind them from being seen."""
        after: Document = {}
        while True:
            with limited(self._database, Deadline.after(_SECONDS)):
                records = list(self._collection.find({**condition, **after}, sort=[("_id", 1)], limit=_AT_ONCE))
            yield from records
            if len(records) < _AT_ONCE:
                return
            after = {"_id": {"$gt": records[-1]["_id"]}}

    def _update(self, record: Record, change: Document) -> bool:
        """Change a record if it is the same still; the next sweep is for those that are not."""
        same = {name: record[name] for name in ("_id", "version", "state", "leftovers")}
        with limited(self._database, Deadline.after(_SECONDS)):
            return self._collection.update_one(same, change).matched_count > 0
