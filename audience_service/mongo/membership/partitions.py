"""Stored partitions of populations, which parallel readers share."""

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
from audience_service.mongo.core.scope import TenantScope

_VALID_FOR = timedelta(hours=1)
"""How long keys stay valid after their last use. Populations grow, and new keys balance the partitions again."""
_RETENTION = timedelta(days=1)


class MongoPartitions:
    """The PartitionRepository on MongoDB, one record per name. The first writer decides the keys."""

    def __init__(
        self, database: Database[dict[str, Any]], scope: TenantScope, clock: Callable[[], datetime] = now
    ) -> None:
        self._database = database
        self._scope = scope
        self._collection = database[PARTITIONS]
        self._clock = clock

    def find(self, org: str, name: str, deadline: Deadline) -> Sequence[str] | None:
        """Return the keys that were used within the last hour."""
        timestamp = self._clock()
        return self._mark_used(org, name, timestamp, deadline, {"used_at": {"$gt": timestamp - _VALID_FOR}})

    def get_or_create(self, org: str, name: str, keys: Sequence[str], deadline: Deadline) -> Sequence[str]:
        """Replace expired keys in one upsert. Its insert conflicts with valid ones, which are then returned."""
        timestamp, key = self._clock(), _key(org, name)
        # The embedded store reads the id of an upserted document only from the top level of the match.
        stale = {"_id": key, **self._scope.match(org, {"used_at": {"$lte": timestamp - _VALID_FOR}})}
        update = {"$set": {**_use_fields(timestamp), "keys": list(keys)}, "$setOnInsert": {"sk": key}}
        try:
            with with_deadline(self._database, deadline):
                self._collection.update_one(stale, update, upsert=True)
        except DuplicateKeyError:
            # The keys were valid at the conflict, even if they have expired since.
            valid = self._mark_used(org, name, timestamp, deadline)
            return self.get_or_create(org, name, keys, deadline) if valid is None else valid
        return keys

    def _mark_used(
        self, org: str, name: str, timestamp: datetime, deadline: Deadline, *conditions: Document
    ) -> Sequence[str] | None:
        """Return the keys of a name, and mark them as used, in one command. A slow clock never reduces the time."""
        match = self._scope.match(org, {"_id": _key(org, name)}, *conditions)
        with with_deadline(self._database, deadline):
            found = self._collection.find_one_and_update(match, {"$max": _use_fields(timestamp)})
        return None if found is None else list(found["keys"])


def _key(org: str, name: str) -> str:
    return f"{org}/audience_partition/{name}"


def _use_fields(timestamp: datetime) -> Document:
    return {"used_at": timestamp, "expire_at": timestamp + _RETENTION}
