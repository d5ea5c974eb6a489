"""What two snapshots have not in common, computed by the database in slices of sk.

One command over all rows would have to group all of them before it answers; a slice is grouped within the database's
memory, the first answer comes soon, and a stream that resumes pays for the slice that it stopped in alone.
"""

import itertools
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters.filter import Document
from audience_service.domain.snapshots.model import Snapshot
from audience_service.domain.snapshots.repository import Difference
from audience_service.mongo.core.collections import LISTS
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import tenant_match
from audience_service.mongo.query.joins import Stages
from audience_service.mongo.query.pipeline import key_range_condition

SLICE_SIZE = 100_000
"""How many rows of each snapshot a command groups at most: some tens of MB, of the 100 that it may take."""

CURSOR_BATCH_SIZE = 10_000


class MongoSnapshotDiff:
    """The DifferenceRepository on MongoDB; domain/snapshots/repository.py states what it promises."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._collection = database[LISTS]

    def diff(
        self, org: str, first: Snapshot, second: Snapshot, batch_size: int, after: str, deadline: Deadline
    ) -> Generator[list[Difference], None, None]:
        """Two queries for the end of each slice, and a command for what is in it."""
        while True:
            ends = [self._slice_end(org, snapshot, after, deadline) for snapshot in (first, second)]
            until = min((end for end in ends if end), default="")
            with with_deadline(self._database, deadline):
                rows = self._collection.aggregate(
                    _diff_stages(org, first, second, key_range_condition(after, until)),
                    batchSize=max(batch_size, CURSOR_BATCH_SIZE),
                    allowDiskUse=True,
                )
            with closing(rows):
                while batch := self._batch(rows, batch_size, deadline):
                    yield batch
            if not until:
                return
            after = until

    def _slice_end(self, org: str, snapshot: Snapshot, after: str, deadline: Deadline) -> str:
        """The sk of the last row of a whole slice of one snapshot; empty where it has no more than that."""
        if snapshot.count <= SLICE_SIZE:
            return ""
        match = tenant_match(org, {"audience": snapshot.list_version_id}, key_range_condition(after, ""))
        with with_deadline(self._database, deadline):
            rows = self._collection.find(match, {"_id": 0, "sk": 1}, sort=[("sk", 1)], skip=SLICE_SIZE - 1, limit=1)
            return next((str(row["sk"]) for row in rows), "")

    def _batch(self, rows: Iterator[dict[str, Any]], size: int, deadline: Deadline) -> list[Difference]:
        with with_deadline(self._database, deadline):
            return [Difference(row["pk"], row["_id"], entered=row["bits"] == 2) for row in itertools.islice(rows, size)]


def _diff_stages(org: str, first: Snapshot, second: Snapshot, key_range: Document) -> Stages:
    """Each row as a bit, summed up by sk: 1 is in the first alone, 2 in the second, and 3 in both."""
    return [
        *_bit_rows(org, first, key_range, 1),
        {"$unionWith": {"coll": LISTS, "pipeline": _bit_rows(org, second, key_range, 2)}},
        {"$group": {"_id": "$sk", "pk": {"$first": "$pk"}, "bits": {"$sum": "$bit"}}},
        {"$match": {"bits": {"$in": [1, 2]}}},
        {"$sort": {"_id": 1}},
    ]


def _bit_rows(org: str, snapshot: Snapshot, key_range: Document, bit: int) -> Stages:
    match = tenant_match(org, {"audience": snapshot.list_version_id}, key_range)
    return [{"$match": match}, {"$project": {"_id": 0, "pk": 1, "sk": 1, "bit": {"$literal": bit}}}]
