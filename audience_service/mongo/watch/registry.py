"""Watched audiences: the WatchRepository on MongoDB; domain/watch/repository.py states what each method promises.

Every write is compare-and-set on what it rests on, in one command.
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
from audience_service.domain.history.model import Event, Failure, Watch
from audience_service.mongo.core.collections import WATCHES
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import org_of, tenant_match

_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_EPOCH: Document = {"watch_epoch": "", "seq": 0, "last_event_at": None, "watermark": None, "retained_from": None}
_UNLEASED = {"lease": "", "lease_until": _UNIX_EPOCH}


class MongoWatches:
    """One record to a watched audience."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._collection = database[WATCHES]

    def touch(self, org: str, audience_id: str, until: datetime, deadline: Deadline) -> Watch | None:
        """By $max."""
        return self._update(org, audience_id, {}, {"$max": {"expires_at": until}}, deadline)

    def create_provisional(self, org: str, audience_id: str, lease: str, until: datetime, deadline: Deadline) -> bool:
        """Insert the record, whose key says whether there is one."""
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
        """What others have wanted meanwhile is no longer than this."""
        update = {"$set": _UNLEASED, "$max": {"expires_at": until}}
        return self._update(org, audience_id, {"lease": lease}, update, deadline)

    def cancel(self, org: str, audience_id: str, lease: str, deadline: Deadline) -> None:
        """By the lease."""
        with with_deadline(self._database, deadline):
            self._collection.delete_one(tenant_match(org, {"_id": _key(org, audience_id), "lease": lease}))

    def count(self, org: str, limit: int, deadline: Deadline) -> int:
        """By keys of the index on `_id`, no more than `most`."""
        keys = {"_id": {"$gte": _key(org, ""), "$lt": _key(org, "")[:-1] + "0"}}
        with with_deadline(self._database, deadline):
            return self._collection.count_documents(tenant_match(org, keys), limit=limit)

    def get(self, org: str, audience_id: str, deadline: Deadline) -> Watch | None:
        """By key."""
        with with_deadline(self._database, deadline):
            found = self._collection.find_one(tenant_match(org, {"_id": _key(org, audience_id)}))
        return None if found is None else _read(found)

    def acquire(self, lease: str, timestamp: datetime, until: datetime, deadline: Deadline) -> tuple[str, str] | None:
        """The one that has been free for longest, by the index on `lease_until`."""
        with with_deadline(self._database, deadline):
            found = self._collection.find_one_and_update(
                {"lease_until": {"$lte": timestamp}},
                {"$set": {"lease": lease, "lease_until": until}},
                sort=[("lease_until", 1)],
            )
        return None if found is None else (org_of(found["sk"]), str(found["audience"]))

    def renew_all(self, leases: Collection[tuple[str, str, str]], until: datetime, deadline: Deadline) -> None:
        """By key, in one command; a lease is of one watch, so that keys and leases need not be told in pairs."""
        match = {
            "_id": {"$in": [_key(org, audience_id) for org, audience_id, _ in leases]},
            "lease": {"$in": [lease for *_, lease in leases]},
        }
        with with_deadline(self._database, deadline):
            self._collection.update_many(match, {"$set": {"lease_until": until}})

    def renew(self, org: str, audience_id: str, lease: str, until: datetime, deadline: Deadline) -> Watch | None:
        """Where nobody has claimed it since, be it that the lease has ended."""
        return self._update(org, audience_id, {"lease": lease}, {"$set": {"lease_until": until}}, deadline)

    def release(self, org: str, audience_id: str, lease: str, deadline: Deadline) -> None:
        """Free to claim at once."""
        match = tenant_match(org, {"_id": _key(org, audience_id), "lease": lease})
        with with_deadline(self._database, deadline):
            self._collection.update_one(match, {"$set": _UNLEASED})

    def create_epoch(self, watch: Watch, lease: str, watch_epoch: str, deadline: Deadline) -> None:
        """Garbage first, so that a process that dies leaves nothing that is not known of."""
        self._write(watch, {"lease": lease}, {"$push": {"stale_epochs": watch_epoch}}, deadline)

    def start_epoch(
        self, watch: Watch, lease: str, watch_epoch: str, started_at: datetime, definition: str, deadline: Deadline
    ) -> None:
        """Bound to the lease under which it was named: whoever holds a later one may have removed it as garbage."""
        fields = {
            "watch_epoch": watch_epoch,
            "seq": 0,
            **dict.fromkeys(("last_event_at", "watermark", "retained_from"), started_at),
        }
        fields |= {"definition": definition, "failure": None}
        self._write(watch, {"lease": lease}, {"$set": fields, "$pull": {"stale_epochs": watch_epoch}}, deadline)

    def advance_seq(self, watch: Watch, events: Sequence[Event], deadline: Deadline) -> None:
        """True whoever says it, and so not bound to a lease, but to what has been answered for."""
        last = {"seq": events[-1].seq, "last_event_at": events[-1].at}
        self._write(watch, {"watermark": {"$lt": events[0].at}}, {"$max": last}, deadline)

    def advance_watermark(
        self, watch: Watch, lease: str, seq: int, watermark: datetime, definition: str, deadline: Deadline
    ) -> Watch:
        """Bound to the lease: another round may have gone on from a later definition."""
        match = {"watch_epoch": watch.watch_epoch, "lease": lease, "seq": seq}
        update = {"$set": {"definition": definition, "failure": None}, "$max": {"watermark": watermark}}
        watch_after = self._update(watch.org, watch.audience_id, match, update, deadline)
        if watch_after is None:
            raise LeaseLost
        return watch_after

    def set_retained_from(self, watch: Watch, timestamp: datetime, deadline: Deadline) -> None:
        """By $max."""
        self._write(watch, {}, {"$max": {"retained_from": timestamp}}, deadline)

    def fail(self, watch: Watch, lease: str, failure: Failure, deadline: Deadline) -> None:
        """Kept beside what is known, which stays true."""
        fields = {"reason": failure.reason, "message": failure.message}
        self._write(watch, {"lease": lease}, {"$set": {"failure": fields}}, deadline)

    def close_epoch(self, watch: Watch, lease: str, timestamp: datetime, deadline: Deadline) -> None:
        """In two steps, with the removal of the garbage between them."""
        expired = {"lease": lease, "expires_at": {"$lte": timestamp}}
        if watch.watch_epoch:
            update = {"$set": _NO_EPOCH, "$push": {"stale_epochs": watch.watch_epoch}}
            self._write(watch, expired, update, deadline)
            return
        with with_deadline(self._database, deadline):
            match = _epoch_match(watch, {**expired, "stale_epochs": []})
            if not self._collection.delete_one(match).deleted_count:
                raise LeaseLost

    def epoch_deleted(self, watch: Watch, lease: str, watch_epoch: str, deadline: Deadline) -> None:
        """Pull it."""
        self._write(watch, {"lease": lease}, {"$pull": {"stale_epochs": watch_epoch}}, deadline)

    def _update(
        self, org: str, audience_id: str, condition: Document, update: Document, deadline: Deadline
    ) -> Watch | None:
        """The watch behind an update, None where none meets the condition."""
        with with_deadline(self._database, deadline):
            found = self._collection.find_one_and_update(
                tenant_match(org, {"_id": _key(org, audience_id)}, condition),
                update,
                return_document=ReturnDocument.AFTER,
            )
        return None if found is None else _read(found)

    def _write(self, watch: Watch, condition: Document, update: Document, deadline: Deadline) -> None:
        with with_deadline(self._database, deadline):
            result = self._collection.update_one(_epoch_match(watch, condition), update)
        if not result.matched_count:
            raise LeaseLost


def _epoch_match(watch: Watch, *conditions: Document) -> Document:
    key = {"_id": _key(watch.org, watch.audience_id), "watch_epoch": watch.watch_epoch}
    return tenant_match(watch.org, key, *conditions)


def _key(org: str, audience_id: str) -> str:
    return f"{org}/audience_watch/{audience_id}"


def _read(record: Mapping[str, Any]) -> Watch:
    failure = record["failure"]
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
        failure=Failure(failure["reason"], failure["message"]) if failure else None,
        stale_epochs=tuple(record["stale_epochs"]),
    )
