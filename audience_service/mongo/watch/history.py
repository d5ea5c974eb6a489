"""What ledgers know of the past: the PastRepository on MongoDB; domain/watch/repository.py states the promises.

Rows of who is in are written while they are read, and some tell of later events. Those are taken back by what the
ledger has of the record behind the event: the first one there tells how it was before.
"""

import itertools
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database

from audience_service.domain.core.clock import MILLISECOND
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.lease import LeaseLost
from audience_service.domain.core.record import Record
from audience_service.domain.filters.filter import Document
from audience_service.domain.history.model import Cause, ChangeKind, EventCounts
from audience_service.mongo.core.collections import EVENTS, MEMBER_STATES
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import tenant_match
from audience_service.mongo.membership.repository import CURSOR_BATCH_SIZE, outermost
from audience_service.mongo.query.joins import Stages
from audience_service.mongo.query.pipeline import join_records
from audience_service.mongo.watch.event_log import epoch_rows, event_key

_END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC)
_KINDS = list(itertools.product(ChangeKind, Cause))


class MongoHistory:
    """Reads who is recorded, and takes back later events by the index on their sk."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._events = database[EVENTS]
        self._member_states = database[MEMBER_STATES]

    def last_event(self, org: str, watch_epoch: str, until: int, timestamp: datetime, deadline: Deadline) -> int:
        """The one before the first that happened later, which is there however old it is."""
        later = tenant_match(org, _event_range(watch_epoch, 0, until), {"at": {"$gt": timestamp}})
        with with_deadline(self._database, deadline):
            found = self._events.find_one(later, {"seq": 1}, sort=[("_id", 1)])
        return until if found is None else int(found["seq"]) - 1

    def members(
        self,
        org: str,
        watch_epoch: str,
        seq: int,
        datatype: str,
        paths: Sequence[str],
        batch_size: int,
        after: str,
        deadline: Deadline,
    ) -> Generator[list[Record], None, None]:
        """One cursor in key order, which is that of sk, and one look into the ledger for each of its own batches."""
        field_paths = outermost(paths)
        stages: Stages = [
            {
                "$match": tenant_match(
                    org, _member_range(watch_epoch, after), {"$or": [{"member": True}, {"seq": {"$gt": seq}}]}
                )
            },
            {"$sort": {"_id": 1}},
            *(join_records(datatype, ("pk", "sk", "seq")) if field_paths else []),
            {"$project": {"_id": 0, "pk": 1, "sk": 1, "seq": 1, **dict.fromkeys(field_paths, 1)}},
        ]
        with with_deadline(self._database, deadline):
            cursor = self._member_states.aggregate(stages, batchSize=CURSOR_BATCH_SIZE, allowDiskUse=True)
        with closing(cursor):
            while True:
                with with_deadline(self._database, deadline):
                    rows = list(itertools.islice(cursor, CURSOR_BATCH_SIZE))
                if not rows:
                    return
                later = [row["sk"] for row in rows if row["seq"] > seq]
                was_member = members_at(self._database, org, watch_epoch, seq, later, deadline)
                found: list[Record] = [row for row in rows if was_member.get(row["sk"], True)]
                for start in range(0, len(found), batch_size):
                    yield found[start : start + batch_size]

    def size(self, org: str, watch_epoch: str, seq: int, deadline: Deadline) -> int:
        """One pass over who is recorded, which tells whom later events are about, and one look into the ledger."""
        counts: Document = {
            "members": {"$sum": {"$cond": [{"$and": ["$member", {"$lte": ["$seq", seq]}]}, 1, 0]}},
            "later": {"$push": {"$cond": [{"$gt": ["$seq", seq]}, "$sk", "$$REMOVE"]}},
        }
        stages: Stages = [{"$match": tenant_match(org, epoch_rows(watch_epoch))}, {"$group": {"_id": None, **counts}}]
        with with_deadline(self._database, deadline):
            found = list(self._member_states.aggregate(stages))
        if not found:
            return 0
        was_member = members_at(self._database, org, watch_epoch, seq, found[0]["later"], deadline)
        return int(found[0]["members"]) + sum(was_member.values())

    def event_counts(
        self, org: str, watch_epoch: str, until: int, timestamps: Sequence[datetime], deadline: Deadline
    ) -> Sequence[EventCounts]:
        """One $bucket, each from a millisecond behind a moment on."""
        begins = [timestamp + MILLISECOND for timestamp in timestamps]
        kinds = {f"{change}_{cause}": {"change": change.value, "cause": cause.value} for change, cause in _KINDS}
        outputs = {
            name: {
                "$sum": {"$cond": [{"$and": [{"$eq": [f"${field}", value]} for field, value in kind.items()]}, 1, 0]}
            }
            for name, kind in kinds.items()
        }
        stages: Stages = [
            {"$match": tenant_match(org, _event_range(watch_epoch, 0, until), {"at": {"$gte": begins[0]}})},
            {"$bucket": {"groupBy": "$at", "boundaries": [*begins, _END_OF_TIME], "output": outputs}},
        ]
        with with_deadline(self._database, deadline):
            found = {row["_id"]: row for row in self._events.aggregate(stages)}
        return [_to_counts(found.get(begin, {})) for begin in begins]


def members_at(
    database: Database[dict[str, Any]],
    org: str,
    watch_epoch: str,
    seq: int,
    keys: Sequence[str],
    deadline: Deadline,
) -> Mapping[str, bool]:
    """Whether records that later events are about were in by an event. Raises Overtaken where one has gone."""
    if not keys:
        return {}
    stages: Stages = [
        {"$match": tenant_match(org, _event_range(watch_epoch, seq), {"sk": {"$in": list(keys)}})},
        {"$sort": {"sk": 1, "_id": 1}},
        {"$group": {"_id": "$sk", "change": {"$first": "$change"}}},
    ]
    with with_deadline(database, deadline):
        was_member = {row["_id"]: row["change"] == ChangeKind.EXITED for row in database[EVENTS].aggregate(stages)}
    if len(was_member) != len(keys):
        raise LeaseLost
    return was_member


def _event_range(watch_epoch: str, after: int, until: int | None = None) -> Document:
    """The events behind a number, up to and including another one."""
    end = {"$lt": f"{watch_epoch}0"} if until is None else {"$lte": event_key(watch_epoch, until)}
    return {"_id": {"$gt": event_key(watch_epoch, after), **end}}


def _member_range(watch_epoch: str, after: str) -> Document:
    """The rows of a generation behind an sk."""
    return {"_id": {"$gt": f"{watch_epoch}/{after}", "$lt": f"{watch_epoch}0"}}


def _to_counts(row: Mapping[str, Any]) -> EventCounts:
    counts = {kind: int(row.get("_".join(kind), 0)) for kind in _KINDS}
    entered, exited = (
        {cause: count for (kind_of_event, cause), count in counts.items() if kind_of_event is change and count}
        for change in ChangeKind
    )
    return EventCounts(entered, exited)
