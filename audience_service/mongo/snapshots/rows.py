"""The rows of snapshots: written, counted and digested by the database.

The digest of some rows is the sum of hashes of their sk, which is the same in any order. The hash is that of hashed
indexes, of which two remainders are summed up: each sum is exact for two billion rows, together they hold 64 bits.
"""

import itertools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any

from pymongo.database import Database
from pymongo.errors import OperationFailure

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import StoreUnavailable
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.population import Population
from audience_service.domain.filters.set_operations import intersection, to_filter
from audience_service.domain.snapshots.model import Snapshot
from audience_service.domain.snapshots.repository import Difference, SnapshotResult
from audience_service.mongo.core.cluster_time import cluster_time_of, supports_snapshot_reads
from audience_service.mongo.core.collections import LISTS
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import tenant_match
from audience_service.mongo.query.joins import Stages
from audience_service.mongo.query.pipeline import Pipeline, build_pipeline, key_range_condition, run

RETENTION_GRACE = timedelta(hours=1)
"""Rows go so much later than their manifest, so that what began to read them before it went reads all of them."""

_HISTORY_UNAVAILABLE_CODES = frozenset((239, 246))
"""SnapshotTooOld, SnapshotUnavailable."""

_MODULI = (4_294_967_291, 4_294_967_279)
"""The two largest primes below 2^32."""
_32_BITS = 2**32 - 1

_SLICE_SIZE = 100_000
"""The most rows of each snapshot that one command compares: a few dozen MB of the 100 MB that a group may take."""

_CURSOR_BATCH_SIZE = 10_000


class MongoSnapshotRows:
    """The FrozenRepository on MongoDB; domain/snapshots/repository.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._collection = database[LISTS]

    def write(
        self,
        org: str,
        snapshot: Snapshot,
        candidates: Population,
        reasons: Mapping[str, CompiledFilter],
        deadline: Deadline,
        on_written: Callable[[], None],
    ) -> SnapshotResult:
        """One pipeline that ends in $merge: no record leaves the database."""
        single_command = self._supports_snapshot_reads()
        pipelines = self._build_pipelines(org, candidates, reasons, deadline, single_command=single_command)
        pipeline = pipelines[0]
        names = [f"{snapshot.list_version_id}!{reason}" for reason in reasons]
        found = _deduplicate(pipelines, [*names, snapshot.list_version_id]) if reasons else pipeline.stages()
        row = _row_stage(snapshot, "$audience" if reasons else {"$literal": snapshot.list_version_id})
        riskiest = next((found for found in pipelines if found.may_fail), pipeline)
        with run(self._database, riskiest, deadline):
            stages = [*found, row, _merge_stage(single_command=single_command)]
            read_at, answer = now(), self._run_write(pipeline.collection, stages, single_command=single_command)
        on_written()
        measured = self._count_and_digest(org, snapshot.list_version_id, deadline)
        count, digest = measured.pop(snapshot.list_version_id, (0, digest_of(0, 0)))
        exclusions = {reason: measured.get(name, (0, ""))[0] for reason, name in zip(reasons, names, strict=True)}
        # Lists that went into the command were read before it.
        point_in_time = single_command and not any(found.joins.has_prefetched for found in pipelines)
        return SnapshotResult(count, digest, exclusions, cluster_time_of(answer) or read_at, point_in_time)

    def delete(self, org: str, list_version_id: str, deadline: Deadline) -> None:
        """By the index on the audience."""
        with with_deadline(self._database, deadline):
            self._collection.delete_many(tenant_match(org, rows_match(list_version_id)))

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
                    batchSize=max(batch_size, _CURSOR_BATCH_SIZE),
                    allowDiskUse=True,
                )
            with closing(rows):
                while batch := self._diff_batch(rows, batch_size, deadline):
                    yield batch
            if not until:
                return
            after = until

    def _build_pipelines(
        self,
        org: str,
        candidates: Population,
        reasons: Mapping[str, CompiledFilter],
        deadline: Deadline,
        *,
        single_command: bool,
    ) -> list[Pipeline]:
        """Those of the candidates, and of the candidates for whom each reason holds."""
        base_filter = to_filter(candidates)
        populations = [candidates, *(intersection(base_filter, reason) for reason in reasons.values())]
        # A command that holds several filters has room for half the usual lists.
        join_count = sum(1 for found in populations if isinstance(found, CompiledFilter) and found.joins)
        budget_divisor = max(2 * join_count, 1) if reasons else 1
        return [
            build_pipeline(
                self._database, org, found, deadline, budget_divisor=budget_divisor, single_command=single_command
            )
            for found in populations
        ]

    def _supports_snapshot_reads(self) -> bool:
        return supports_snapshot_reads(self._database.client.topology_description)

    def _run_write(self, collection: str, stages: Stages, *, single_command: bool) -> Mapping[str, Any]:
        """Run a pipeline that writes: as a bare command, since the driver keeps the answer's instant to itself."""
        command: Document = {"aggregate": collection, "pipeline": stages, "cursor": {}, "allowDiskUse": True}
        read_concern = {"level": "snapshot"} if single_command else self._database.read_concern.document
        write_concern = self._database.write_concern.document
        command |= {"readConcern": read_concern} if read_concern else {}
        command |= {"writeConcern": write_concern} if write_concern else {}
        try:
            answer: Mapping[str, Any] = self._database.command(command)
        except OperationFailure as error:
            if error.code not in _HISTORY_UNAVAILABLE_CODES:
                raise
            raise StoreUnavailable(
                "the database keeps its history for less time than this takes (minSnapshotHistoryWindowInSeconds)"
            ) from error
        if "writeConcernError" in answer:
            raise StoreUnavailable("the database could not make sure that the members are kept; try again")
        return answer

    def _count_and_digest(self, org: str, list_version_id: str, deadline: Deadline) -> dict[str, tuple[int, str]]:
        """Count and digest by what the rows carry."""
        hashed = {"$toHashedIndexKey": "$sk"}
        first, second = ({"$sum": {"$mod": [hashed, modulus]}} for modulus in _MODULI)
        # Early releases of MongoDB do not see that the hash reads sk (SERVER-58047), hence `last`.
        group = {"_id": "$audience", "n": {"$sum": 1}, "first": first, "second": second, "last": {"$max": "$sk"}}
        stages: Stages = [{"$match": tenant_match(org, rows_match(list_version_id))}, {"$group": group}]
        with with_deadline(self._database, deadline):
            rows = self._collection.aggregate(stages, allowDiskUse=True)
            return {row["_id"]: (int(row["n"]), digest_of(row["first"], row["second"])) for row in rows}

    def _slice_end(self, org: str, snapshot: Snapshot, after: str, deadline: Deadline) -> str:
        """The sk of the last row of a whole slice of one snapshot; empty where it has no more than that."""
        if snapshot.count <= _SLICE_SIZE:
            return ""
        match = tenant_match(org, {"audience": snapshot.list_version_id}, key_range_condition(after, ""))
        with with_deadline(self._database, deadline):
            rows = self._collection.find(match, {"_id": 0, "sk": 1}, sort=[("sk", 1)], skip=_SLICE_SIZE - 1, limit=1)
            return next((str(row["sk"]) for row in rows), "")

    def _diff_batch(self, rows: Iterator[dict[str, Any]], size: int, deadline: Deadline) -> list[Difference]:
        with with_deadline(self._database, deadline):
            return [Difference(row["pk"], row["_id"], entered=row["bits"] == 2) for row in itertools.islice(rows, size)]


def digest_of(first: int, second: int) -> str:
    """The digest, from the sums of two remainders: 16 hexadecimal digits."""
    return f"{(int(first) & _32_BITS) << 32 | int(second) & _32_BITS:016x}"


def _merge_stage(*, single_command: bool) -> Document:
    """What writes the rows. They are new: as of one instant it takes no more than inserts, which cost MongoDB less.

    Without one, a scan may meet a record twice that is written to meanwhile.
    """
    when_matched = "fail" if single_command else "keepExisting"
    return {"$merge": {"into": LISTS, "on": "_id", "whenMatched": when_matched, "whenNotMatched": "insert"}}


def _deduplicate(pipelines: Sequence[Pipeline], names: Sequence[str]) -> Stages:
    """The candidates as pk, sk and `audience`: the name of the first reason that holds, the last name where none does.

    Records come from each pipeline with the place of its name, and are grouped: one that changes meanwhile is a
    candidate once, with one name.
    """
    stages: Stages = []
    last = len(names) - 1
    for rank, pipeline in zip((last, *range(last)), pipelines, strict=True):
        rank_fields = {"place": {"$literal": rank}, "candidate": {"$literal": int(rank == last)}}
        ranked_rows = [*pipeline.stages(), {"$project": {"_id": 0, "pk": 1, "sk": 1, **rank_fields}}]
        stages += [{"$unionWith": {"coll": pipeline.collection, "pipeline": ranked_rows}}] if stages else ranked_rows
    first = {"pk": {"$first": "$pk"}, "place": {"$min": "$place"}, "candidate": {"$max": "$candidate"}}
    audience = {"$arrayElemAt": [{"$literal": list(names)}, "$place"]}
    return [
        *stages,
        {"$group": {"_id": "$sk", **first}},
        {"$match": {"candidate": 1}},
        {"$project": {"_id": 0, "pk": 1, "sk": "$_id", "audience": audience}},
    ]


def _row_stage(snapshot: Snapshot, audience: Document | str) -> Document:
    """A record as a row of a snapshot."""
    project = {
        "_id": {"$concat": [audience, "/", "$sk"]},
        "audience": audience,
        "pk": 1,
        "sk": 1,
        "expire_at": {"$literal": snapshot.expires_at + RETENTION_GRACE},
    }
    return {"$project": project}


def rows_match(list_version_id: str) -> Document:
    """What the rows of an attempt carry: its id, or that with "!" and a reason behind it."""
    return {"audience": {"$gte": list_version_id, "$lt": f'{list_version_id}"'}}


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
