"""Repeats the removal of erased people, for all orgs, until no writer from before the erasure can still run.

Any process may run it, also concurrently. A lease for each tombstone saves repeated work; the removal is idempotent.
"""

from datetime import datetime, timedelta
from typing import Any

from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.erasure.sealing import PersonSealer
from audience_service.mongo.core.collections import ERASURES
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import org_of
from audience_service.mongo.erasure.repository import MongoErasures

_COMMAND_TIMEOUT_SECONDS = 30.0
_REMOVAL_TIMEOUT_SECONDS = 600.0
_LEASE = timedelta(seconds=_REMOVAL_TIMEOUT_SECONDS)
_MIN_INTERVAL, _MAX_INTERVAL = timedelta(seconds=30), timedelta(minutes=5)
"""The time between two removals of a person. It grows with the time since the erasure, as late writers become rare."""


class ErasureSweeper:
    """Repeats the removals of one database."""

    def __init__(self, database: Database[dict[str, Any]], erasures: MongoErasures, sealer: PersonSealer) -> None:
        self._database = database
        self._collection = database[ERASURES]
        self._erasures = erasures
        self._sealer = sealer

    def sweep(self, now: datetime) -> None:
        """Repeat each removal that is due. Raises StoreUnavailable, OutOfTime; the next run continues."""
        due = {"sweep_until": {"$gt": now}, "lease_until": {"$lte": now}}
        while True:
            with with_deadline(self._database, Deadline.after(_COMMAND_TIMEOUT_SECONDS)):
                found = self._collection.find_one_and_update(due, {"$set": {"lease_until": now + _LEASE}})
            if found is None:
                return
            person = self._sealer.unseal(bytes(found["sealed"]))
            deadline = Deadline.after(_REMOVAL_TIMEOUT_SECONDS)
            self._erasures.remove(org_of(found["sk"]), person, found["erased_at"], deadline)
            interval = min(max((now - found["erased_at"]) / 3, _MIN_INTERVAL), _MAX_INTERVAL)
            with with_deadline(self._database, Deadline.after(_COMMAND_TIMEOUT_SECONDS)):
                self._collection.update_one({"_id": found["_id"]}, {"$set": {"lease_until": now + interval}})
