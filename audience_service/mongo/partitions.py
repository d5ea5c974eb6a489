"""Agreed cuts of populations: the PartitionRepository on MongoDB; domain/ports.py states what each method promises."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from pymongo import ReturnDocument
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
        """Read and mark as used in one command."""
        moment = self._clock()
        held = scoped(org, {"_id": _key(org, name), "used_at": {"$gt": moment - _HELD}})
        with limited(self._database, deadline):
            found = self._collection.find_one_and_update(held, {"$set": _used(moment)})
        return None if found is None else list(found["keys"])

    def agree(self, org: str, name: str, keys: Sequence[str], deadline: Deadline) -> Sequence[str]:
        """Write over what is held no more; where something is, the insert that is tried instead meets it."""
        moment, key = self._clock(), _key(org, name)
        stale = scoped(org, {"_id": key, "used_at": {"$lte": moment - _HELD}})
        written = {"$set": {**_used(moment), "keys": list(keys)}, "$setOnInsert": {"sk": key}}
        try:
            with limited(self._database, deadline):
                made = self._collection.find_one_and_update(
                    stale, written, upsert=True, return_document=ReturnDocument.AFTER
                )
        except DuplicateKeyError:
            return self.find(org, name, deadline) or keys
        return keys if made is None else list(made["keys"])


def _key(org: str, name: str) -> str:
    return f"{org}/audience_partition/{name}"


def _used(moment: datetime) -> Document:
    return {"used_at": moment, "expire_at": moment + _KEPT}
