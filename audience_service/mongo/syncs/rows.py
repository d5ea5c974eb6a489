"""The rows of syncs.

    {_id: sk, sk: "<org>/audience_sync_row/<sync>/<digest>", format, values, keys, platform_keys, scan, sent_at,
     added_by, is_rejected, todo, batch, send}

`keys` has the digests of all keys of the row, `platform_keys` of those that the platform may have. `scan` is the last
full scan that found the row, or 0 if a later scan found that no member has it any more. `todo` is
"<sync>/<operation>/<format>" if the row waits for a batch. `batch` is "<sync>/<number>" while the row is in an open
batch, and `send` then has the keys to send. `added_by` is the number of the batch that set `platform_keys`.

`values` are as the platform receives them: hashes, and the few fields that a platform requires in plain text.
"""

import itertools
from collections.abc import Collection, Generator, Sequence
from datetime import datetime
from typing import Any

from pymongo.database import Database
from pymongo.errors import BulkWriteError

from audience_service.domain.core.context import Deadline
from audience_service.domain.exports.batches import ADD, REMOVE
from audience_service.domain.filters.filter import Document
from audience_service.domain.syncs.model import Batch, SyncRow
from audience_service.mongo.core.collections import SYNC_ROWS
from audience_service.mongo.core.errors import raise_unless_duplicate, with_deadline
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.query.joins import Stages
from audience_service.mongo.syncs.members import MongoSyncMembers

_CHUNK_SIZE = 1_000
_NO_SCAN = 0
"""Scans have the numbers from 1."""
_NOT_IN_BATCH: Document = {"batch": {"$exists": False}}
_LEAVE_BATCH = {"batch": "", "send": "", "todo": ""}


class MongoSyncRows:
    """The SyncRowRepository on MongoDB; domain/syncs/repository.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope
        self._collection = database[SYNC_ROWS]
        self._members = MongoSyncMembers(database, scope)

    def check_supported(self) -> None:
        """Return: MongoDB can compare rows."""

    def mark(
        self, org: str, sync_id: str, scan: int, row_format: int, rows: Sequence[SyncRow], deadline: Deadline
    ) -> None:
        """Update the existing rows by one command, then insert the others.

        A scan that has lost its lease never lowers the number of a later one. In this order, an acknowledgement deletes
        no row that the scan found: it deletes only rows of earlier scans. An erasure and an earlier scan may replace a
        row between two commands: the loop ends once every row has the number, or every row was inserted.
        """
        by_key = {f"{_prefix(org, sync_id)}/{row.digest}": row for row in rows}
        existing = self._scope.match(org, {"_id": {"$in": list(by_key)}})
        marked = self._scope.match(org, {"_id": {"$in": list(by_key)}, "scan": {"$gte": scan}})
        with with_deadline(self._database, deadline):
            while True:
                self._collection.update_many(existing, {"$max": {"scan": scan}})
                found = {row["_id"] for row in self._collection.find(marked, {"_id": 1})}
                new_rows = [_new_row(key, scan, row_format, row) for key, row in by_key.items() if key not in found]
                if not new_rows or self._insert_new(new_rows) == len(by_key):
                    return

    def drop(self, org: str, sync_id: str, scan: int, digests: Collection[str], deadline: Deadline) -> None:
        """Lower the number of the rows to that of no scan, unless a later scan has marked them."""
        if digests:
            keys = [f"{_prefix(org, sync_id)}/{found}" for found in digests]
            match = self._scope.match(org, {"_id": {"$in": keys}, "scan": scan})
            with with_deadline(self._database, deadline):
                self._collection.update_many(match, {"$set": {"scan": _NO_SCAN}})

    def compare(self, org: str, sync_id: str, scan: int, expired_before: datetime | None, deadline: Deadline) -> None:
        """Decide each row by one update; delete covered rows. Rows in open batches wait for the next scan."""
        todo = _todo_expression(sync_id, scan, expired_before)
        undecided = _of_sync(self._scope, org, sync_id, _NOT_IN_BATCH, _may_change(scan, expired_before))
        with with_deadline(self._database, deadline):
            self._collection.update_many(undecided, [{"$set": {"todo": todo}}])
            self._collection.aggregate(self._covered(org, sync_id, scan))
            gone = {"scan": {"$lt": scan}, "platform_keys": [], **_NOT_IN_BATCH}
            self._collection.delete_many(_of_sync(self._scope, org, sync_id, gone))

    def has_candidates(self, org: str, sync_id: str, batch: Batch, deadline: Deadline) -> bool:
        """Find one by the index on `todo`."""
        with with_deadline(self._database, deadline):
            return self._collection.find_one(_candidates(self._scope, org, sync_id, batch), {"_id": 1}) is not None

    def assign(self, org: str, sync_id: str, batch: Batch, size: int, deadline: Deadline) -> None:
        """Run one pipeline that ends in $merge, so that no row leaves the database.

        It is not sorted, so that the database ends the joins of candidates once the batch is full. Rows to add need no
        join if nothing can block them.
        """
        name = _batch_name(sync_id, batch.number)
        with with_deadline(self._database, deadline):
            is_free = self._collection.find_one(_in_batches(self._scope, org, sync_id), {"_id": 1}) is None
        sendable: Stages = [*_sendable(batch.operation, batch.scan), {"$match": {"blocking": []}}]
        if batch.operation == ADD and is_free:
            sendable = [{"$project": {"send": "$keys"}}]
        stages = [
            {"$match": _candidates(self._scope, org, sync_id, batch)},
            *sendable,
            {"$limit": size},
            {"$project": {"batch": {"$literal": name}, "send": 1}},
            {"$merge": {"into": SYNC_ROWS, "on": "_id", "whenMatched": "merge", "whenNotMatched": "discard"}},
        ]
        with with_deadline(self._database, deadline):
            self._collection.aggregate(stages, allowDiskUse=True)
            self._collection.update_many(self._scope.match(org, {"batch": name}), {"$unset": {"todo": ""}})

    def count(self, org: str, sync_id: str, number: int, deadline: Deadline) -> int:
        """Count by the index on `batch`."""
        with with_deadline(self._database, deadline):
            return self._collection.count_documents(_in_batch(self._scope, org, sync_id, number))

    def count_blocked(self, org: str, sync_id: str, scan: int, deadline: Deadline) -> int:
        """Count the candidates of both operations that share a key with a row in a batch, from these rows on."""
        total = 0
        for operation in (REMOVE, ADD):
            todo = {"$gte": f"{sync_id}/{operation}/", "$lt": f"{sync_id}/{operation}0"}
            waiting = self._scope.match(org, {"todo": todo, "scan": _found_by(operation, scan), **_NOT_IN_BATCH})
            with with_deadline(self._database, deadline):
                if self._collection.find_one(waiting, {"_id": 1}) is None:
                    continue
            stages = [
                {"$match": _in_batches(self._scope, org, sync_id)},
                _SHARING,
                {"$unwind": "$sharing"},
                {"$replaceRoot": {"newRoot": "$sharing"}},
                {"$match": waiting},
                {"$group": {"_id": "$_id", "row": {"$first": "$$ROOT"}}},
                {"$replaceRoot": {"newRoot": "$row"}},
                *_sendable(operation, scan),
                {"$count": "n"},
            ]
            with with_deadline(self._database, deadline):
                total += sum(int(found["n"]) for found in self._collection.aggregate(stages, allowDiskUse=True))
        return total

    def stream(
        self, org: str, sync_id: str, number: int, deadline: Deadline
    ) -> Generator[tuple[tuple[str, ...], frozenset[str]], None, None]:
        """Read by the index on `batch`, in the order of keys."""
        after = ""
        while True:
            match = _in_batch(self._scope, org, sync_id, number, {"_id": {"$gt": after}})
            with with_deadline(self._database, deadline):
                found = list(
                    self._collection.find(match, {"values": 1, "send": 1}, sort=[("_id", 1)], limit=_CHUNK_SIZE)
                )
            for row in found:
                yield tuple(row["values"]), frozenset(row["send"])
            if len(found) < _CHUNK_SIZE:
                return
            after = found[-1]["_id"]

    def digests(
        self, org: str, sync_id: str, number: int, indexes: Sequence[int], deadline: Deadline
    ) -> tuple[str, ...]:
        """Read the keys of the batch in order. An acknowledgement that runs meanwhile releases them."""
        if not indexes:
            return ()
        with with_deadline(self._database, deadline):
            found = self._collection.find(_in_batch(self._scope, org, sync_id, number), {"_id": 1}, sort=[("_id", 1)])
            keys = [row["_id"] for row in found]
        return tuple(keys[index].rpartition("/")[2] for index in indexes if index < len(keys))

    def apply(self, org: str, sync_id: str, batch: Batch, deadline: Deadline) -> None:
        """Release the rejected rows first, and then change the others. Each step leaves the rest for a repetition."""
        in_batch = _in_batch(self._scope, org, sync_id, batch.number)
        rejected = [f"{_prefix(org, sync_id)}/{digest}" for digest in batch.rejected_digests]
        for start in range(0, len(rejected), _CHUNK_SIZE):
            match = self._scope.match(org, {"_id": {"$in": rejected[start : start + _CHUNK_SIZE]}}, in_batch)
            refused = {"$set": {"is_rejected": True}} if batch.operation == ADD else {}
            with with_deadline(self._database, deadline):
                self._collection.update_many(match, {**refused, "$unset": _LEAVE_BATCH})
        if batch.operation == ADD:
            sent_at = batch.receipt.acknowledged_at if batch.receipt else None
            added: Stages = [
                {"$set": {"platform_keys": "$keys", "sent_at": sent_at, "added_by": batch.number}},
                {"$unset": list(_LEAVE_BATCH)},
            ]
            with with_deadline(self._database, deadline):
                self._collection.update_many(in_batch, added)
            return
        while self._apply_removals(org, in_batch, batch, deadline):
            pass

    def clear(self, org: str, sync_id: str, deadline: Deadline) -> None:
        """Delete by the range of keys. Without the members, the next comparison reads all of them."""
        self._members.clear(org, sync_id, deadline)
        with with_deadline(self._database, deadline):
            self._collection.delete_many(_of_sync(self._scope, org, sync_id))

    def _insert_new(self, rows: Sequence[Document]) -> int:
        """Insert rows, except those that exist. Returns the number of inserted rows."""
        try:
            return len(self._collection.insert_many(rows, ordered=False).inserted_ids) if rows else 0
        except BulkWriteError as error:
            raise_unless_duplicate(error)
            return int(error.details["nInserted"])

    def _apply_removals(self, org: str, in_batch: Document, batch: Batch, deadline: Deadline) -> bool:
        """Remove the keys of some rows from all rows, then release these rows. Returns whether there were any.

        A row that is desired again must know that the platform no longer has its keys. Until its own rows are
        released, no other batch can have one of the keys. A command may run on after its call has been given up: it
        leaves the keys that a later batch has added.
        """
        with with_deadline(self._database, deadline):
            found = list(self._collection.find(in_batch, {"send": 1}, limit=_CHUNK_SIZE))
            if not found:
                return False
            removed = list(dict.fromkeys(itertools.chain.from_iterable(row["send"] for row in found)))
            sharing = self._scope.match(org, {"keys": {"$in": removed}, "added_by": {"$not": {"$gt": batch.number}}})
            self._collection.update_many(sharing, {"$pullAll": {"platform_keys": removed}, "$unset": {"sent_at": ""}})
            keys: Document = {"_id": {"$in": [row["_id"] for row in found]}}
            self._collection.update_many(self._scope.match(org, keys, in_batch), {"$unset": _LEAVE_BATCH})
            gone: Document = {"scan": {"$lt": batch.scan}, "platform_keys": [], **_NOT_IN_BATCH}
            self._collection.delete_many(self._scope.match(org, keys, gone))
        return True

    def _covered(self, org: str, sync_id: str, scan: int) -> Stages:
        """The stages that empty `platform_keys` of rows to remove, if complete rows on the platform have these keys."""
        remove = {"todo": {"$gte": f"{sync_id}/{REMOVE}/", "$lt": f"{sync_id}/{REMOVE}0"}, **_NOT_IN_BATCH}
        is_complete = {"$and": [{"$gte": ["$$this.scan", scan]}, {"$ne": [{"$type": "$$this.sent_at"}, "missing"]}]}
        covered = _union(is_complete, "$$this.platform_keys")
        return [
            {"$match": self._scope.match(org, remove)},
            _SHARING,
            {"$project": {"uncovered": {"$setDifference": ["$platform_keys", covered]}}},
            {"$match": {"uncovered": []}},
            {"$project": {"platform_keys": {"$literal": []}}},
            {"$merge": {"into": SYNC_ROWS, "on": "_id", "whenMatched": "merge", "whenNotMatched": "discard"}},
        ]


def _new_row(key: str, scan: int, row_format: int, row: SyncRow) -> Document:
    return {
        "_id": key,
        "sk": key,
        "scan": scan,
        "format": row_format,
        "values": list(row.values),
        "keys": list(row.keys),
        "platform_keys": [],
    }


def _prefix(org: str, sync_id: str) -> str:
    return f"{org}/{SYNC_ROWS}/{sync_id}"


def _batch_name(sync_id: str, number: int) -> str:
    return f"{sync_id}/{number}"


def _of_sync(scope: TenantScope, org: str, sync_id: str, *conditions: Document) -> Document:
    """Return the match of a sync's rows. "0" is the character after "/"."""
    prefix = _prefix(org, sync_id)
    return scope.match(org, {"_id": {"$gte": f"{prefix}/", "$lt": f"{prefix}0"}}, *conditions)


def _in_batch(scope: TenantScope, org: str, sync_id: str, number: int, *conditions: Document) -> Document:
    return scope.match(org, {"batch": _batch_name(sync_id, number)}, *conditions)


def _in_batches(scope: TenantScope, org: str, sync_id: str) -> Document:
    """Return the match of the rows in any batch of a sync."""
    return scope.match(org, {"batch": {"$gte": f"{sync_id}/", "$lt": f"{sync_id}0"}})


def _candidates(scope: TenantScope, org: str, sync_id: str, batch: Batch) -> Document:
    todo = {"todo": f"{sync_id}/{batch.operation}/{batch.format}", **_NOT_IN_BATCH}
    return scope.match(org, todo, {"scan": _found_by(batch.operation, batch.scan)})


def _found_by(operation: str, scan: int) -> Document:
    """The condition on `scan` of the rows to add or remove. A scan that did not complete has marked rows as well."""
    return {"$gte": scan} if operation == ADD else {"$lt": scan}


def _sendable(operation: str, scan: int) -> Stages:
    """The stages that keep the candidates to send, with the keys to `send` and the rows in batches that block them."""
    send: Any = "$keys"
    if operation == REMOVE:
        send = {"$setDifference": ["$platform_keys", _union({"$gte": ["$$this.scan", scan]}, "$$this.keys")]}
    in_batch = {"$filter": {"input": "$sharing", "cond": {"$ne": [{"$type": "$$this.batch"}, "missing"]}}}
    return [
        _SHARING,
        {"$project": {"send": send, "blocking": {"$map": {"input": in_batch, "in": "$$this._id"}}}},
        {"$match": {"send": {"$ne": []}}},
    ]


_SHARING: Document = {"$lookup": {"from": SYNC_ROWS, "localField": "keys", "foreignField": "keys", "as": "sharing"}}
"""The stage that finds the rows with one of a row's keys. The digest of a key contains the org and the sync.

A pipeline inside the stage would keep some engines from using the index. A row shares keys with few others.
"""


def _union(condition: Document, keys: str) -> Document:
    """The expression for the keys of those sharing rows that meet a condition."""
    found = {"$filter": {"input": "$sharing", "cond": condition}}
    each = {"$map": {"input": found, "in": keys}}
    return {"$reduce": {"input": each, "initialValue": [], "in": {"$setUnion": ["$$value", "$$this"]}}}


def _may_change(scan: int, expired_before: datetime | None) -> Document:
    """The condition on rows for which the expression for `todo` may differ from the stored value.

    It leaves out the rows that are on the platform and wait for nothing: nearly all of them.
    """
    conditions: list[Document] = [
        {"scan": {"$lt": scan}},
        {"todo": {"$exists": True}},
        {"sent_at": {"$exists": False}},
    ]
    if expired_before:
        conditions.append({"sent_at": {"$lt": expired_before}})
    return {"$or": conditions}


def _todo_expression(sync_id: str, scan: int, expired_before: datetime | None) -> Document:
    """The expression for what to do with a row: remove it, add it, or nothing."""
    to_remove, to_add = (
        {"$concat": [f"{sync_id}/{operation}/", {"$toString": "$format"}]} for operation in (REMOVE, ADD)
    )
    not_sent: list[Document] = [{"$eq": [{"$type": "$sent_at"}, "missing"]}]
    if expired_before:
        not_sent.append({"$lt": ["$sent_at", expired_before]})
    branches = [
        {
            "case": {"$lt": ["$scan", scan]},
            "then": {"$cond": [{"$eq": ["$platform_keys", []]}, "$$REMOVE", to_remove]},
        },
        {"case": {"$eq": ["$is_rejected", True]}, "then": "$$REMOVE"},
        {"case": {"$or": not_sent}, "then": to_add},
    ]
    return {"$switch": {"branches": branches, "default": "$$REMOVE"}}
