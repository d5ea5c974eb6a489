"""Watched audiences: the WatchRepository on MongoDB; domain/watches/ports.py states what each method promises.

Every write is compare-and-set on what it rests on, in one command.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pymongo import ReturnDocument
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.caller import Deadline
from audience_service.domain.filters.filter import Document
from audience_service.domain.watches.ports import Overtaken
from audience_service.domain.watches.watch import Event, Failure, Watch
from audience_service.mongo.collections import WATCHES
from audience_service.mongo.failures import limited
from audience_service.mongo.scope import org_of, scoped

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_UNKNOWN: Document = {"generation": "", "seq": 0, "event_at": None, "as_of": None, "known_since": None}
_UNHELD = {"lease": "", "lease_until": _LONG_AGO}


class MongoWatches:
    """One record to a watched audience."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._collection = database[WATCHES]

    def want(self, org: str, audience_id: str, until: datetime, deadline: Deadline) -> Watch | None:
        """By $max."""
        return self._change(org, audience_id, {}, {"$max": {"wanted_until": until}}, deadline)

    def propose(self, org: str, audience_id: str, lease: str, until: datetime, deadline: Deadline) -> bool:
        """Insert the record, whose key says whether there is one."""
        key = _key(org, audience_id)
        new = {"_id": key, "sk": key, "audience": audience_id, "lease": lease, "lease_until": until, **_UNKNOWN}
        new |= {"definition": "", "wanted_until": until, "failure": None, "garbage": []}
        try:
            with limited(self._database, deadline):
                self._collection.insert_one(new)
        except DuplicateKeyError:
            return False
        return True

    def accept(self, org: str, audience_id: str, lease: str, until: datetime, deadline: Deadline) -> Watch | None:
        """What others have wanted meanwhile is no longer than this."""
        update = {"$set": _UNHELD, "$max": {"wanted_until": until}}
        return self._change(org, audience_id, {"lease": lease}, update, deadline)

    def withdraw(self, org: str, audience_id: str, lease: str, deadline: Deadline) -> None:
        """By the lease."""
        with limited(self._database, deadline):
            self._collection.delete_one(scoped(org, {"_id": _key(org, audience_id), "lease": lease}))

    def count(self, org: str, most: int, deadline: Deadline) -> int:
        """By keys of the index on `_id`, no more than `most`."""
        keys = {"_id": {"$gte": _key(org, ""), "$lt": _key(org, "")[:-1] + "0"}}
        with limited(self._database, deadline):
            return self._collection.count_documents(scoped(org, keys), limit=most)

    def get(self, org: str, audience_id: str, deadline: Deadline) -> Watch | None:
        """By key."""
        with limited(self._database, deadline):
            found = self._collection.find_one(scoped(org, {"_id": _key(org, audience_id)}))
        return None if found is None else _read(found)

    def claim(self, lease: str, moment: datetime, until: datetime, deadline: Deadline) -> tuple[str, str] | None:
        """The one that has been free for longest, by the index on `lease_until`."""
        with limited(self._database, deadline):
            found = self._collection.find_one_and_update(
                {"lease_until": {"$lte": moment}},
                {"$set": {"lease": lease, "lease_until": until}},
                sort=[("lease_until", 1)],
            )
        return None if found is None else (org_of(found["sk"]), str(found["audience"]))

    def keep(self, held: Collection[tuple[str, str, str]], until: datetime, deadline: Deadline) -> None:
        """By key, in one command; a lease is of one watch, so that keys and leases need not be told in pairs."""
        match = {
            "_id": {"$in": [_key(org, audience_id) for org, audience_id, _ in held]},
            "lease": {"$in": [lease for *_, lease in held]},
        }
        with limited(self._database, deadline):
            self._collection.update_many(match, {"$set": {"lease_until": until}})

    def renew(self, org: str, audience_id: str, lease: str, until: datetime, deadline: Deadline) -> Watch | None:
        """Where nobody has claimed it since, be it that the lease has ended."""
        return self._change(org, audience_id, {"lease": lease}, {"$set": {"lease_until": until}}, deadline)

    def release(self, org: str, audience_id: str, lease: str, deadline: Deadline) -> None:
        """Free to claim at once."""
        held = scoped(org, {"_id": _key(org, audience_id), "lease": lease})
        with limited(self._database, deadline):
            self._collection.update_one(held, {"$set": _UNHELD})

    def prepare(self, watch: Watch, lease: str, generation: str, deadline: Deadline) -> None:
        """Garbage first, so that a process that dies leaves nothing that is not known of."""
        self._write(watch, {"lease": lease}, {"$push": {"garbage": generation}}, deadline)

    def begin(
        self, watch: Watch, lease: str, generation: str, as_of: datetime, definition: str, deadline: Deadline
    ) -> None:
        """Bound to the lease under which it was named: whoever holds a later one may have removed it as garbage."""
        began = {"generation": generation, "seq": 0, **dict.fromkeys(("event_at", "as_of", "known_since"), as_of)}
        began |= {"definition": definition, "failure": None}
        self._write(watch, {"lease": lease}, {"$set": began, "$pull": {"garbage": generation}}, deadline)

    def advance(self, watch: Watch, events: Sequence[Event], deadline: Deadline) -> None:
        """True whoever says it, and so not bound to a lease, but to what has been answered for."""
        last = {"seq": events[-1].seq, "event_at": events[-1].at}
        self._write(watch, {"as_of": {"$lt": events[0].at}}, {"$max": last}, deadline)

    def finish(self, watch: Watch, lease: str, seq: int, as_of: datetime, definition: str, deadline: Deadline) -> Watch:
        """Bound to the lease: another round may have gone on from a later definition."""
        held = {"generation": watch.generation, "lease": lease, "seq": seq}
        done = {"$set": {"definition": definition, "failure": None}, "$max": {"as_of": as_of}}
        finished = self._change(watch.org, watch.audience_id, held, done, deadline)
        if finished is None:
            raise Overtaken
        return finished

    def keep_from(self, watch: Watch, moment: datetime, deadline: Deadline) -> None:
        """By $max."""
        self._write(watch, {}, {"$max": {"known_since": moment}}, deadline)

    def fail(self, watch: Watch, lease: str, failure: Failure, deadline: Deadline) -> None:
        """Kept beside what is known, which stays true."""
        told = {"reason": failure.reason, "message": failure.message}
        self._write(watch, {"lease": lease}, {"$set": {"failure": told}}, deadline)

    def end(self, watch: Watch, lease: str, moment: datetime, deadline: Deadline) -> None:
        """In two steps, with the removal of the garbage between them."""
        unwanted = {"lease": lease, "wanted_until": {"$lte": moment}}
        if watch.generation:
            update = {"$set": _UNKNOWN, "$push": {"garbage": watch.generation}}
            self._write(watch, unwanted, update, deadline)
            return
        with limited(self._database, deadline):
            match = _of_generation(watch, {**unwanted, "garbage": []})
            if not self._collection.delete_one(match).deleted_count:
                raise Overtaken

    def cleaned(self, watch: Watch, lease: str, generation: str, deadline: Deadline) -> None:
        """Pull it."""
        self._write(watch, {"lease": lease}, {"$pull": {"garbage": generation}}, deadline)

    def _change(
        self, org: str, audience_id: str, condition: Document, update: Document, deadline: Deadline
    ) -> Watch | None:
        """The watch behind an update, None where none meets the condition."""
        with limited(self._database, deadline):
            found = self._collection.find_one_and_update(
                scoped(org, {"_id": _key(org, audience_id)}, condition), update, return_document=ReturnDocument.AFTER
            )
        return None if found is None else _read(found)

    def _write(self, watch: Watch, condition: Document, update: Document, deadline: Deadline) -> None:
        with limited(self._database, deadline):
            written = self._collection.update_one(_of_generation(watch, condition), update)
        if not written.matched_count:
            raise Overtaken


def _of_generation(watch: Watch, *conditions: Document) -> Document:
    key = {"_id": _key(watch.org, watch.audience_id), "generation": watch.generation}
    return scoped(watch.org, key, *conditions)


def _key(org: str, audience_id: str) -> str:
    return f"{org}/audience_watch/{audience_id}"


def _read(record: Mapping[str, Any]) -> Watch:
    failure = record["failure"]
    return Watch(
        org=org_of(record["sk"]),
        audience_id=record["audience"],
        generation=record["generation"],
        seq=int(record["seq"]),
        event_at=record.get("event_at"),
        as_of=record["as_of"],
        known_since=record["known_since"],
        definition=record["definition"],
        wanted_until=record["wanted_until"],
        failure=Failure(failure["reason"], failure["message"]) if failure else None,
        garbage=tuple(record["garbage"]),
    )
