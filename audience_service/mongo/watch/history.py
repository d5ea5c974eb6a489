"""The HistoryRepository on MongoDB; domain/history/repository.py documents the contract.

A member state shows a record's latest event, which may be later than the event that a caller asks for. The first event
of the record after that one gives the earlier state. Example, for event 5:

    member state        events of the record after 5     member as of event 5
    member, seq 3       none needed: 3 <= 5              yes
    no member, seq 8    6 entered, 8 exited              no, since it entered at 6
    member, seq 9       7 exited, 9 entered              yes, since it exited at 7
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
from audience_service.domain.history.model import Cause, ChangeKind, EventCounts, MembershipChange
from audience_service.domain.snapshots.model import Snapshot
from audience_service.mongo.core.collections import EVENTS, LISTS, MEMBER_STATES
from audience_service.mongo.core.cursor_batches import FIRST_BATCH_SIZE, BatchReader
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.membership.repository import CURSOR_BATCH_SIZE, outermost
from audience_service.mongo.query.joins import Stages
from audience_service.mongo.query.pipeline import join_records
from audience_service.mongo.watch.event_log import epoch_rows, event_key

DIFF_BATCH_SIZE = 1_000
_END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC)
_KINDS = list(itertools.product(ChangeKind, Cause))


class MongoHistory:
    """Reads member states, and undoes later events with the index on their sk."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope
        self._events = database[EVENTS]
        self._member_states = database[MEMBER_STATES]

    def last_event(self, org: str, watch_epoch: str, until: int, timestamp: datetime, deadline: Deadline) -> int:
        """The event before the first one that happened later. Trimming never removes that later one."""
        later = self._scope.match(org, _event_range(watch_epoch, 0, until), {"at": {"$gt": timestamp}})
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
        """Use one cursor in key order, which is sk order, and one query of the event log for each of its batches."""
        field_paths = outermost(paths)
        stages: Stages = [
            {
                "$match": self._scope.match(
                    org, _member_range(watch_epoch, after), {"$or": [{"member": True}, {"seq": {"$gt": seq}}]}
                )
            },
            {"$sort": {"_id": 1}},
            *(join_records(datatype, ("pk", "sk", "seq")) if field_paths else []),
            {"$project": {"_id": 0, "pk": 1, "sk": 1, "seq": 1, **dict.fromkeys(field_paths, 1)}},
        ]
        with with_deadline(self._database, deadline):
            cursor = self._member_states.aggregate(stages, batchSize=FIRST_BATCH_SIZE, allowDiskUse=True)
        with closing(cursor):
            reader = BatchReader(cursor, CURSOR_BATCH_SIZE)
            while True:
                with with_deadline(self._database, deadline):
                    rows = reader.read(CURSOR_BATCH_SIZE)
                if not rows:
                    return
                later = [row["sk"] for row in rows if row["seq"] > seq]
                was_member = _members_at(self._database, self._scope, org, watch_epoch, seq, later, deadline)
                erased = self._scope.erased_sks(org)  # the command may be older than a tombstone
                found: list[Record] = [
                    {name: value for name, value in row.items() if name != "seq"}
                    for row in rows
                    if row["sk"] not in erased and was_member.get(row["sk"], True)
                ]
                for start in range(0, len(found), batch_size):
                    yield found[start : start + batch_size]

    def size(self, org: str, watch_epoch: str, seq: int, deadline: Deadline) -> int:
        """Scan the member states once, which also finds records with later events; then query the event log once."""
        counts: Document = {
            "members": {"$sum": {"$cond": [{"$and": ["$member", {"$lte": ["$seq", seq]}]}, 1, 0]}},
            "later": {"$push": {"$cond": [{"$gt": ["$seq", seq]}, "$sk", "$$REMOVE"]}},
        }
        stages: Stages = [
            {"$match": self._scope.match(org, epoch_rows(watch_epoch))},
            {"$group": {"_id": None, **counts}},
        ]
        with with_deadline(self._database, deadline):
            found = list(self._member_states.aggregate(stages))
        if not found:
            return 0
        was_member = _members_at(self._database, self._scope, org, watch_epoch, seq, found[0]["later"], deadline)
        return int(found[0]["members"]) + sum(was_member.values())

    def event_counts(
        self, org: str, watch_epoch: str, until: int, timestamps: Sequence[datetime], deadline: Deadline
    ) -> Sequence[EventCounts]:
        """Use one $bucket stage, whose boundaries are a millisecond after each timestamp."""
        begins = [timestamp + MILLISECOND for timestamp in timestamps]
        kinds = {f"{change}_{cause}": {"change": change.value, "cause": cause.value} for change, cause in _KINDS}
        outputs = {
            name: {
                "$sum": {"$cond": [{"$and": [{"$eq": [f"${field}", value]} for field, value in kind.items()]}, 1, 0]}
            }
            for name, kind in kinds.items()
        }
        stages: Stages = [
            {"$match": self._scope.match(org, _event_range(watch_epoch, 0, until), {"at": {"$gte": begins[0]}})},
            {"$bucket": {"groupBy": "$at", "boundaries": [*begins, _END_OF_TIME], "output": outputs}},
        ]
        with with_deadline(self._database, deadline):
            found = {row["_id"]: row for row in self._events.aggregate(stages)}
        return [_to_counts(found.get(begin, {})) for begin in begins]

    def diff_snapshot(
        self, org: str, watch_epoch: str, seq: int, snapshot: Snapshot, after: str, deadline: Deadline
    ) -> Generator[tuple[list[MembershipChange], str], None, None]:
        """Compare with one command, and undo later events with one query for each batch of its cursor."""
        with with_deadline(self._database, deadline):
            stages = _diff_candidates(self._scope, org, watch_epoch, seq, snapshot, after)
            cursor = self._database[LISTS].aggregate(stages, allowDiskUse=True)
        with closing(cursor):
            while True:
                with with_deadline(self._database, deadline):
                    rows = list(itertools.islice(cursor, DIFF_BATCH_SIZE))
                if not rows:
                    return
                later = [row["_id"] for row in rows if row["later"]]
                was_member = _members_at(self._database, self._scope, org, watch_epoch, seq, later, deadline)
                yield [change for row in rows if (change := _to_change(row, was_member))], rows[-1]["_id"]


def _members_at(
    database: Database[dict[str, Any]],
    scope: TenantScope,
    org: str,
    watch_epoch: str,
    seq: int,
    keys: Sequence[str],
    deadline: Deadline,
) -> Mapping[str, bool]:
    """Whether each record with the sks `keys` was a member as of event `seq`.

    Every record has an event after `seq`. Raises LeaseLost if all those of a record were trimmed.
    """
    if not keys:
        return {}
    stages: Stages = [
        {"$match": scope.match(org, _event_range(watch_epoch, seq), {"sk": {"$in": list(keys)}})},
        {"$sort": {"sk": 1, "_id": 1}},
        {"$group": {"_id": "$sk", "change": {"$first": "$change"}}},
    ]
    with with_deadline(database, deadline):
        was_member = {row["_id"]: row["change"] == ChangeKind.EXITED for row in database[EVENTS].aggregate(stages)}
    if len(was_member) != len(keys):
        raise LeaseLost
    return was_member


def _event_range(watch_epoch: str, after: int, until: int | None = None) -> Document:
    """The condition for the events after the number `after`, up to and including `until`."""
    end = {"$lt": f"{watch_epoch}0"} if until is None else {"$lte": event_key(watch_epoch, until)}
    return {"_id": {"$gt": event_key(watch_epoch, after), **end}}


def _member_range(watch_epoch: str, after: str) -> Document:
    """The condition for the member states of a watch epoch after an sk."""
    return {"_id": {"$gt": f"{watch_epoch}/{after}", "$lt": f"{watch_epoch}0"}}


def _to_counts(row: Mapping[str, Any]) -> EventCounts:
    counts = {kind: int(row.get("_".join(kind), 0)) for kind in _KINDS}
    entered, exited = (
        {cause: count for (kind_of_event, cause), count in counts.items() if kind_of_event is change and count}
        for change in ChangeKind
    )
    return EventCounts(entered, exited)


def _diff_candidates(
    scope: TenantScope, org: str, watch_epoch: str, seq: int, snapshot: Snapshot, after: str
) -> Stages:
    """The stages that find records on one side only, and all records with later events, each once, in sk order."""
    key_range: Document = {"sk": {"$gt": after}} if after else {}
    recorded = scope.match(org, epoch_rows(watch_epoch), {"$or": [{"member": True}, {"seq": {"$gt": seq}}]}, key_range)
    member_stages: Stages = [
        {"$match": recorded},
        {"$project": {"_id": 0, "pk": 1, "sk": 1, "is_member": "$member", "later": {"$gt": ["$seq", seq]}}},
    ]
    return [
        {"$match": scope.match(org, {"audience": snapshot.list_version_id}, key_range)},
        {"$project": {"_id": 0, "pk": 1, "sk": 1, "in_snapshot": {"$literal": True}}},
        {"$unionWith": {"coll": MEMBER_STATES, "pipeline": member_stages}},
        {
            "$group": {
                "_id": "$sk",
                "pk": {"$first": "$pk"},
                "in_snapshot": {"$max": "$in_snapshot"},
                "is_member": {"$max": "$is_member"},
                "later": {"$max": "$later"},
            }
        },
        {"$match": {"$or": [{"in_snapshot": None}, {"is_member": None}, {"later": True}]}},
        {"$sort": {"_id": 1}},
    ]


def _to_change(row: Mapping[str, Any], was_member: Mapping[str, bool]) -> MembershipChange | None:
    """The change from the snapshot to the member state, or None if they agree."""
    in_snapshot, is_member = bool(row["in_snapshot"]), was_member.get(row["_id"], bool(row["is_member"]))
    if in_snapshot == is_member:
        return None
    return MembershipChange(row["pk"], row["_id"], ChangeKind.ENTERED if is_member else ChangeKind.EXITED)
