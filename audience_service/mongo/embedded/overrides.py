"""The embedded store: an in-memory substitute for MongoDB, for the demo and for unit tests.

It uses mongomock-ng, which evaluates some filters wrongly. The service refuses those filters (UNIMPLEMENTED, with the
reason). For all others, tests/contract requires the answers of a real engine.
"""

import hashlib
import warnings
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import bson
from bson import Decimal128
from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.documents import Documents, cut_documents
from audience_service.domain.core.errors import UnsupportedByStore
from audience_service.domain.core.record import Record
from audience_service.domain.explain.query_plan import ExistingIndex, QueryPlan
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.compiler import compile_node
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.population import Population
from audience_service.domain.history.model import MembershipChange
from audience_service.domain.insights.model import Breakdown
from audience_service.domain.membership.repository import MembershipResults
from audience_service.domain.schema.sample import SAMPLE_SIZE, Sample
from audience_service.domain.snapshots.model import Snapshot
from audience_service.domain.snapshots.repository import RowSummary, SnapshotResult
from audience_service.mongo.audiences.member_lists import MongoLists
from audience_service.mongo.core.collections import SUBSCRIBERS
from audience_service.mongo.embedded.refusals import refuse_unsupported, remove_suppression
from audience_service.mongo.membership.checks import MongoMembershipChecks
from audience_service.mongo.membership.repository import MongoMembers, stream_stages
from audience_service.mongo.query.joins import Stages
from audience_service.mongo.query.pipeline import build_pipeline, execute, key_range_condition
from audience_service.mongo.reach.repository import MongoKeyRanges
from audience_service.mongo.schema.repository import MongoSamples
from audience_service.mongo.snapshots.rows import SAMPLED, MongoSnapshotRows, rows_match, summary_of
from audience_service.mongo.watch.event_log import MongoEventLog


def embedded_database(records: Iterable[Record]) -> Database[dict[str, Any]]:
    """Return a new in-memory database that contains the records.

    Raises UnsupportedByStore if the extra `embedded` is not installed, and for records with decimals.
    """
    try:
        import mongomock_ng.helpers
    except ImportError:
        raise UnsupportedByStore(
            "the embedded store is not installed: set AUDIENCE_MONGODB_URI, or install audience-service[embedded]"
        ) from None
    # mongomock-ng warns that it ignores time limits and batch sizes. In memory neither matters.
    warnings.filterwarnings("ignore", message=r".* is accepted by .* for pymongo compatibility", category=UserWarning)
    # $currentDate stores what this returns, and mongomock-ng compares dates without a timezone.
    mongomock_ng.helpers.utcnow = lambda: datetime.now(UTC).replace(tzinfo=None)
    database: Database[dict[str, Any]] = mongomock_ng.MongoClient(tz_aware=True)["crm"]
    by_collection: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        if _has_decimal(record):
            raise UnsupportedByStore(f"the embedded store does not support decimals, which {record['pk']} contains")
        by_collection.setdefault(record["datatype"], []).append(dict(record))
    for name, documents in by_collection.items():
        database[name].insert_many(documents)
    return database


class EmbeddedMembers(MongoMembers):
    """MongoMembers that refuses unsupported filters. Its methods also raise UnsupportedByStore."""

    def count(self, org: str, population: Population, deadline: Deadline, after: str = "", until: str = "") -> int:
        """As on MongoDB, unless the filter is unsupported."""
        with refuse_unsupported(population):
            return super().count(org, population, deadline, after, until)

    def reach(self, org: str, population: Population, deadline: Deadline) -> tuple[int, Record | None]:
        """As on MongoDB, unless the filter is unsupported."""
        with refuse_unsupported(population):
            return super().reach(org, population, deadline)

    def regions(self, org: str, populations: Sequence[Population], deadline: Deadline) -> Mapping[int, int]:
        """As on MongoDB, unless the filter is unsupported."""
        with ExitStack() as checks:
            for population in populations:
                checks.enter_context(refuse_unsupported(population))
            return super().regions(org, populations, deadline)

    def stream(
        self,
        org: str,
        population: Population,
        paths: Sequence[str],
        batch_size: int,
        after: str,
        deadline: Deadline,
        until: str = "",
    ) -> Generator[list[Record], None, None]:
        """As on MongoDB, unless the filter is unsupported. The store has no undecoded batches."""
        found = population if isinstance(population, MemberList) else self._drop_subscriber_lookups(org, population)
        with refuse_unsupported(found):
            pipeline = build_pipeline(self._database, self._scope, org, found, deadline, key_range_condition("", until))
            records = execute(self._database, pipeline, stream_stages(pipeline, paths, after), deadline)
        for start in range(0, len(records), batch_size):
            deadline.check()
            erased = self._scope.erased_sks(org)
            batch: list[Record] = [
                record for record in records[start : start + batch_size] if record["sk"] not in erased
            ]
            if batch:
                yield batch

    def stream_documents(
        self,
        org: str,
        population: Population,
        paths: Sequence[str],
        batch_size: int,
        after: str,
        deadline: Deadline,
        until: str = "",
    ) -> Generator[Documents, None, None]:
        """Encode the records of `stream`."""
        for records in self.stream(org, population, paths, batch_size, after, deadline, until):
            yield from cut_documents(b"".join(map(bson.encode, records)), batch_size)

    def exclusions(
        self,
        org: str,
        candidates: Population,
        reasons: Sequence[CompiledFilter],
        deadline: Deadline,
        after: str = "",
        until: str = "",
    ) -> Sequence[int]:
        """As on MongoDB, unless the filter is unsupported."""
        simplified = [self._drop_subscriber_lookups(org, reason) for reason in reasons]
        with ExitStack() as checks:
            for population in (candidates, *simplified):
                checks.enter_context(refuse_unsupported(population))
            return super().exclusions(org, candidates, simplified, deadline, after, until)

    def _drop_subscriber_lookups(self, org: str, compiled: CompiledFilter) -> CompiledFilter:
        """Return the filter without lookups of subscribers if the org has no subscriber records."""
        if compiled.joins is None or self._database[SUBSCRIBERS].find_one(self._scope.match(org)):
            return compiled
        return compile_node(compiled.datatype, remove_suppression(compiled.node), compiled.field_path)


class EmbeddedMembershipChecks(MongoMembershipChecks):
    """MongoMembershipChecks that refuses unsupported filters. Its methods also raise UnsupportedByStore."""

    def evaluate(
        self,
        org: str,
        datatype: str,
        populations: Sequence[CompiledFilter],
        ids: Sequence[str],
        paths: Sequence[str],
        deadline: Deadline,
    ) -> MembershipResults:
        """As on MongoDB, unless the filter is unsupported."""
        with ExitStack() as checks:
            for population in populations:
                checks.enter_context(refuse_unsupported(population))
            return super().evaluate(org, datatype, populations, ids, paths, deadline)


class EmbeddedKeyRanges(MongoKeyRanges):
    """MongoKeyRanges that refuses unsupported filters. Its methods also raise UnsupportedByStore."""

    def filter_keys(self, org: str, population: Population, keys: Sequence[str], deadline: Deadline) -> Sequence[str]:
        """As on MongoDB, but read all members: in this store, $in compares every record with every key."""
        requested = frozenset(keys)
        with refuse_unsupported(population):
            pipeline = self._pipeline(org, population, {}, deadline)
            members = execute(self._database, pipeline, pipeline.stages(), deadline)
            return [member["sk"] for member in members if member["sk"] in requested]

    def count_range(self, org: str, population: Population, after: str, until: str, deadline: Deadline) -> int:
        """As on MongoDB, unless the filter is unsupported."""
        with refuse_unsupported(population):
            return super().count_range(org, population, after, until, deadline)

    def first_in_range(
        self, org: str, population: Population, after: str, until: str, deadline: Deadline
    ) -> Record | None:
        """As on MongoDB, unless the filter is unsupported."""
        with refuse_unsupported(population):
            return super().first_in_range(org, population, after, until, deadline)


class EmbeddedLists(MongoLists):
    """MongoLists that refuses unsupported filters. Its methods also raise UnsupportedByStore."""

    def add_members(self, org: str, member_list: MemberList, population: Population, deadline: Deadline) -> None:
        """As on MongoDB, unless the filter is unsupported."""
        with refuse_unsupported(population):
            super().add_members(org, member_list, population, deadline)


class EmbeddedSamples(MongoSamples):
    """MongoSamples for a store that sorts all records for each seek."""

    def sample(self, org: str, datatype: str, deadline: Deadline) -> Sample:
        """Read all records once, and draw from those that are not archived."""
        deadline.check()
        records = list(self._database[datatype].find(self._scope.match(org)))
        active = [record for record in records if record.get("state") not in ("archived", "deleted")]
        drawn = self._new_random().sample(active, min(len(active), SAMPLE_SIZE))
        return Sample(drawn, is_complete=len(records) <= SAMPLE_SIZE)


class EmbeddedEventLog(MongoEventLog):
    """MongoEventLog that refuses unsupported filters. Its methods also raise UnsupportedByStore."""

    def record_members(self, org: str, watch_epoch: str, population: Population, deadline: Deadline) -> None:
        """As on MongoDB, unless the filter is unsupported."""
        with refuse_unsupported(population):
            super().record_members(org, watch_epoch, population, deadline)

    def diff(
        self, org: str, watch_epoch: str, population: Population, deadline: Deadline
    ) -> Generator[list[str], None, None]:
        """As on MongoDB, unless the filter is unsupported."""
        with refuse_unsupported(population):
            yield from super().diff(org, watch_epoch, population, deadline)

    def evaluate(
        self, org: str, watch_epoch: str, population: Population, keys: Sequence[str], deadline: Deadline
    ) -> list[MembershipChange]:
        """As on MongoDB, unless the filter is unsupported."""
        with refuse_unsupported(population):
            return super().evaluate(org, watch_epoch, population, keys, deadline)


class EmbeddedChangeStream:
    """The change stream of a store that reports no changes."""

    def __init__(self, _: Callable[[], None]) -> None:
        """Ignore the function that a change would call."""

    def subscribe(self, org: str, datatype: str) -> None:
        """Ignore the subscription."""

    def close(self) -> None:
        """Do nothing."""


class EmbeddedSnapshotRows(MongoSnapshotRows):
    """MongoSnapshotRows that refuses unsupported filters. Its methods also raise UnsupportedByStore."""

    def write(
        self,
        org: str,
        snapshot: Snapshot,
        candidates: Population,
        reasons: Mapping[str, CompiledFilter],
        deadline: Deadline,
        on_written: Callable[[], None],
    ) -> SnapshotResult:
        """As on MongoDB, unless the filter is unsupported."""
        with ExitStack() as checks:
            for population in (candidates, *reasons.values()):
                checks.enter_context(refuse_unsupported(population))
            return super().write(org, snapshot, candidates, reasons, deadline, on_written)

    def _supports_snapshot_reads(self) -> bool:
        return False

    def _run_write(self, collection: str, stages: Stages, *, single_command: bool) -> Mapping[str, Any]:  # noqa: ARG002
        self._database[collection].aggregate(stages)
        return {}

    def summarize(self, org: str, list_version_id: str, deadline: Deadline) -> dict[str, RowSummary]:  # noqa: ARG002
        """As on MongoDB, but with SHA-256, since the store lacks the hash of hashed indexes."""
        hashes: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for row in self._collection.find(self._scope.match(org, rows_match(list_version_id)), {"audience": 1, "sk": 1}):
            hashes[row["audience"]][row["sk"]] = int.from_bytes(hashlib.sha256(row["sk"].encode()).digest()[:8])
        summaries = {}
        for audience, found in hashes.items():
            total = sum(found.values())
            sampled = [sk for sk, hashed in found.items() if hashed % SAMPLED == 0]
            summaries[audience] = summary_of(len(found), total >> 32, total, sampled)
        return summaries


class EmbeddedPlans:
    """The PlanRepository of a store that uses no indexes, and whose explain is fictitious."""

    def plan(
        self,
        org: str,  # noqa: ARG002
        population: Population,
        deadline: Deadline,  # noqa: ARG002
        *,
        analyze: bool,  # noqa: ARG002
        force_lookup: bool = False,  # noqa: ARG002
    ) -> QueryPlan | None:
        """None. Raise UnsupportedByStore if the filter is unsupported."""
        with refuse_unsupported(population):
            return None

    def hash_text(self, *_: Any) -> int:
        """Raise UnsupportedByStore."""
        raise UnsupportedByStore("the embedded store does not support $toHashedIndexKey; use a MongoDB for buckets")

    def indexes(self, *_: Any) -> Sequence[ExistingIndex]:
        """No indexes."""
        return ()


class EmbeddedInsights:
    """The InsightRepository of a store that cannot rank or accumulate values."""

    def breakdown(self, *_: Any) -> Breakdown:
        """Raise UnsupportedByStore."""
        raise UnsupportedByStore("the embedded store does not support $setWindowFields; use a MongoDB for insights")


class EmbeddedLookalikes:
    """The LookalikeRepository of a store that has neither hashes nor ranks. Every method raises UnsupportedByStore."""

    def _refuse(self, *_: Any) -> Any:
        raise UnsupportedByStore("the embedded store does not support $setWindowFields; use a MongoDB for lookalikes")

    check_supported = feature_stats = seed_counts = moment_sums = scores = seed_scores = write = _refuse


def _has_decimal(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_decimal, value.values()))
    return any(map(_has_decimal, value)) if isinstance(value, list) else isinstance(value, Decimal128)
