"""Ledgers and who is in by them: the LedgerRepository on MongoDB; domain/watches/ports.py states the promises.

What holds however many processes write at once, and what it rests on, domain/watches/rounds.py tells.
"""

import itertools
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

from pymongo import UpdateOne
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from audience_service.domain.caller import Deadline
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.filter import Document
from audience_service.domain.ports import Population, Record
from audience_service.domain.watches.ports import Overtaken
from audience_service.domain.watches.watch import Cause, Change, Event, Flip
from audience_service.mongo.collections import LEDGER, TRACKED
from audience_service.mongo.failures import limited
from audience_service.mongo.joins import Stages
from audience_service.mongo.members import outermost
from audience_service.mongo.pipeline import Pipeline, read_pipeline, running
from audience_service.mongo.scope import scoped

_JUDGED = 1_000
"""Records that are judged, and events that are appended, by one command."""
_SEQ_DIGITS = 12
_DUPLICATE_KEY = 11000


class MongoLedger:
    """Keys begin with the generation, so that the index on `_id` finds a generation's rows, in order."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._ledger = database[LEDGER]
        self._tracked = database[TRACKED]

    def record(self, org: str, generation: str, population: Population, deadline: Deadline) -> None:
        """One pipeline that ends in $merge: no record leaves the database."""
        pipeline = read_pipeline(self._database, org, population, deadline)
        key = {"$concat": [{"$literal": f"{generation}/"}, "$sk"]}
        row = {"_id": key, "pk": 1, "sk": 1, "member": {"$literal": True}, "seq": {"$literal": 0}}
        merge = {"into": TRACKED, "on": "_id", "whenMatched": "keepExisting", "whenNotMatched": "insert"}
        with running(self._database, pipeline, deadline) as collection:
            collection.aggregate([*pipeline.stages(), {"$project": row}, {"$merge": merge}])

    def differences(
        self, org: str, generation: str, population: Population, deadline: Deadline
    ) -> Generator[list[str], None, None]:
        """One command brings both sides as keys, and groups them: those found on one side only differ."""
        pipeline = read_pipeline(self._database, org, population, deadline, share=2)
        recorded: Stages = [
            {"$match": scoped(org, generation_rows(generation), {"member": True})},
            {"$project": {"_id": 0, "sk": 1, "recorded": {"$literal": 1}}},
        ]
        stages: Stages = [
            *pipeline.stages(),
            {"$project": {"_id": 0, "sk": 1, "member": {"$literal": 1}}},
            {"$unionWith": {"coll": TRACKED, "pipeline": recorded}},
            # Not a sum: a scan may come upon a record twice that is written meanwhile.
            {"$group": {"_id": "$sk", "member": {"$max": "$member"}, "recorded": {"$max": "$recorded"}}},
            {"$match": {"$or": [{"member": None}, {"recorded": None}]}},
            {"$sort": {"_id": 1}},
            {"$project": {"_id": 1}},
        ]
        return self._keys(pipeline, stages, deadline)

    def passing(
        self, org: str, datatype: str, conditions: Sequence[Document], deadline: Deadline
    ) -> Generator[list[str], None, None]:
        """Grouped, since a scan may come upon a record twice that is written meanwhile."""
        found = CompiledFilter(datatype, {"$or": list(conditions)})
        pipeline = read_pipeline(self._database, org, found, deadline)
        stages: Stages = [*pipeline.stages(), {"$group": {"_id": "$sk"}}, {"$sort": {"_id": 1}}]
        return self._keys(pipeline, stages, deadline)

    def dated(
        self,
        org: str,
        datatype: str,
        conditions: Sequence[Document],
        paths: Sequence[str],
        limit: int,
        deadline: Deadline,
    ) -> list[Record]:
        """By the index on the field, if there is one."""
        shown = {"_id": 0, "pk": 1, "sk": 1, **dict.fromkeys(outermost(paths), 1)}
        with limited(self._database, deadline):
            found = self._database[datatype].find(scoped(org, {"$or": list(conditions)}), shown, limit=limit)
            return list(found)

    def judge(
        self, org: str, generation: str, population: Population, keys: Sequence[str], deadline: Deadline
    ) -> list[Flip]:
        """Both sides by key: sk never changes, so that no scan can miss a record that is written meanwhile."""
        members = self._members(org, population, keys, deadline)
        recorded = self._recorded(org, generation, keys, deadline)
        entered = [Flip(pk, sk, Change.ENTERED) for sk, pk in members.items() if sk not in recorded]
        exited = [Flip(pk, sk, Change.EXITED) for sk, pk in recorded.items() if sk not in members]
        return sorted([*entered, *exited], key=lambda flip: flip.sk)

    def append(self, org: str, generation: str, events: Sequence[Event], deadline: Deadline) -> None:
        """An ordered insert, which stops at the first key that is taken."""
        rows = [_row(generation, event) for event in events]
        scope = f"{org}/"
        if not all(row["sk"].startswith(scope) for row in rows):
            raise ValueError("an event is about another org's record")
        try:
            with limited(self._database, deadline):
                self._ledger.insert_many(rows, ordered=True)
        except BulkWriteError as error:
            if _all_taken(error):
                raise Overtaken from error
            raise

    def apply(self, org: str, generation: str, events: Sequence[Event], deadline: Deadline) -> None:
        """An upsert for each record's last event; where a later one has been applied, it meets that row's key."""
        last = {event.flip.sk: event for event in events}
        writes = [
            UpdateOne(
                {"_id": f"{generation}/{sk}", "seq": {"$lt": event.seq}, **scoped(org)},
                {"$set": {"pk": event.flip.pk, "sk": sk, "member": _is_in(event), "seq": event.seq}},
                upsert=True,
            )
            for sk, event in last.items()
        ]
        try:
            with limited(self._database, deadline):
                self._tracked.bulk_write(writes, ordered=False)
        except BulkWriteError as error:
            if not _all_taken(error):
                raise

    def read(
        self, org: str, generation: str, after: int, until: int | None, limit: int, deadline: Deadline
    ) -> list[Event]:
        """In key order, up to the first gap: on shards a later event may be seen before an earlier one."""
        keys = {"$gt": event_key(generation, max(after, 0)), "$lt": f"{generation}0"}
        if until is not None:
            keys |= {"$lte": event_key(generation, until)}
        with limited(self._database, deadline):
            rows = list(self._ledger.find(scoped(org, {"_id": keys}), sort=[("_id", 1)], limit=limit))
        return [_read(row) for seq, row in enumerate(rows, max(after, 0) + 1) if row["seq"] == seq]

    def postpone(self, org: str, generation: str, after: int, moment: datetime, deadline: Deadline) -> None:
        """By key, those alone that would happen sooner."""
        behind = {"_id": {"$gt": event_key(generation, after), "$lt": f"{generation}0"}, "at": {"$lt": moment}}
        with limited(self._database, deadline):
            self._ledger.update_many(scoped(org, behind), {"$set": {"at": moment}})

    def forget(self, org: str, generation: str, before: datetime, until: int, deadline: Deadline) -> None:
        """Up to a key at a time, so that what is left has no gap: times never fall from one event to the next."""
        last = {"$gte": event_key(generation, 0), "$lte": event_key(generation, until)}
        while True:
            with limited(self._database, deadline):
                oldest = list(
                    self._ledger.find(scoped(org, {"_id": last}), {"at": 1}, sort=[("_id", 1)], limit=_JUDGED)
                )
                old = [row["_id"] for row in oldest if row["at"] < before]
                if not old:
                    return
                self._ledger.delete_many(scoped(org, {"_id": {**last, "$lte": old[-1]}}))

    def remove(self, org: str, generation: str, deadline: Deadline) -> None:
        """By key."""
        with limited(self._database, deadline):
            self._ledger.delete_many(scoped(org, generation_rows(generation)))
            self._tracked.delete_many(scoped(org, generation_rows(generation)))

    def _keys(self, pipeline: Pipeline, stages: Stages, deadline: Deadline) -> Generator[list[str], None, None]:
        """What the stages yield as `_id`, in batches."""
        with running(self._database, pipeline, deadline) as collection:
            cursor = collection.aggregate(stages, allowDiskUse=True)
        with closing(cursor):
            while True:
                with running(self._database, pipeline, deadline):
                    batch = [row["_id"] for row in itertools.islice(cursor, _JUDGED)]
                if not batch:
                    return
                yield batch

    def _members(self, org: str, population: Population, keys: Sequence[str], deadline: Deadline) -> dict[str, str]:
        pipeline = read_pipeline(self._database, org, population, deadline, {"sk": {"$in": list(keys)}}, few=True)
        with running(self._database, pipeline, deadline) as collection:
            found = collection.aggregate([*pipeline.stages(), {"$project": {"_id": 0, "pk": 1, "sk": 1}}])
            return {row["sk"]: str(row.get("pk", "")) for row in found}

    def _recorded(self, org: str, generation: str, keys: Sequence[str], deadline: Deadline) -> dict[str, str]:
        match = scoped(org, {"_id": {"$in": [f"{generation}/{sk}" for sk in keys]}, "member": True})
        with limited(self._database, deadline):
            return {row["sk"]: row["pk"] for row in self._tracked.find(match, {"_id": 0, "pk": 1, "sk": 1})}


def generation_rows(generation: str) -> Document:
    """The rows of a generation, in either collection; "0" is the character after "/"."""
    return {"_id": {"$gte": f"{generation}/", "$lt": f"{generation}0"}}


def event_key(generation: str, seq: int) -> str:
    """The key of an event."""
    return f"{generation}/{seq:0{_SEQ_DIGITS}d}"


def _is_in(event: Event) -> bool:
    return event.flip.change is Change.ENTERED


def _all_taken(error: BulkWriteError) -> bool:
    """Whether a bulk write has failed by taken keys alone."""
    failures = [failure.get("code") for failure in error.details["writeErrors"]]
    return not error.details.get("writeConcernErrors") and all(code == _DUPLICATE_KEY for code in failures)


def _row(generation: str, event: Event) -> dict[str, Any]:
    return {
        "_id": event_key(generation, event.seq),
        "seq": event.seq,
        "pk": event.flip.pk,
        "sk": event.flip.sk,
        "change": event.flip.change.value,
        "cause": event.cause.value,
        "at": event.at,
    }


def _read(row: Mapping[str, Any]) -> Event:
    flip = Flip(row["pk"], row["sk"], Change(row["change"]))
    return Event(int(row["seq"]), flip, Cause(row["cause"]), row["at"])
