"""What an audience was by an event of its ledger has not in common with a snapshot: the StartRepository on MongoDB.

Rows of who is in are written while they are read; mongo/watch/history.py takes back what they tell of later events.
"""

import itertools
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any

from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters.filter import Document
from audience_service.domain.history.model import ChangeKind, MembershipChange
from audience_service.domain.snapshots.model import Snapshot
from audience_service.mongo.core.collections import LISTS, MEMBER_STATES
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import tenant_match
from audience_service.mongo.query.joins import Stages
from audience_service.mongo.watch.event_log import epoch_rows
from audience_service.mongo.watch.history import members_at

BATCH_SIZE = 1_000


class MongoSnapshotBootstrap:
    """Compares by one command, and takes back later events by one for each batch."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database

    def diff_snapshot(
        self, org: str, watch_epoch: str, seq: int, snapshot: Snapshot, after: str, deadline: Deadline
    ) -> Generator[tuple[list[MembershipChange], str], None, None]:
        """The batches of one cursor, in sk order."""
        with with_deadline(self._database, deadline):
            stages = _candidates(org, watch_epoch, seq, snapshot, after)
            cursor = self._database[LISTS].aggregate(stages, allowDiskUse=True)
        with closing(cursor):
            while True:
                with with_deadline(self._database, deadline):
                    rows = list(itertools.islice(cursor, BATCH_SIZE))
                if not rows:
                    return
                later = [row["_id"] for row in rows if row["later"]]
                was_member = members_at(self._database, org, watch_epoch, seq, later, deadline)
                yield [change for row in rows if (change := _to_change(row, was_member))], rows[-1]["_id"]


def _candidates(org: str, watch_epoch: str, seq: int, snapshot: Snapshot, after: str) -> Stages:
    """Every record of either side, and all of whom there are later events, once."""
    key_range: Document = {"sk": {"$gt": after}} if after else {}
    recorded = tenant_match(org, epoch_rows(watch_epoch), {"$or": [{"member": True}, {"seq": {"$gt": seq}}]}, key_range)
    member_stages: Stages = [
        {"$match": recorded},
        {"$project": {"_id": 0, "pk": 1, "sk": 1, "is_in": "$member", "later": {"$gt": ["$seq", seq]}}},
    ]
    return [
        {"$match": tenant_match(org, {"audience": snapshot.list_version_id}, key_range)},
        {"$project": {"_id": 0, "pk": 1, "sk": 1, "frozen": {"$literal": True}}},
        {"$unionWith": {"coll": MEMBER_STATES, "pipeline": member_stages}},
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


def _to_change(row: Mapping[str, Any], was_member: Mapping[str, bool]) -> MembershipChange | None:
    """From frozen or not to in or not."""
    in_snapshot, is_member = bool(row["frozen"]), was_member.get(row["_id"], bool(row["is_in"]))
    if in_snapshot == is_member:
        return None
    return MembershipChange(row["pk"], row["_id"], ChangeKind.ENTERED if is_member else ChangeKind.EXITED)
