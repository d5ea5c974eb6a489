"""Repeats the removal of erased people, for all orgs, until no writer from before the erasure can still run.

    sweep_until   set by the erasure; unset after a removal that began later than it
    lease_until   a process removes the person, or nobody needs to, until then

Any process may run it, also concurrently. A lease for each tombstone saves repeated work; the removal is idempotent.
The last removal happens however late: after an erasure that failed half way, or a day on which no process ran.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.database import Database

from audience_service.domain.core import clock
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import AudienceError
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
_RESTORE_DURATION = timedelta(hours=1)
"""How long removals are repeated after a restore."""
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


class ErasureSweeper:
    """Repeats the removals of one database."""

    def __init__(self, database: Database[dict[str, Any]], erasures: MongoErasures, sealer: PersonSealer) -> None:
        self._database = database
        self._collection = database[ERASURES]
        self._erasures = erasures
        self._sealer = sealer

    def sweep(self, now: datetime) -> None:
        """Repeat each removal that is due. One that fails stops no other; the first failure is raised at the end.

        Raises StoreUnavailable, OutOfTime; the next run continues.
        """
        failures: list[AudienceError] = []
        due = {"sweep_until": {"$gt": _ALWAYS}, "lease_until": {"$lte": now}}
        while True:
            began_at = clock.now()  # earlier removals of this run may have taken minutes
            with with_deadline(self._database, Deadline.after(_COMMAND_TIMEOUT_SECONDS)):
                found = self._collection.find_one_and_update(due, {"$set": {"lease_until": began_at + _LEASE}})
            if found is None:
                break
            try:
                person = self._sealer.unseal(bytes(found["sealed"]))
                deadline = Deadline.after(_REMOVAL_TIMEOUT_SECONDS)
                self._erasures.remove(org_of(found["sk"]), person, found["erased_at"], deadline)
                self._finish(found, began_at)
            except AudienceError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _finish(self, tombstone: dict[str, Any], began_at: datetime) -> None:
        """Set when the next removal is due, or that none is."""
        interval = min(max((began_at - tombstone["erased_at"]) / 3, _MIN_INTERVAL), _MAX_INTERVAL)
        changes: dict[str, Any] = {"$set": {"lease_until": clock.now() + interval}}
        if began_at >= tombstone["sweep_until"]:
            changes["$unset"] = {"sweep_until": ""}
        # Unless the person was erased once more meanwhile.
        same = {"_id": tombstone["_id"], "sweep_until": tombstone["sweep_until"]}
        with with_deadline(self._database, Deadline.after(_COMMAND_TIMEOUT_SECONDS)):
            self._collection.update_one(same, changes)


def repeat_removals(database: Database[dict[str, Any]]) -> int:
    """Let the sweeps of all processes remove every erased person again, and return the number of tombstones.

    A database that was restored from a backup contains people who were erased after it. Raises StoreUnavailable,
    OutOfTime.
    """
    now = clock.now()
    changes = {
        "$max": {"sweep_until": now + _RESTORE_DURATION},
        "$set": {"lease_until": now},
        "$currentDate": {"changed_at": True},  # running processes read the tombstones again
    }
    with with_deadline(database, Deadline.after(_REMOVAL_TIMEOUT_SECONDS)):
        return database[ERASURES].update_many({}, changes).matched_count
