"""Agreed cuts of populations: the PartitionRepository on MongoDB; domain/ports.py states what each method promises."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.caller import Deadline
from audience_service.domain.clock import now
from audience_service.domain.filters.filter import Document
from audience_service.mongo.collections import PARTITIONS
from audience_service.mongo.failures import limited
from audience_service.mongo.scope import scoped

_HELD = timedelta(hours=1)
"""How long after their last use keys hold: then populations have grown, and cut anew they are in balance again."""
_KEPT = timedelta(days=1)


class MongoPartitions:
    """Keeps one record for each way of cutting; whoever writes it first is right."""

    def __init__(self, database: Database[dict[str, Any]], clock: Callable[[], datetime] = now) -> None:
        self._database = database
        self._collection = database[PARTITIONS]
        self._clock = clock

    def find(self, org: str, name: str, deadline: Deadline) -> Sequence[str] | None:
        """Those used lately."""
        moment = self._clock()
        return self._use(org, name, moment, deadline, {"used_at": {"$gt": moment - _HELD}})

    def agree(self, org: str, name: str, keys: Sequence[str], deadline: Deadline) -> Sequence[str]:
        """Write over what is held no more; where something is, the insert that is tried instead meets it."""
        moment, key = self._clock(), _key(org, name)
        # The embedded store takes the id of what it inserts from the top level alone.
        stale = {"_id": key, **scoped(org, {"used_at": {"$lte": moment - _HELD}})}
        written = {"$set": {**_used(moment), "keys": list(keys)}, "$setOnInsert": {"sk": key}}
        try:
            with limited(self._database, deadline):
                self._collection.update_one(stale, written, upsert=True)
        except DuplicateKeyError:
            # What was held a moment ago holds, though its hour may just have ended.
            held = self._use(org, name, moment, deadline)
            return self.agree(org, name, keys, deadline) if held is None else held
        return keys

    def _use(
        self, org: str, name: str, moment: datetime, deadline: Deadline, *conditions: Document
    ) -> Sequence[str] | None:
        """The keys under a name, read and marked as used in one command; a clock that is behind sets no mark back."""
        match = scoped(org, {"_id": _key(org, name)}, *conditions)
        with limited(self._database, deadline):
            found = self._collection.find_one_and_update(match, {"$max": _used(moment)})
        return None if found is None else list(found["keys"])


def _key(org: str, name: str) -> str:
    return f"{org}/audience_partition/{name}"


def _used(moment: datetime) -> Document:
    return {"used_at": moment, "expire_at": moment + _KEPT}
