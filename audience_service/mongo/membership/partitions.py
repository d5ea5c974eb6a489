"""Agreed cuts of populations: the PartitionRepository on MongoDB; the protocol states what each method promises."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.filters.filter import Document
from audience_service.mongo.core.collections import PARTITIONS
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import tenant_match

_VALID_FOR = timedelta(hours=1)
"""How long after their last use keys hold: then populations have grown, and cut anew they are in balance again."""
_RETENTION = timedelta(days=1)


class MongoPartitions:
    """Keeps one record for each way of cutting; whoever writes it first is right."""

    def __init__(self, database: Database[dict[str, Any]], clock: Callable[[], datetime] = now) -> None:
        self._database = database
        self._collection = database[PARTITIONS]
        self._clock = clock

    def find(self, org: str, name: str, deadline: Deadline) -> Sequence[str] | None:
        """Those used lately."""
        timestamp = self._clock()
        return self._mark_used(org, name, timestamp, deadline, {"used_at": {"$gt": timestamp - _VALID_FOR}})

    def get_or_create(self, org: str, name: str, keys: Sequence[str], deadline: Deadline) -> Sequence[str]:
        """Write over what is held no more; where something is, the insert that is tried instead meets it."""
        timestamp, key = self._clock(), _key(org, name)
        # The embedded store takes the id of what it inserts from the top level alone.
        stale = {"_id": key, **tenant_match(org, {"used_at": {"$lte": timestamp - _VALID_FOR}})}
        update = {"$set": {**_use_fields(timestamp), "keys": list(keys)}, "$setOnInsert": {"sk": key}}
        try:
            with with_deadline(self._database, deadline):
                self._collection.update_one(stale, update, upsert=True)
        except DuplicateKeyError:
            # What was held a moment ago holds, though its hour may just have ended.
            valid = self._mark_used(org, name, timestamp, deadline)
            return self.get_or_create(org, name, keys, deadline) if valid is None else valid
        return keys

    def _mark_used(
        self, org: str, name: str, timestamp: datetime, deadline: Deadline, *conditions: Document
    ) -> Sequence[str] | None:
        """The keys under a name, read and marked as used in one command; a clock that is behind sets no mark back."""
        match = tenant_match(org, {"_id": _key(org, name)}, *conditions)
        with with_deadline(self._database, deadline):
            found = self._collection.find_one_and_update(match, {"$max": _use_fields(timestamp)})
        return None if found is None else list(found["keys"])


def _key(org: str, name: str) -> str:
    return f"{org}/audience_partition/{name}"


def _use_fields(timestamp: datetime) -> Document:
    return {"used_at": timestamp, "expire_at": timestamp + _RETENTION}
