"""The WatchRepository on MongoDB; domain/watch/repository.py documents the contract.

Every write is one command, a compare-and-set on the fields that it depends on. This module keeps its part of the
invariants I2, I6 and I7 of docs/explanation/watch-consistency.md.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pymongo import ReturnDocument
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.lease import LeaseLost
from audience_service.domain.filters.filter import Document
from audience_service.domain.history.model import Event, Failure, Watch, WatchState
from audience_service.mongo.core.collections import WATCHES
from audience_service.mongo.core.errors import retry_read, with_deadline
from audience_service.mongo.core.scope import TenantScope, org_of

_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_EPOCH: Document = {"watch_epoch": "", "seq": 0, "last_event_at": None, "watermark": None, "retained_from": None}
_UNLEASED = {"lease": "", "lease_until": _UNIX_EPOCH}


class MongoWatches:
    """Watches, one document each."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope
        self._collection = database[WATCHES]

    def touch(self, org: str, audience_id: str, until: datetime, deadline: Deadline) -> Watch | None:
        """Use $max, so the expiry never moves back."""
        return self._update(org, audience_id, {}, {"$max": {"expires_at": until}}, deadline)

    def create_provisional(self, org: str, audience_id: str, lease: str, until: datetime, deadline: Deadline) -> bool:
        """Insert the document; its unique key refuses a second watch of the audience."""
        key = _key(org, audience_id)
        new = {"_id": key, "sk": key, "audience": audience_id, "lease": lease, "lease_until": until, **_NO_EPOCH}
        new |= {"definition": "", "expires_at": until, "failure": None, "stale_epochs": []}
        try:
            with with_deadline(self._database, deadline):
                self._collection.insert_one(new)
        except DuplicateKeyError:
            return False
        return True

    def confirm(self, org: str, audience_id: str, lease: str, until: datetime, deadline: Deadline) -> Watch | None:
        """Use $max, so a concurrent touch keeps its expiry if that is later."""
        update = {"$set": _UNLEASED, "$max": {"expires_at": until}}
        return self._update(org, audience_id, {"lease": lease}, update, deadline)

    def cancel(self, org: str, audience_id: str, lease: str, deadline: Deadline) -> None:
        """Delete by key and lease."""
        with with_deadline(self._database, deadline):
            self._collection.delete_one(self._scope.match(org, {"_id": _key(org, audience_id), "lease": lease}))

    def count(self, org: str, limit: int, deadline: Deadline) -> int:
        """Count keys in the index on `_id`, up to `limit`."""
        keys = {"_id": {"$gte": _key(org, ""), "$lt": _key(org, "")[:-1] + "0"}}
        with with_deadline(self._database, deadline):
            return self._collection.count_documents(self._scope.match(org, keys), limit=limit)

    def get(self, org: str, audience_id: str, deadline: Deadline) -> Watch | None:
        """Find by key."""
        match = self._scope.match(org, {"_id": _key(org, audience_id)})
        found = retry_read(self._database, deadline, lambda: self._collection.find_one(match))
        return None if found is None else _read(found)

    def states(self, keys: Collection[tuple[str, str]], deadline: Deadline) -> Mapping[tuple[str, str], WatchState]:
        """Find by keys, each of which names its org, in one command."""
        match = {"_id": {"$in": [_key(org, audience_id) for org, audience_id in keys]}}
        fields = ("sk", "audience", "watch_epoch", "seq", "failure")
        found = retry_read(self._database, deadline, lambda: list(self._collection.find(match, fields)))
        return {
            (org_of(record["sk"]), record["audience"]): WatchState(
                record["watch_epoch"], int(record["seq"]), _read_failure(record)
            )
            for record in found
        }

    def acquire(self, lease: str, timestamp: datetime, until: datetime, deadline: Deadline) -> tuple[str, str] | None:
        """Take the watch whose lease expired first, with the index on `lease_until`."""
        with with_deadline(self._database, deadline):
            found = self._collection.find_one_and_update(
                {"lease_until": {"$lte": timestamp}},
                {"$set": {"lease": lease, "lease_until": until}},
                sort=[("lease_until", 1)],
            )
        return None if found is None else (org_of(found["sk"]), str(found["audience"]))

    def renew_all(self, leases: Collection[tuple[str, str, str]], until: datetime, deadline: Deadline) -> None:
        """Update by key in one command. A lease belongs to one watch, so keys and leases need no pairing."""
        match = {
            "_id": {"$in": [_key(org, audience_id) for org, audience_id, _ in leases]},
            "lease": {"$in": [lease for *_, lease in leases]},
        }
        with with_deadline(self._database, deadline):
            self._collection.update_many(match, {"$set": {"lease_until": until}})

    def renew(self, org: str, audience_id: str, lease: str, until: datetime, deadline: Deadline) -> Watch | None:
        """Match the lease only. An expired lease can be renewed until another process acquires the watch."""
        return self._update(org, audience_id, {"lease": lease}, {"$set": {"lease_until": until}}, deadline)

    def release(self, org: str, audience_id: str, lease: str, deadline: Deadline) -> None:
        """Reset the lease, so other processes can acquire the watch immediately."""
        match = self._scope.match(org, {"_id": _key(org, audience_id), "lease": lease})
        with with_deadline(self._database, deadline):
            self._collection.update_one(match, {"$set": _UNLEASED})

    def create_epoch(self, watch: Watch, lease: str, watch_epoch: str, deadline: Deadline) -> None:
        """Store it as stale first, so a process that crashes leaves only rows that the next one finds and deletes."""
        self._write(watch, {"lease": lease}, {"$push": {"stale_epochs": watch_epoch}}, deadline)

    def start_epoch(
        self, watch: Watch, lease: str, watch_epoch: str, started_at: datetime, definition: str, deadline: Deadline
    ) -> None:
        """Match the lease that created the epoch: the owner of a later lease may have deleted the epoch as stale."""
        fields = {
            "watch_epoch": watch_epoch,
            "seq": 0,
            **dict.fromkeys(("last_event_at", "watermark", "retained_from"), started_at),
        }
        fields |= {"definition": definition, "failure": None}
        self._write(watch, {"lease": lease}, {"$set": fields, "$pull": {"stale_epochs": watch_epoch}}, deadline)

    def advance_seq(self, watch: Watch, events: Sequence[Event], deadline: Deadline) -> None:
        """Match the watermark instead of the lease: any process may report that events are applied."""
        last = {"seq": events[-1].seq, "last_event_at": events[-1].occurred_at}
        self._write(watch, {"watermark": {"$lt": events[0].occurred_at}}, {"$max": last}, deadline)

    def advance_watermark(
        self, watch: Watch, lease: str, seq: int, watermark: datetime, definition: str, deadline: Deadline
    ) -> Watch:
        """Match the lease: another process may have reconciled with a later definition."""
        match = {"watch_epoch": watch.watch_epoch, "lease": lease, "seq": seq}
        update = {"$set": {"definition": definition, "failure": None}, "$max": {"watermark": watermark}}
        watch_after = self._update(watch.org, watch.audience_id, match, update, deadline)
        if watch_after is None:
            raise LeaseLost
        return watch_after

    def set_retained_from(self, watch: Watch, timestamp: datetime, deadline: Deadline) -> None:
        """Use $max, so the time never moves back."""
        self._write(watch, {}, {"$max": {"retained_from": timestamp}}, deadline)

    def fail(self, watch: Watch, lease: str, failure: Failure, deadline: Deadline) -> None:
        """Keep all other fields, which stay true."""
        fields = {"reason": failure.reason, "message": failure.message}
        self._write(watch, {"lease": lease}, {"$set": {"failure": fields}}, deadline)

    def close_epoch(self, watch: Watch, lease: str, timestamp: datetime, deadline: Deadline) -> None:
        """Take two calls: one marks the epoch as stale, the next deletes the watch once no stale epoch is left."""
        expired = {"lease": lease, "expires_at": {"$lte": timestamp}}
        if watch.watch_epoch:
            update = {"$set": _NO_EPOCH, "$push": {"stale_epochs": watch.watch_epoch}}
            self._write(watch, expired, update, deadline)
            return
        with with_deadline(self._database, deadline):
            match = _epoch_match(self._scope, watch, {**expired, "stale_epochs": []})
            if not self._collection.delete_one(match).deleted_count:
                raise LeaseLost

    def forget_stale_epoch(self, watch: Watch, lease: str, watch_epoch: str, deadline: Deadline) -> None:
        """Use $pull."""
        self._write(watch, {"lease": lease}, {"$pull": {"stale_epochs": watch_epoch}}, deadline)

    def _update(
        self, org: str, audience_id: str, condition: Document, update: Document, deadline: Deadline
    ) -> Watch | None:
        """The watch after an update, or None if no watch meets the condition."""
        with with_deadline(self._database, deadline):
            found = self._collection.find_one_and_update(
                self._scope.match(org, {"_id": _key(org, audience_id)}, condition),
                update,
                return_document=ReturnDocument.AFTER,
            )
        return None if found is None else _read(found)

    def _write(self, watch: Watch, condition: Document, update: Document, deadline: Deadline) -> None:
        with with_deadline(self._database, deadline):
            result = self._collection.update_one(_epoch_match(self._scope, watch, condition), update)
        if not result.matched_count:
            raise LeaseLost


def _epoch_match(scope: TenantScope, watch: Watch, *conditions: Document) -> Document:
    key = {"_id": _key(watch.org, watch.audience_id), "watch_epoch": watch.watch_epoch}
    return scope.match(watch.org, key, *conditions)


def _key(org: str, audience_id: str) -> str:
    return f"{org}/audience_watch/{audience_id}"


def _read_failure(record: Mapping[str, Any]) -> Failure | None:
    failure = record["failure"]
    return Failure(failure["reason"], failure["message"]) if failure else None


def _read(record: Mapping[str, Any]) -> Watch:
    return Watch(
        org=org_of(record["sk"]),
        audience_id=record["audience"],
        watch_epoch=record["watch_epoch"],
        seq=int(record["seq"]),
        last_event_at=record.get("last_event_at"),
        watermark=record["watermark"],
        retained_from=record["retained_from"],
        definition=record["definition"],
        expires_at=record["expires_at"],
        failure=_read_failure(record),
        stale_epochs=tuple(record["stale_epochs"]),
    )
