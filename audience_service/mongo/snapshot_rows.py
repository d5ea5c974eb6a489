"""The rows of snapshots: written, counted and digested by the database.

The digest of some rows is the sum of hashes of their sk, which is the same in any order. The hash is that of hashed
indexes, of which two remainders are summed up: each sum is exact for two billion rows, together they hold 64 bits.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from pymongo.database import Database
from pymongo.errors import OperationFailure

from audience_service.domain.caller import Deadline
from audience_service.domain.clock import now
from audience_service.domain.errors import StoreUnavailable
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.sets import as_filter, intersection
from audience_service.domain.ports import Population
from audience_service.domain.snapshots.ports import Frozen
from audience_service.domain.snapshots.snapshot import Snapshot
from audience_service.mongo.collections import LISTS
from audience_service.mongo.failures import limited
from audience_service.mongo.instants import has_instants, instant_of
from audience_service.mongo.joins import Stages
from audience_service.mongo.pipeline import Pipeline, read_pipeline, running
from audience_service.mongo.scope import scoped

OUTLIVE = timedelta(hours=1)
"""Rows go so much later than their manifest, so that what began to read them before it went reads all of them."""

_HISTORY_GONE = frozenset((239, 246))
"""SnapshotTooOld, SnapshotUnavailable."""

_MODULI = (4_294_967_291, 4_294_967_279)
"""The two largest primes below 2^32."""
_32_BITS = 2**32 - 1


class MongoFrozen:
    """The FrozenRepository on MongoDB; domain/snapshots/ports.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._collection = database[LISTS]

    def freeze(
        self,
        org: str,
        snapshot: Snapshot,
        candidates: Population,
        reasons: Mapping[str, CompiledFilter],
        deadline: Deadline,
        on_written: Callable[[], None],
    ) -> Frozen:
        """One pipeline that ends in $merge: no record leaves the database."""
        at_once = self._has_instants()
        pipelines = self._pipelines(org, candidates, reasons, deadline, at_once=at_once)
        pipeline = pipelines[0]
        names = [f"{snapshot.rows_id}!{reason}" for reason in reasons]
        found = _told_apart(pipelines, [*names, snapshot.rows_id]) if reasons else pipeline.stages()
        row = _row(snapshot, "$audience" if reasons else {"$literal": snapshot.rows_id})
        riskiest = next((found for found in pipelines if found.may_fail), pipeline)
        with running(self._database, riskiest, deadline):
            stages = [*found, row, _merge(at_once=at_once)]
            read_at, answer = now(), self._write(pipeline.collection, stages, at_once=at_once)
        on_written()
        counted = self._measure(org, snapshot.rows_id, deadline)
        count, digest = counted.pop(snapshot.rows_id, (0, digest_of(0, 0)))
        exclusions = {reason: counted.get(name, (0, ""))[0] for reason, name in zip(reasons, names, strict=True)}
        # Lists that went into the command were read before it.
        whole = at_once and not any(found.joins.is_read_before for found in pipelines)
        return Frozen(count, digest, exclusions, instant_of(answer) or read_at, whole)

    def drop(self, org: str, rows_id: str, deadline: Deadline) -> None:
        """By the index on the audience."""
        with limited(self._database, deadline):
            self._collection.delete_many(scoped(org, rows_of(rows_id)))

    def _pipelines(
        self,
        org: str,
        candidates: Population,
        reasons: Mapping[str, CompiledFilter],
        deadline: Deadline,
        *,
        at_once: bool,
    ) -> list[Pipeline]:
        """Those of the candidates, and of the candidates for whom each reason holds."""
        kept = as_filter(candidates)
        populations = [candidates, *(intersection(kept, reason) for reason in reasons.values())]
        # A command that holds several filters has room for half the usual lists.
        holding = sum(1 for found in populations if isinstance(found, CompiledFilter) and found.joined)
        share = max(2 * holding, 1) if reasons else 1
        return [
            read_pipeline(self._database, org, found, deadline, share=share, at_once=at_once) for found in populations
        ]

    def _has_instants(self) -> bool:
        return has_instants(self._database.client.topology_description)

    def _write(self, collection: str, stages: Stages, *, at_once: bool) -> Mapping[str, Any]:
        """Run a pipeline that writes: as a bare command, since the driver keeps the answer's instant to itself."""
        command: Document = {"aggregate": collection, "pipeline": stages, "cursor": {}, "allowDiskUse": True}
        concern = {"level": "snapshot"} if at_once else self._database.read_concern.document
        wait = self._database.write_concern.document
        command |= {"readConcern": concern} if concern else {}
        command |= {"writeConcern": wait} if wait else {}
        try:
            answer: Mapping[str, Any] = self._database.command(command)
        except OperationFailure as error:
            if error.code not in _HISTORY_GONE:
                raise
            raise StoreUnavailable(
                "the database keeps its history for less time than this takes (minSnapshotHistoryWindowInSeconds)"
            ) from error
        if "writeConcernError" in answer:
            raise StoreUnavailable("the database could not make sure that the members are kept; try again")
        return answer

    def _measure(self, org: str, rows_id: str, deadline: Deadline) -> dict[str, tuple[int, str]]:
        """Count and digest by what the rows carry."""
        hashed = {"$toHashedIndexKey": "$sk"}
        first, second = ({"$sum": {"$mod": [hashed, modulus]}} for modulus in _MODULI)
        # Early releases of MongoDB do not see that the hash reads sk (SERVER-58047), hence `last`.
        group = {"_id": "$audience", "n": {"$sum": 1}, "first": first, "second": second, "last": {"$max": "$sk"}}
        stages: Stages = [{"$match": scoped(org, rows_of(rows_id))}, {"$group": group}]
        with limited(self._database, deadline):
            rows = self._collection.aggregate(stages, allowDiskUse=True)
            return {row["_id"]: (int(row["n"]), digest_of(row["first"], row["second"])) for row in rows}


def digest_of(first: int, second: int) -> str:
    """The digest, from the sums of two remainders: 16 hexadecimal digits."""
    return f"{(int(first) & _32_BITS) << 32 | int(second) & _32_BITS:016x}"


def _merge(*, at_once: bool) -> Document:
    """What writes the rows. They are new: as of one instant it takes no more than inserts, which cost MongoDB less.

    Without one, a scan may meet a record twice that is written to meanwhile.
    """
    matched = "fail" if at_once else "keepExisting"
    return {"$merge": {"into": LISTS, "on": "_id", "whenMatched": matched, "whenNotMatched": "insert"}}


def _told_apart(pipelines: Sequence[Pipeline], names: Sequence[str]) -> Stages:
    """The candidates as pk, sk and `audience`: the name of the first reason that holds, the last name where none does.

    Records come from each pipeline with the place of its name, and are grouped: one that changes meanwhile is a
    candidate once, with one name.
    """
    stages: Stages = []
    none = len(names) - 1
    for place, pipeline in zip((none, *range(none)), pipelines, strict=True):
        marks = {"place": {"$literal": place}, "candidate": {"$literal": int(place == none)}}
        marked = [*pipeline.stages(), {"$project": {"_id": 0, "pk": 1, "sk": 1, **marks}}]
        stages += [{"$unionWith": {"coll": pipeline.collection, "pipeline": marked}}] if stages else marked
    first = {"pk": {"$first": "$pk"}, "place": {"$min": "$place"}, "candidate": {"$max": "$candidate"}}
    audience = {"$arrayElemAt": [{"$literal": list(names)}, "$place"]}
    return [
        *stages,
        {"$group": {"_id": "$sk", **first}},
        {"$match": {"candidate": 1}},
        {"$project": {"_id": 0, "pk": 1, "sk": "$_id", "audience": audience}},
    ]


def _row(snapshot: Snapshot, audience: Document | str) -> Document:
    """A record as a row of a snapshot."""
    project = {
        "_id": {"$concat": [audience, "/", "$sk"]},
        "audience": audience,
        "pk": 1,
        "sk": 1,
        "expire_at": {"$literal": snapshot.expire_time + OUTLIVE},
    }
    return {"$project": project}


def rows_of(rows_id: str) -> Document:
    """What the rows of an attempt carry: its id, or that with "!" and a reason behind it."""
    return {"audience": {"$gte": rows_id, "$lt": f'{rows_id}"'}}
