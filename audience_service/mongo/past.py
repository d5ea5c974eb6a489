"""What ledgers know of the past: the PastRepository on MongoDB; domain/watches/ports.py states the promises.

Rows of who is in are written while they are read, and some tell of later events. Those are taken back by what the
ledger has of the record behind the event: the first one there tells how it was before.
"""

import itertools
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database

from audience_service.domain.caller import Deadline
from audience_service.domain.clock import MILLISECOND
from audience_service.domain.filters.filter import Document
from audience_service.domain.ports import Record
from audience_service.domain.watches.ports import Overtaken
from audience_service.domain.watches.watch import Cause, Change, Turnover
from audience_service.mongo.collections import LEDGER, TRACKED
from audience_service.mongo.failures import limited
from audience_service.mongo.joins import Stages
from audience_service.mongo.ledger import event_key, generation_rows
from audience_service.mongo.members import CURSOR_BATCH, outermost
from audience_service.mongo.pipeline import beside_records
from audience_service.mongo.scope import scoped

_END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC)
_KINDS = list(itertools.product(Change, Cause))


class MongoPast:
    """Reads who is recorded, and takes back later events by the index on their sk."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._ledger = database[LEDGER]
        self._tracked = database[TRACKED]

    def last_event(self, org: str, generation: str, until: int, moment: datetime, deadline: Deadline) -> int:
        """The one before the first that happened later, which is there however old it is."""
        later = scoped(org, _events(generation, 0, until), {"at": {"$gt": moment}})
        with limited(self._database, deadline):
            found = self._ledger.find_one(later, {"seq": 1}, sort=[("_id", 1)])
        return until if found is None else int(found["seq"]) - 1

    def members(
        self,
        org: str,
        generation: str,
        seq: int,
        datatype: str,
        paths: Sequence[str],
        batch_size: int,
        after: str,
        deadline: Deadline,
    ) -> Generator[list[Record], None, None]:
        """One cursor in key order, which is that of sk, and one look into the ledger for each of its own batches."""
        shown = outermost(paths)
        stages: Stages = [
            {"$match": scoped(org, _rows(generation, after), {"$or": [{"member": True}, {"seq": {"$gt": seq}}]})},
            {"$sort": {"_id": 1}},
            *(beside_records(datatype, ("pk", "sk", "seq")) if shown else []),
            {"$project": {"_id": 0, "pk": 1, "sk": 1, "seq": 1, **dict.fromkeys(shown, 1)}},
        ]
        with limited(self._database, deadline):
            cursor = self._tracked.aggregate(stages, batchSize=CURSOR_BATCH, allowDiskUse=True)
        with closing(cursor):
            while True:
                with limited(self._database, deadline):
                    rows = list(itertools.islice(cursor, CURSOR_BATCH))
                if not rows:
                    return
                later = [row["sk"] for row in rows if row["seq"] > seq]
                was_in = who_was_in(self._database, org, generation, seq, later, deadline)
                found: list[Record] = [row for row in rows if was_in.get(row["sk"], True)]
                for start in range(0, len(found), batch_size):
                    yield found[start : start + batch_size]

    def size(self, org: str, generation: str, seq: int, deadline: Deadline) -> int:
        """One pass over who is recorded, which tells whom later events are about, and one look into the ledger."""
        told: Document = {
            "members": {"$sum": {"$cond": [{"$and": ["$member", {"$lte": ["$seq", seq]}]}, 1, 0]}},
            "later": {"$push": {"$cond": [{"$gt": ["$seq", seq]}, "$sk", "$$REMOVE"]}},
        }
        stages: Stages = [{"$match": scoped(org, generation_rows(generation))}, {"$group": {"_id": None, **told}}]
        with limited(self._database, deadline):
            found = list(self._tracked.aggregate(stages))
        if not found:
            return 0
        was_in = who_was_in(self._database, org, generation, seq, found[0]["later"], deadline)
        return int(found[0]["members"]) + sum(was_in.values())

    def turnovers(
        self, org: str, generation: str, until: int, moments: Sequence[datetime], deadline: Deadline
    ) -> Sequence[Turnover]:
        """One $bucket, each from a millisecond behind a moment on."""
        begins = [moment + MILLISECOND for moment in moments]
        kinds = {f"{change}_{cause}": {"change": change.value, "cause": cause.value} for change, cause in _KINDS}
        counted = {
            name: {
                "$sum": {"$cond": [{"$and": [{"$eq": [f"${field}", value]} for field, value in kind.items()]}, 1, 0]}
            }
            for name, kind in kinds.items()
        }
        stages: Stages = [
            {"$match": scoped(org, _events(generation, 0, until), {"at": {"$gte": begins[0]}})},
            {"$bucket": {"groupBy": "$at", "boundaries": [*begins, _END_OF_TIME], "output": counted}},
        ]
        with limited(self._database, deadline):
            found = {row["_id"]: row for row in self._ledger.aggregate(stages)}
        return [_turnover(found.get(begin, {})) for begin in begins]


def who_was_in(
    database: Database[dict[str, Any]],
    org: str,
    generation: str,
    seq: int,
    keys: Sequence[str],
    deadline: Deadline,
) -> Mapping[str, bool]:
    """Whether records that later events are about were in by an event. Raises Overtaken where one has gone."""
    if not keys:
        return {}
    stages: Stages = [
        {"$match": scoped(org, _events(generation, seq), {"sk": {"$in": list(keys)}})},
        {"$sort": {"sk": 1, "_id": 1}},
        {"$group": {"_id": "$sk", "change": {"$first": "$change"}}},
    ]
    with limited(database, deadline):
        found = {row["_id"]: row["change"] == Change.EXITED for row in database[LEDGER].aggregate(stages)}
    if len(found) != len(keys):
        raise Overtaken
    return found


def _events(generation: str, after: int, until: int | None = None) -> Document:
    """The events behind a number, up to and including another one."""
    end = {"$lt": f"{generation}0"} if until is None else {"$lte": event_key(generation, until)}
    return {"_id": {"$gt": event_key(generation, after), **end}}


def _rows(generation: str, after: str) -> Document:
    """The rows of a generation behind an sk."""
    return {"_id": {"$gt": f"{generation}/{after}", "$lt": f"{generation}0"}}


def _turnover(row: Mapping[str, Any]) -> Turnover:
    counts = {kind: int(row.get("_".join(kind), 0)) for kind in _KINDS}
    entered, exited = (
        {cause: count for (told, cause), count in counts.items() if told is change and count} for change in Change
    )
    return Turnover(entered, exited)
