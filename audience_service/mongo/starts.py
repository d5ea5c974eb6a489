"""What an audience was by an event of its ledger has not in common with a snapshot: the StartRepository on MongoDB.

Rows of who is in are written while they are read; mongo/past.py takes back what they tell of later events.
"""

import itertools
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any

from pymongo.database import Database

from audience_service.domain.caller import Deadline
from audience_service.domain.filters.filter import Document
from audience_service.domain.snapshots.snapshot import Snapshot
from audience_service.domain.watches.watch import Change, Flip
from audience_service.mongo.collections import LISTS, TRACKED
from audience_service.mongo.failures import limited
from audience_service.mongo.joins import Stages
from audience_service.mongo.ledger import generation_rows
from audience_service.mongo.past import who_was_in
from audience_service.mongo.scope import scoped

_BATCH = 1_000


class MongoStarts:
    """Compares by one command, and takes back later events by one for each batch."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database

    def differences(
        self, org: str, generation: str, seq: int, snapshot: Snapshot, after: str, deadline: Deadline
    ) -> Generator[tuple[list[Flip], str], None, None]:
        """The batches of one cursor, in sk order."""
        with limited(self._database, deadline):
            stages = _candidates(org, generation, seq, snapshot, after)
            cursor = self._database[LISTS].aggregate(stages, allowDiskUse=True)
        with closing(cursor):
            while True:
                with limited(self._database, deadline):
                    rows = list(itertools.islice(cursor, _BATCH))
                if not rows:
                    return
                later = [row["_id"] for row in rows if row["later"]]
                was_in = who_was_in(self._database, org, generation, seq, later, deadline)
                yield [flip for row in rows if (flip := _flip(row, was_in))], rows[-1]["_id"]


def _candidates(org: str, generation: str, seq: int, snapshot: Snapshot, after: str) -> Stages:
    """Every record of either side, and all of whom there are later events, once."""
    part: Document = {"sk": {"$gt": after}} if after else {}
    tracked = scoped(org, generation_rows(generation), {"$or": [{"member": True}, {"seq": {"$gt": seq}}]}, part)
    shown: Stages = [
        {"$match": tracked},
        {"$project": {"_id": 0, "pk": 1, "sk": 1, "is_in": "$member", "later": {"$gt": ["$seq", seq]}}},
    ]
    return [
        {"$match": scoped(org, {"audience": snapshot.rows_id}, part)},
        {"$project": {"_id": 0, "pk": 1, "sk": 1, "frozen": {"$literal": True}}},
        {"$unionWith": {"coll": TRACKED, "pipeline": shown}},
        {
            "$group": {
                "_id": "$sk",
                "pk": {"$first": "$pk"},
                "frozen": {"$max": "$frozen"},
                "is_in": {"$max": "$is_in"},
                "later": {"$max": "$later"},
            }
        },
        {"$match": {"$or": [{"frozen": None}, {"is_in": None}, {"later": True}]}},
        {"$sort": {"_id": 1}},
    ]


def _flip(row: Mapping[str, Any], was_in: Mapping[str, bool]) -> Flip | None:
    """From frozen or not to in or not."""
    frozen, is_in = bool(row["frozen"]), was_in.get(row["_id"], bool(row["is_in"]))
    if frozen == is_in:
        return None
    return Flip(row["pk"], row["_id"], Change.ENTERED if is_in else Change.EXITED)
