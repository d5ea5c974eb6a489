"""The pipeline that yields a population's records. Counts, streams, lists and all other readers use the same stages.

Worked example. A population is a filter or a member list. For the filter of joins.py, the stages of a stream that
continues after the sk "acme/contact/3" are:

    $match  {sk: {$gte: "acme/", $lt: "acme0"},                    the tenant scope
             $and: [{sk: {$gt: "acme/contact/3"}},                 the cursor
                    {$and: [{"data.score": {$gte: 50}}, ...]},     the compiled filter, with the active guard
                    {sk: {$in: [...]}}]}                           the joins that were inlined
    $sort   {sk: 1}                                                only for ordered streams
    $lookup, $match, $unset                                        the other joins

For the member list "segment-vip", the same stream reads the rows of the list, and joins each with its record:

    $match  {sk: {$gte: "acme/", $lt: "acme0"}, $and: [{audience: "segment-vip"}, {sk: {$gt: "acme/contact/3"}}]}
    $sort   {sk: 1}
    $lookup, $unwind, $replaceRoot                                 the record of each row
    $match  {state: {$nin: ["archived", "deleted"]}}

Invariants:

1. The first stage restricts the pipeline to the org, after compilation, so no filter can escape it.
2. Sorting comes before joins, so that the index on sk provides the order.
3. A count is these stages and `$count`, so it equals the number of streamed members. If the values of a relation exceed
   a command, several commands count the same records in parts, or one group of all values does.
4. A list with `include_inactive` yields its rows (pk and sk) without reading the records.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pymongo.collection import Collection
from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import ExpressionFailed
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.ast import Node, OnList, Related, Suppressed, joins
from audience_service.domain.filters.compiler import NOT_ARCHIVED_MATCH
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.population import Population
from audience_service.mongo.core.collections import LISTS
from audience_service.mongo.core.errors import map_driver_errors, retry_read, with_deadline
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.query.expression_failures import find_failure
from audience_service.mongo.query.join_prefetch import (
    Candidates,
    PrefetchedFilter,
    PrefetchedJoins,
    count_by_value_stages,
    prefetch_joins,
)
from audience_service.mongo.query.joins import (
    MAX_INLINE_BYTES,
    Joins,
    Stages,
    build_joins,
    read_all_addresses,
)
from audience_service.mongo.query.lookups import source

_MAX_ROWS_TRIED = 100
"""Rows of a list with inactive members that are tried to find one existing record."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages of a population's records, restricted to one org."""

    scope: TenantScope
    org: str
    population: Population
    joins: Joins
    key_range: Document = field(default_factory=dict)
    """A further condition on sk, which restricts the pipeline to a key range."""

    @property
    def collection(self) -> str:
        """The collection that the stages run on."""
        return LISTS if isinstance(self.population, MemberList) else self.population.datatype

    @property
    def reads_lists(self) -> bool:
        """Whether the stages read rows of lists."""
        return isinstance(self.population, MemberList) or self.joins.reads_lists

    @property
    def may_fail(self) -> bool:
        """Whether the filter has expressions that can fail on a record. Any other failure is a defect."""
        return isinstance(self.population, CompiledFilter) and self.population.has_expressions

    @property
    def record_condition(self) -> Document | None:
        """The condition that identifies members among the org's records, or None if it needs other collections."""
        if isinstance(self.population, MemberList) or self.joins.stages:
            return None
        conditions = [part for part in (self.population.match, self.joins.inline_match) if part]
        return {"$and": conditions} if len(conditions) > 1 else dict(*conditions)

    def stages(self, *, after: str = "", ordered: bool = False, keep_lookups: bool = False) -> Stages:
        """Return the stages that yield the records after the sk `after`. `keep_lookups` keeps the joined fields.

        A compiled filter decides itself whether archived records match. A member list yields only records that are not
        archived, unless it has `include_inactive`: then it yields its rows, pk and sk.
        """
        after_key: Document = {"sk": {"$gt": after}} if after else {}
        sort: Stages = [{"$sort": {"sk": 1}}] if ordered else []
        match self.population:
            case CompiledFilter(_, match):
                conditions = (self.key_range, after_key, match, self.joins.inline_match)
                lookups = self.joins.lookup_stages if keep_lookups else self.joins.stages
                return [{"$match": self.scope.match(self.org, *conditions)}, *sort, *lookups]
            case MemberList(audience_id, datatype):
                list_match = {
                    "$match": self.scope.match(self.org, {"audience": audience_id}, self.key_range, after_key)
                }
                records = [] if self.population.include_inactive else _record_stages(datatype)
                return [list_match, *sort, *records, *(self.joins.lookup_stages if keep_lookups else [])]

    def project_stages(self, paths: Sequence[str]) -> Stages:
        """Return the stages that follow to project each record to pk, sk and the paths, none inside another.

        For a list with inactive members, the values are those of the current records. A deleted record has only pk and
        sk.
        """
        projection = {"$project": {"_id": 0, "pk": 1, "sk": 1, **dict.fromkeys(paths, 1)}}
        if not (isinstance(self.population, MemberList) and self.population.include_inactive and paths):
            return [projection]
        return [*join_records(self.population.datatype, ("pk", "sk")), projection]

    def first_stages(self) -> Stages:
        """Return the stages that yield the record of any one member, or no document if there are no members.

        For a list with inactive members, they try its first 100 rows for a record that is not deleted.
        """
        if isinstance(self.population, MemberList) and self.population.include_inactive:
            rows = [*self.stages(), {"$limit": _MAX_ROWS_TRIED}]
            present = {"$match": {"state": {"$ne": "deleted"}}}
            return [*rows, *_joined_records(self.population.datatype), present, {"$limit": 1}]
        return [*self.stages(), {"$limit": 1}]

    def count_stages(self) -> Stages:
        """Return the stages that yield the count as `n` of one document, or no document if the count is 0."""
        if isinstance(self.population, CompiledFilter) and (join := self.joins.counted_join):
            match = self._match_without(self.population, join)
            return [match, *count_by_value_stages(self.scope, self.org, join)]
        # Unlike the count command, $count is also correct on sharded clusters.
        return [*self.stages(), {"$count": "n"}]

    def counts_in_parts(self) -> Iterator[Stages]:
        """Yield the stages of each command whose counts, as those of `count_stages`, add up to the count.

        That is one command, unless a relation's values are counted in parts.
        """
        join = self.joins.counted_join
        parts = self.joins.prefetched.oversized[id(join)] if join else ()
        if join and parts and isinstance(self.population, CompiledFilter):
            for part in parts:
                yield [self._match_without(self.population, join, part.condition(join.local)), {"$count": "n"}]
        else:
            yield self.count_stages()

    def _match_without(self, population: CompiledFilter, join: Related, *conditions: Document) -> Document:
        """Return the match of the records that meet the filter without one of its joins, and further conditions."""
        others = (self.key_range, population.match, self.joins.match_without(join))
        return {"$match": self.scope.match(self.org, *others, *conditions)}


def build_pipeline(
    database: Database[dict[str, Any]],
    scope: TenantScope,
    org: str,
    population: Population,
    deadline: Deadline,
    key_range: Document | None = None,
    *,
    budget_divisor: int = 1,
    extra_nodes: Sequence[Node] = (),
    force_lookup: bool = False,
    single_command: bool = False,
    for_count: bool = False,
) -> Pipeline:
    """Return the pipeline of a population, and read the values that joins inline.

    - `key_range` is a condition on sk. It also restricts the lists that are read.
    - `budget_divisor` is the number of filters that share the space of one command.
    - `extra_nodes` are further nodes to evaluate on each record found.
    - `force_lookup` looks up related records instead of prefetching them, for pipelines that read few records.
    - `single_command` leaves suppressed addresses to the command, as far as they are in normal form, so that it reads
      them in its own snapshot.
    - `for_count` reads the values of related records for a count, as `prefetch_joins` does.

    Raises what `run` raises.
    """
    node = population.joins if isinstance(population, CompiledFilter) else None
    if node is None and not extra_nodes:
        return Pipeline(scope, org, population, Joins(scope, org, None, {}), key_range or {})
    read = population if isinstance(population, PrefetchedFilter) else None
    prefetched = read.prefetched if read else None
    addresses = read.addresses if read else None
    candidates = None if force_lookup or prefetched else _candidates(scope, org, population, key_range or {})
    with map_driver_errors(population):
        joins = build_joins(
            database,
            scope,
            org,
            node,
            deadline,
            key_range,
            budget_divisor=budget_divisor,
            extra_nodes=extra_nodes,
            candidates=candidates,
            prefetched=prefetched,
            addresses=addresses,
            single_command=single_command,
            for_count=for_count,
        )
    return Pipeline(scope, org, population, joins, key_range or {})


def prefetch_addresses(
    database: Database[dict[str, Any]], scope: TenantScope, org: str, population: Population, deadline: Deadline
) -> Population:
    """Return the population with the addresses of suppressed subscribers prefetched, as `read_addresses` does.

    Raises what `run` raises.
    """
    if not isinstance(population, CompiledFilter) or not population.joins:
        return population
    suppressed = [join for join in joins(population.joins) if isinstance(join, Suppressed)]
    if not suppressed:
        return population
    with map_driver_errors(population):
        addresses = read_all_addresses(database, scope, org, suppressed, deadline, MAX_INLINE_BYTES // 4)
    return PrefetchedFilter(**_fields_of(population), addresses=addresses)


def with_prefetched_joins(
    database: Database[dict[str, Any]], scope: TenantScope, org: str, population: Population, deadline: Deadline
) -> Population:
    """Return the population, with related records prefetched if that is faster. Raises what `run` raises."""
    if not isinstance(population, PrefetchedFilter):
        population = prefetch_addresses(database, scope, org, population, deadline)
    if not isinstance(population, CompiledFilter) or not population.joins:
        return population
    nodes, candidates = [population.joins], _candidates(scope, org, population, {})
    addresses = population.addresses if isinstance(population, PrefetchedFilter) else None
    has_lists = any(isinstance(join, OnList) for join in joins(population.joins))
    # Lists that are read later take half of the space, and so do addresses.
    max_bytes = MAX_INLINE_BYTES // (2 if has_lists else 1) // (2 if addresses else 1)
    with map_driver_errors(population):
        prefetched = prefetch_joins(database, scope, org, nodes, candidates, deadline, max_bytes, for_count=True)
    if prefetched == PrefetchedJoins():
        return population
    return PrefetchedFilter(**_fields_of(population), prefetched=prefetched, addresses=addresses)


def _fields_of(population: CompiledFilter) -> dict[str, Any]:
    return {name: getattr(population, name) for name in CompiledFilter.__dataclass_fields__}


def _candidates(scope: TenantScope, org: str, population: Population, key_range: Document) -> Candidates:
    if isinstance(population, MemberList):
        return Candidates(population.datatype, LISTS, scope.match(org, {"audience": population.list_id}, key_range))
    return Candidates(population.datatype, population.datatype, scope.match(org, key_range, population.match))


def key_range_condition(after: str, until: str) -> Document:
    """Return the condition on sk for the range after `after`, up to and including `until`. "" means unbounded."""
    bounds = {"$gt": after} if after else {}
    if until:
        bounds["$lte"] = until
    return {"sk": bounds} if bounds else {}


def join_records(datatype: str, kept_fields: Sequence[str]) -> Stages:
    """Return the stages that replace rows by their current records, joined by sk.

    The fields `kept_fields` come from the row. They are all that remains of a deleted record, also of one that is only
    marked as deleted.
    """
    record = {"from": datatype, "localField": "sk", "foreignField": "sk", "as": "record"}
    is_deleted = {"$eq": [{"$arrayElemAt": ["$record.state", 0]}, "deleted"]}
    present = {"$cond": [is_deleted, {"$literal": {}}, {"$arrayElemAt": ["$record", 0]}]}
    merged = {"$mergeObjects": [present, {name: f"${name}" for name in kept_fields}]}
    return [{"$lookup": record}, {"$replaceRoot": {"newRoot": merged}}]


@contextmanager
def run(
    database: Database[dict[str, Any]], pipeline: Pipeline, deadline: Deadline
) -> Iterator[Collection[dict[str, Any]]]:
    """Enter `with_deadline` for a pipeline, and return the collection to run it on.

    Raises what `with_deadline` raises. Errors of the filter name its path.
    """
    with _name_failing_record(database, pipeline, deadline), with_deadline(database, deadline, pipeline.population):
        yield source(database, pipeline.collection, reads_lists=pipeline.reads_lists)


def execute(
    database: Database[dict[str, Any]],
    pipeline: Pipeline,
    stages: Stages,
    deadline: Deadline,
    pipelines: Sequence[Pipeline] = (),
) -> list[Document]:
    """Run stages that only read, and return all documents. An interrupted command is repeated once.

    They run on the collection of the pipeline; or on that of the first of several `pipelines` which they are of, and of
    which it is the one that may fail. Raises what `run` raises.
    """
    all_pipelines = pipelines or (pipeline,)
    collection = source(
        database, all_pipelines[0].collection, reads_lists=any(each.reads_lists for each in all_pipelines)
    )

    def aggregate() -> list[Document]:
        return list(collection.aggregate(stages, allowDiskUse=True))

    with _name_failing_record(database, pipeline, deadline):
        return retry_read(database, deadline, aggregate, pipeline.population)


def count(database: Database[dict[str, Any]], pipeline: Pipeline, deadline: Deadline) -> int:
    """Return the number of records, by as many commands as `counts_in_parts` has. Raises what `run` raises."""
    return sum(read_count(execute(database, pipeline, stages, deadline)) for stages in pipeline.counts_in_parts())


@contextmanager
def _name_failing_record(database: Database[dict[str, Any]], pipeline: Pipeline, deadline: Deadline) -> Iterator[None]:
    """Add the expression and the id of a record to an ExpressionFailed that the body raises."""
    try:
        yield
    except ExpressionFailed as error:
        if isinstance(pipeline.population, CompiledFilter):
            scope, org = pipeline.scope, pipeline.org

            def stages(population: CompiledFilter, key_range: Document, deadline: Deadline) -> Stages:
                return build_pipeline(database, scope, org, population, deadline, key_range, force_lookup=True).stages()

            failure = find_failure(database, scope, org, pipeline.population, pipeline.key_range, deadline, stages)
            raise failure.explain(error) from error
        raise


def read_count(documents: Sequence[Document]) -> int:
    """Return the count in the result of a pipeline that ends in `{$count: "n"}`."""
    return int(documents[0]["n"]) if documents else 0


def _record_stages(datatype: str) -> Stages:
    """Return the stages that replace a list's rows by their records that are not archived. sk contains the org."""
    return [*_joined_records(datatype), {"$match": NOT_ARCHIVED_MATCH}]


def _joined_records(datatype: str) -> Stages:
    """Return the stages that replace rows by their records, including archived ones."""
    return [
        {"$lookup": {"from": datatype, "localField": "sk", "foreignField": "sk", "as": "record"}},
        {"$unwind": "$record"},
        {"$replaceRoot": {"newRoot": "$record"}},
    ]
