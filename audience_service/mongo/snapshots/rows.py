"""Rows of snapshots: the database writes, counts, digests and compares them.

The digest of rows is a sum of hashes of their sk, so it does not depend on their order. The hash is that of hashed
indexes. Two remainders of it are summed separately: each sum is exact for two billion rows, and both give 64 bits.

The difference of two snapshots is computed in slices of sk. One command over all rows would group all of them before
its first result. A slice fits the database's memory, the first result comes soon, and a stream that resumes repeats
only its last slice. The slices end at keys of both snapshots, which their manifests contain: to find them in the rows
takes as long as half of the difference. They are chosen from rows that are sampled by the hash, while it is summed.
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
from audience_service.domain.snapshots.repository import Difference, RowSummary, SnapshotResult
from audience_service.mongo.core.cluster_time import cluster_time_of, supports_snapshot_reads
from audience_service.mongo.core.collections import LISTS
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import TenantScope, complete_org_match
from audience_service.mongo.query.joins import Stages
from audience_service.mongo.query.pipeline import Pipeline, build_pipeline, key_range_condition, run

RETENTION_GRACE = timedelta(hours=1)
"""Rows outlive their manifest by this time, so that a reader that found the manifest can read all rows."""

_HISTORY_UNAVAILABLE_CODES = frozenset((239, 246))
"""SnapshotTooOld, SnapshotUnavailable."""

_MODULI = (4_294_967_291, 4_294_967_279)
"""The two largest primes below 2^32."""
_32_BITS = 2**32 - 1

SLICE_SIZE, SAMPLED = 100_000, 4_096
"""About the most rows of each snapshot that one command compares, and the number of which one is sampled.

A slice has 24 samples: its size varies by a fifth. It takes a few dozen MB of the 100 MB that a group may take.
"""

CURSOR_BATCH_SIZE = 10_000


class MongoSnapshotRows:
    """The SnapshotRowRepository on MongoDB; domain/snapshots/repository.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope
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
        """Run one pipeline that ends in $merge, so that no record leaves the database."""
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
        summaries = self.summarize(org, snapshot.list_version_id, deadline)
        summary = summaries.get(snapshot.list_version_id, RowSummary())
        exclusions = {
            reason: summaries.get(name, RowSummary()).count for reason, name in zip(reasons, names, strict=True)
        }
        # Inlined values were read before the command.
        point_in_time = single_command and not any(found.joins.has_prefetched for found in pipelines)
        return SnapshotResult(summary, exclusions, cluster_time_of(answer) or read_at, point_in_time)

    def delete(self, org: str, list_version_id: str, deadline: Deadline) -> None:
        """Delete by the index on the audience."""
        with with_deadline(self._database, deadline):
            self._collection.delete_many(complete_org_match(org, rows_match(list_version_id)))

    def diff(
        self, org: str, first: Snapshot, second: Snapshot, batch_size: int, after: str, deadline: Deadline
    ) -> Generator[list[Difference], None, None]:
        """Run one command for each slice."""
        ends = sorted(end for end in {*first.slice_ends, *second.slice_ends} if end > after)
        for until in (*ends, ""):
            with with_deadline(self._database, deadline):
                rows = self._collection.aggregate(
                    _diff_stages(self._scope, org, first, second, key_range_condition(after, until)),
                    batchSize=max(batch_size, CURSOR_BATCH_SIZE),
                    allowDiskUse=True,
                )
            with closing(rows):
                while batch := self._diff_batch(rows, batch_size, deadline):
                    erased = self._scope.erased_sks(org)  # the command may be older than a tombstone
                    if present := [found for found in batch if found.sk not in erased]:
                        yield present
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
        """Return the pipeline of the candidates, and one per reason of the candidates that it excludes."""
        base_filter = to_filter(candidates)
        populations = [candidates, *(intersection(base_filter, reason) for reason in reasons.values())]
        # A command with several filters has half the usual space for lists.
        join_count = sum(1 for found in populations if isinstance(found, CompiledFilter) and found.joins)
        budget_divisor = max(2 * join_count, 1) if reasons else 1
        return [
            build_pipeline(
                self._database,
                self._scope,
                org,
                found,
                deadline,
                budget_divisor=budget_divisor,
                single_command=single_command,
            )
            for found in populations
        ]

    def _supports_snapshot_reads(self) -> bool:
        return supports_snapshot_reads(self._database.client.topology_description)

    def _run_write(self, collection: str, stages: Stages, *, single_command: bool) -> Mapping[str, Any]:
        """Run a pipeline that writes, as a raw command: the driver's `aggregate` does not return the cluster time."""
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
                "the snapshot took longer than the database keeps its history; raise minSnapshotHistoryWindowInSeconds"
            ) from error
        if "writeConcernError" in answer:
            raise StoreUnavailable("the database did not confirm that a majority has the members; try again")
        return answer

    def summarize(self, org: str, list_version_id: str, deadline: Deadline) -> dict[str, RowSummary]:
        """Return the summary of the rows per `audience`."""
        hashed = {"$toHashedIndexKey": "$sk"}
        remainders = [{"$mod": [hashed, modulus]} for modulus in _MODULI]
        first, second = ({"$sum": remainder} for remainder in remainders)
        # Early releases of MongoDB miss that the hash reads sk (SERVER-58047). `last` makes them read it.
        # The hash itself may have equal last bits on some engines.
        sampled = {"$cond": [{"$eq": [{"$mod": [remainders[0], SAMPLED]}, 0]}, "$sk", "$$REMOVE"]}
        group = {
            "_id": "$audience",
            "n": {"$sum": 1},
            "first": first,
            "second": second,
            "sampled": {"$push": sampled},
            "last": {"$max": "$sk"},
        }
        stages: Stages = [{"$match": self._scope.match(org, rows_match(list_version_id))}, {"$group": group}]
        with with_deadline(self._database, deadline):
            rows = self._collection.aggregate(stages, allowDiskUse=True)
            return {row["_id"]: summary_of(row["n"], row["first"], row["second"], row["sampled"]) for row in rows}

    def _diff_batch(self, rows: Iterator[dict[str, Any]], size: int, deadline: Deadline) -> list[Difference]:
        with with_deadline(self._database, deadline):
            return [Difference(row["pk"], row["_id"], entered=row["bits"] == 2) for row in itertools.islice(rows, size)]


def summary_of(count: int, first: int, second: int, sampled: Sequence[str]) -> RowSummary:
    """Return the summary of rows by their number, the sums of both remainders, and the sampled sk.

    The digest has 16 hexadecimal digits.
    """
    digest = f"{(int(first) & _32_BITS) << 32 | int(second) & _32_BITS:016x}"
    step = max(SLICE_SIZE * len(sampled) // max(int(count), 1), 1)
    return RowSummary(int(count), digest, tuple(sorted(sampled)[step - 1 :: step]))


def _merge_stage(*, single_command: bool) -> Document:
    """Return the stage that writes the rows, which are new.

    A snapshot read yields each record once, so plain inserts suffice, which are faster. Otherwise, a scan may yield a
    record twice that is written concurrently.
    """
    when_matched = "fail" if single_command else "keepExisting"
    return {"$merge": {"into": LISTS, "on": "_id", "whenMatched": when_matched, "whenNotMatched": "insert"}}


def _deduplicate(pipelines: Sequence[Pipeline], names: Sequence[str]) -> Stages:
    """Return the stages that yield each candidate once, as pk, sk and `audience`.

    `audience` is the name of the first reason that excludes it, or the last name if none does. Each pipeline yields its
    records with the rank of its name. Grouping by sk ensures one name per candidate, even if it changes concurrently.
    """
    stages: Stages = []
    last = len(names) - 1
    for rank, pipeline in zip((last, *range(last)), pipelines, strict=True):
        rank_fields = {"rank": {"$literal": rank}, "candidate": {"$literal": int(rank == last)}}
        ranked_rows = [*pipeline.stages(), {"$project": {"_id": 0, "pk": 1, "sk": 1, **rank_fields}}]
        stages += [{"$unionWith": {"coll": pipeline.collection, "pipeline": ranked_rows}}] if stages else ranked_rows
    first = {"pk": {"$first": "$pk"}, "rank": {"$min": "$rank"}, "candidate": {"$max": "$candidate"}}
    audience = {"$arrayElemAt": [{"$literal": list(names)}, "$rank"]}
    return [
        *stages,
        {"$group": {"_id": "$sk", **first}},
        {"$match": {"candidate": 1}},
        {"$project": {"_id": 0, "pk": 1, "sk": "$_id", "audience": audience}},
    ]


def _row_stage(snapshot: Snapshot, audience: Document | str) -> Document:
    """Return the stage that turns a record into a row of a snapshot."""
    project = {
        "_id": {"$concat": [audience, "/", "$sk"]},
        "audience": audience,
        "pk": 1,
        "sk": 1,
        "expire_at": {"$literal": snapshot.expires_at + RETENTION_GRACE},
    }
    return {"$project": project}


def rows_match(list_version_id: str) -> Document:
    """Return the match of an attempt's rows. Their `audience` is its id, or its id, "!" and a reason."""
    return {"audience": {"$gte": list_version_id, "$lt": f'{list_version_id}"'}}


def _diff_stages(scope: TenantScope, org: str, first: Snapshot, second: Snapshot, key_range: Document) -> Stages:
    """Return the stages that sum a bit per snapshot for each sk: 1 is only in the first, 2 only in the second."""
    return [
        *_bit_rows(scope, org, first, key_range, 1),
        {"$unionWith": {"coll": LISTS, "pipeline": _bit_rows(scope, org, second, key_range, 2)}},
        {"$group": {"_id": "$sk", "pk": {"$first": "$pk"}, "bits": {"$sum": "$bit"}}},
        {"$match": {"bits": {"$in": [1, 2]}}},
        {"$sort": {"_id": 1}},
    ]


def _bit_rows(scope: TenantScope, org: str, snapshot: Snapshot, key_range: Document, bit: int) -> Stages:
    match = scope.match(org, {"audience": snapshot.list_version_id}, key_range)
    return [{"$match": match}, {"$project": {"_id": 0, "pk": 1, "sk": 1, "bit": {"$literal": bit}}}]
