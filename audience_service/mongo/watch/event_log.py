"""The EventLogRepository on MongoDB; domain/watch/repository.py documents the contract.

docs/explanation/watch-consistency.md explains what holds if several processes write to one log. This module keeps I1
(the unique keys of `append`, the gap check of `read`) and its part of I2 (the conditional upserts of `apply`).
"""

import itertools
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

from pymongo import UpdateOne
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.lease import LeaseLost
from audience_service.domain.core.record import Record
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.population import Population
from audience_service.domain.history.model import Cause, ChangeKind, Event, MembershipChange
from audience_service.mongo.core.collections import EVENTS, MEMBER_STATES
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import TenantScope, complete_org_match, erased_sk
from audience_service.mongo.membership.repository import outermost
from audience_service.mongo.query.joins import Stages
from audience_service.mongo.query.pipeline import Pipeline, build_pipeline, run

BATCH_SIZE = 1_000
"""The most keys that one batch of a scan returns, and the most events that `trim` reads by one command."""
_SEQ_DIGITS = 12
_DUPLICATE_KEY = 11000


class MongoEventLog:
    """Event logs and member states. Keys start with the watch epoch, so the index on `_id` finds its rows in order."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope
        self._events = database[EVENTS]
        self._member_states = database[MEMBER_STATES]

    def record_members(self, org: str, watch_epoch: str, population: Population, deadline: Deadline) -> None:
        """Run one pipeline that ends in $merge, so no record leaves the database."""
        pipeline = build_pipeline(self._database, self._scope, org, population, deadline)
        key = {"$concat": [{"$literal": f"{watch_epoch}/"}, "$sk"]}
        row = {"_id": key, "pk": 1, "sk": 1, "member": {"$literal": True}, "seq": {"$literal": 0}}
        merge = {"into": MEMBER_STATES, "on": "_id", "whenMatched": "keepExisting", "whenNotMatched": "insert"}
        with run(self._database, pipeline, deadline) as collection:
            collection.aggregate([*pipeline.stages(), {"$project": row}, {"$merge": merge}])

    def diff(
        self, org: str, watch_epoch: str, population: Population, deadline: Deadline
    ) -> Generator[list[str], None, None]:
        """Group the keys of both sides with one command; a key that only one side has differs."""
        pipeline = build_pipeline(self._database, self._scope, org, population, deadline, budget_divisor=2)
        recorded: Stages = [
            {"$match": self._scope.match(org, epoch_rows(watch_epoch), {"member": True})},
            {"$project": {"_id": 0, "sk": 1, "recorded": {"$literal": 1}}},
        ]
        stages: Stages = [
            *pipeline.stages(),
            {"$project": {"_id": 0, "sk": 1, "member": {"$literal": 1}}},
            {"$unionWith": {"coll": MEMBER_STATES, "pipeline": recorded}},
            # $max instead of $sum: a scan may return a record twice if it is written meanwhile.
            {"$group": {"_id": "$sk", "member": {"$max": "$member"}, "recorded": {"$max": "$recorded"}}},
            {"$match": {"$or": [{"member": None}, {"recorded": None}]}},
            {"$sort": {"_id": 1}},
            {"$project": {"_id": 1}},
        ]
        return self._keys(pipeline, stages, deadline)

    def find_crossing(
        self, org: str, population: CompiledFilter, deadline: Deadline
    ) -> Generator[list[str], None, None]:
        """Group by sk: a scan may return a record twice if it is written meanwhile."""
        pipeline = build_pipeline(self._database, self._scope, org, population, deadline)
        stages: Stages = [*pipeline.stages(), {"$group": {"_id": "$sk"}}, {"$sort": {"_id": 1}}]
        return self._keys(pipeline, stages, deadline)

    def find_dated(
        self,
        org: str,
        datatype: str,
        conditions: Sequence[Document],
        paths: Sequence[str],
        limit: int,
        deadline: Deadline,
    ) -> list[Record]:
        """Use the index on the field, if one exists."""
        projection = {"_id": 0, "pk": 1, "sk": 1, **dict.fromkeys(outermost(paths), 1)}
        with with_deadline(self._database, deadline):
            found = self._database[datatype].find(
                self._scope.match(org, {"$or": list(conditions)}), projection, limit=limit
            )
            return list(found)

    def evaluate(
        self, org: str, watch_epoch: str, population: Population, keys: Sequence[str], deadline: Deadline
    ) -> list[MembershipChange]:
        """Read both sides by key. An sk never changes, so a concurrent write cannot hide a record."""
        members = self._current_members(org, population, keys, deadline)
        recorded = self._recorded_members(org, watch_epoch, keys, deadline)
        entered = [MembershipChange(pk, sk, ChangeKind.ENTERED) for sk, pk in members.items() if sk not in recorded]
        exited = [MembershipChange(pk, sk, ChangeKind.EXITED) for sk, pk in recorded.items() if sk not in members]
        return sorted([*entered, *exited], key=lambda change: change.sk)

    def append(self, org: str, watch_epoch: str, events: Sequence[Event], deadline: Deadline) -> None:
        """Insert in order, which stops at the first key that exists. Raises ValueError for a record of another org."""
        rows = [_row(watch_epoch, event) for event in events]
        scope = f"{org}/"
        if not all(row["sk"].startswith(scope) for row in rows):
            raise ValueError(f"an event names a record of another org; every sk must start with {scope}")
        try:
            with with_deadline(self._database, deadline):
                self._events.insert_many(rows, ordered=True)
        except BulkWriteError as error:
            if _are_all_duplicates(error):
                raise LeaseLost from error
            raise

    def apply(self, org: str, watch_epoch: str, events: Sequence[Event], deadline: Deadline) -> None:
        """Upsert the last event of each record. The row's key refuses the upsert if a later event is applied."""
        last = {event.change.sk: event for event in events if event.change.pk}  # the others are of erased people
        writes = [
            UpdateOne(
                {"_id": f"{watch_epoch}/{sk}", "seq": {"$lt": event.seq}, **self._scope.match(org)},
                {"$set": {"pk": event.change.pk, "sk": sk, "member": _is_member_after(event), "seq": event.seq}},
                upsert=True,
            )
            for sk, event in last.items()
        ]
        if not writes:
            return
        try:
            with with_deadline(self._database, deadline):
                self._member_states.bulk_write(writes, ordered=False)
        except BulkWriteError as error:
            if not _are_all_duplicates(error):
                raise

    def read(
        self, org: str, watch_epoch: str, after: int, until: int | None, limit: int, deadline: Deadline
    ) -> list[Event]:
        """Read in key order up to the first gap: on shards a later event may become visible before an earlier one."""
        keys = {"$gt": event_key(watch_epoch, max(after, 0)), "$lt": f"{watch_epoch}0"}
        if until is not None:
            keys |= {"$lte": event_key(watch_epoch, until)}
        with with_deadline(self._database, deadline):
            rows = list(self._events.find(complete_org_match(org, {"_id": keys}), sort=[("_id", 1)], limit=limit))
        erased = self._scope.erased_sks(org)
        rows = [{**row, "pk": "", "sk": erased_sk(org)} if row["sk"] in erased else row for row in rows]
        return [_read(row) for seq, row in enumerate(rows, max(after, 0) + 1) if row["seq"] == seq]

    def adjust_timestamps(
        self, org: str, watch_epoch: str, after: int, timestamp: datetime, deadline: Deadline
    ) -> None:
        """Update by key, and only events that happen earlier than `timestamp`."""
        later = {"_id": {"$gt": event_key(watch_epoch, after), "$lt": f"{watch_epoch}0"}, "at": {"$lt": timestamp}}
        with with_deadline(self._database, deadline):
            self._events.update_many(complete_org_match(org, later), {"$set": {"at": timestamp}})

    def trim(self, org: str, watch_epoch: str, before: datetime, until: int, deadline: Deadline) -> None:
        """Delete up to a key at a time. Times never decrease along the log, so the rest has no gap."""
        last = {"$gte": event_key(watch_epoch, 0), "$lte": event_key(watch_epoch, until)}
        while True:
            with with_deadline(self._database, deadline):
                oldest = list(
                    self._events.find(
                        complete_org_match(org, {"_id": last}), {"at": 1}, sort=[("_id", 1)], limit=BATCH_SIZE
                    )
                )
                old = [row["_id"] for row in oldest if row["at"] < before]
                if not old:
                    return
                self._events.delete_many(complete_org_match(org, {"_id": {**last, "$lte": old[-1]}}))

    def remove(self, org: str, watch_epoch: str, deadline: Deadline) -> None:
        """Delete by key, from both collections."""
        with with_deadline(self._database, deadline):
            self._events.delete_many(complete_org_match(org, epoch_rows(watch_epoch)))
            self._member_states.delete_many(complete_org_match(org, epoch_rows(watch_epoch)))

    def _keys(self, pipeline: Pipeline, stages: Stages, deadline: Deadline) -> Generator[list[str], None, None]:
        """The `_id`s that the stages return, in batches."""
        with run(self._database, pipeline, deadline) as collection:
            cursor = collection.aggregate(stages, allowDiskUse=True)
        with closing(cursor):
            while True:
                with run(self._database, pipeline, deadline):
                    batch = [row["_id"] for row in itertools.islice(cursor, BATCH_SIZE)]
                if not batch:
                    return
                yield batch

    def _current_members(
        self, org: str, population: Population, keys: Sequence[str], deadline: Deadline
    ) -> dict[str, str]:
        pipeline = build_pipeline(
            self._database, self._scope, org, population, deadline, {"sk": {"$in": list(keys)}}, force_lookup=True
        )
        with run(self._database, pipeline, deadline) as collection:
            found = collection.aggregate([*pipeline.stages(), {"$project": {"_id": 0, "pk": 1, "sk": 1}}])
            return {row["sk"]: str(row.get("pk", "")) for row in found}

    def _recorded_members(self, org: str, watch_epoch: str, keys: Sequence[str], deadline: Deadline) -> dict[str, str]:
        match = self._scope.match(org, {"_id": {"$in": [f"{watch_epoch}/{sk}" for sk in keys]}, "member": True})
        with with_deadline(self._database, deadline):
            return {row["sk"]: row["pk"] for row in self._member_states.find(match, {"_id": 0, "pk": 1, "sk": 1})}


def epoch_rows(watch_epoch: str) -> Document:
    """The condition for the rows of a watch epoch, in either collection; "0" is the character after "/"."""
    return {"_id": {"$gte": f"{watch_epoch}/", "$lt": f"{watch_epoch}0"}}


def event_key(watch_epoch: str, seq: int) -> str:
    """The `_id` of an event."""
    return f"{watch_epoch}/{seq:0{_SEQ_DIGITS}d}"


def _is_member_after(event: Event) -> bool:
    return event.change.kind is ChangeKind.ENTERED


def _are_all_duplicates(error: BulkWriteError) -> bool:
    """Whether existing keys are the only reason that a bulk write failed."""
    failures = [failure.get("code") for failure in error.details["writeErrors"]]
    return not error.details.get("writeConcernErrors") and all(code == _DUPLICATE_KEY for code in failures)


def _row(watch_epoch: str, event: Event) -> dict[str, Any]:
    return {
        "_id": event_key(watch_epoch, event.seq),
        "seq": event.seq,
        "pk": event.change.pk,
        "sk": event.change.sk,
        "change": event.change.kind.value,
        "cause": event.cause.value,
        "at": event.occurred_at,
    }


def _read(row: Mapping[str, Any]) -> Event:
    change = MembershipChange(row["pk"], row["sk"], ChangeKind(row["change"]))
    return Event(int(row["seq"]), change, Cause(row["cause"]), row["at"])
