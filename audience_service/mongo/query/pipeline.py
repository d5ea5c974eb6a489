"""The stages that yield a population's records: one way for counts, streams, lists and whatever else reads members."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pymongo.collection import Collection
from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.ast import Node, Suppressed, joins
from audience_service.domain.filters.compiler import NOT_ARCHIVED_MATCH
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.population import Population
from audience_service.mongo.core.collections import LISTS
from audience_service.mongo.core.errors import map_driver_errors, with_deadline
from audience_service.mongo.core.scope import tenant_match
from audience_service.mongo.query.join_prefetch import Candidates, PrefetchedFilter, prefetch_joins
from audience_service.mongo.query.joins import (
    MAX_INLINE_BYTES,
    NOT_PREFETCHED,
    Joins,
    Stages,
    build_joins,
    read_all_addresses,
)

_FROZEN_ROWS = 100
"""Rows of a frozen list that are tried for a record to show."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What yields a population's records, and no other org's: the tenant scope is anded in here, after compiling."""

    org: str
    population: Population
    joins: Joins
    key_range: Document = field(default_factory=dict)
    """A condition on sk that the records must meet besides, where only a part of them is wanted."""

    @property
    def collection(self) -> str:
        """Where the stages begin."""
        return LISTS if isinstance(self.population, MemberList) else self.population.datatype

    @property
    def may_fail(self) -> bool:
        """Whether the caller's own expressions can make the database refuse, rather than a defect."""
        return isinstance(self.population, CompiledFilter) and self.population.has_expressions

    @property
    def record_condition(self) -> Document | None:
        """What a record of the org meets to be one of them; None where it takes more than the record to tell."""
        if isinstance(self.population, MemberList) or self.joins.stages:
            return None
        conditions = [part for part in (self.population.match, self.joins.inline_match) if part]
        return {"$and": conditions} if len(conditions) > 1 else dict(*conditions)

    def stages(self, *, after: str = "", ordered: bool = False, keep_lookups: bool = False) -> Stages:
        """The stages that yield the records behind the sk `after`; with `looks` they keep what was looked up.

        A compiled filter says itself whether archived records count; a list yields living ones alone, a frozen one its
        rows: pk and sk. Sorting comes before any join, on the index that the records, or the list, are read by.
        """
        after_key: Document = {"sk": {"$gt": after}} if after else {}
        sort: Stages = [{"$sort": {"sk": 1}}] if ordered else []
        match self.population:
            case CompiledFilter(_, match):
                conditions = (self.key_range, after_key, match, self.joins.inline_match)
                lookups = self.joins.lookup_stages if keep_lookups else self.joins.stages
                return [{"$match": tenant_match(self.org, *conditions)}, *sort, *lookups]
            case MemberList(audience_id, datatype):
                list_match = {"$match": tenant_match(self.org, {"audience": audience_id}, self.key_range, after_key)}
                records = [] if self.population.include_inactive else _record_stages(datatype)
                return [list_match, *sort, *records, *(self.joins.lookup_stages if keep_lookups else [])]

    def project_stages(self, paths: Sequence[str]) -> Stages:
        """The stages behind those that leave pk, sk and the paths of each record, none of them inside another.

        Of a frozen list those of the records as they are now; of one that is gone, pk and sk.
        """
        projection = {"$project": {"_id": 0, "pk": 1, "sk": 1, **dict.fromkeys(paths, 1)}}
        if not (isinstance(self.population, MemberList) and self.population.include_inactive and paths):
            return [projection]
        return [*join_records(self.population.datatype, ("pk", "sk")), projection]

    def first_stages(self) -> Stages:
        """The stages that yield the record of any one member; none comes if there is none.

        Of a frozen list they look at its first rows only, and yield a record that still exists.
        """
        if isinstance(self.population, MemberList) and self.population.include_inactive:
            rows = [*self.stages(), {"$limit": _FROZEN_ROWS}]
            return [*rows, *_joined_records(self.population.datatype), {"$limit": 1}]
        return [*self.stages(), {"$limit": 1}]

    def count_stages(self) -> Stages:
        """The stages that count the records, in the field `n` of one document; none comes where there are none."""
        # $count, unlike the count command, is right on shards too.
        return [*self.stages(), {"$count": "n"}]


def build_pipeline(
    database: Database[dict[str, Any]],
    org: str,
    population: Population,
    deadline: Deadline,
    key_range: Document | None = None,
    *,
    budget_divisor: int = 1,
    extra_nodes: Sequence[Node] = (),
    force_lookup: bool = False,
    single_command: bool = False,
) -> Pipeline:
    """The pipeline of a population, or of the part of it whose sk meets a condition.

    Reads the lists that go into a filter: of each no more than what lies in the part. They have one of `share` parts of
    the room, where several filters stand in one command. `told` are nodes to tell of each record found. For `few`
    records those related to them are not read but looked up. What a command that reads as of one instant can look up
    itself is not read before it. Raises what `running` raises.
    """
    node = population.joins if isinstance(population, CompiledFilter) else None
    settled = population if isinstance(population, PrefetchedFilter) else None
    prefetched = settled.prefetched if settled else NOT_PREFETCHED
    addresses = settled.addresses if settled else None
    candidates = None if force_lookup or prefetched else _candidates(org, population, key_range or {})
    with map_driver_errors(population):
        joins = build_joins(
            database,
            org,
            node,
            deadline,
            key_range,
            budget_divisor=budget_divisor,
            extra_nodes=extra_nodes,
            candidates=candidates,
            prefetched=prefetched,
            inlined_addresses=addresses,
            single_command=single_command,
        )
    return Pipeline(org, population, joins, key_range or {})


def prefetch_addresses(
    database: Database[dict[str, Any]], org: str, population: Population, deadline: Deadline
) -> Population:
    """The population with the addresses of suppressed subscribers read, if they fit a command.

    Otherwise they are looked up, in every command of the population. Raises what `running` raises.
    """
    if not isinstance(population, CompiledFilter) or not population.joins:
        return population
    suppressed = [join for join in joins(population.joins) if isinstance(join, Suppressed)]
    if not suppressed:
        return population
    with map_driver_errors(population):
        addresses = read_all_addresses(database, org, suppressed, deadline, MAX_INLINE_BYTES // 4)
    return PrefetchedFilter(**_fields_of(population), addresses=addresses)


def with_prefetched_joins(
    database: Database[dict[str, Any]], org: str, population: Population, deadline: Deadline
) -> Population:
    """The population with its related records read, if that takes less than looks. Raises what `running` raises."""
    if not isinstance(population, PrefetchedFilter):
        population = prefetch_addresses(database, org, population, deadline)
    if not isinstance(population, CompiledFilter) or not population.joins:
        return population
    nodes, candidates = [population.joins], _candidates(org, population, {})
    addresses = population.addresses if isinstance(population, PrefetchedFilter) else {}
    with map_driver_errors(population):
        prefetched = prefetch_joins(
            database, org, nodes, candidates, deadline, MAX_INLINE_BYTES // (4 if addresses else 2)
        )
    if not prefetched:
        return population
    return PrefetchedFilter(**_fields_of(population), prefetched=prefetched, addresses=addresses)


def _fields_of(population: CompiledFilter) -> dict[str, Any]:
    return {name: getattr(population, name) for name in CompiledFilter.__dataclass_fields__}


def _candidates(org: str, population: Population, key_range: Document) -> Candidates:
    if isinstance(population, MemberList):
        return Candidates(
            population.datatype, LISTS, tenant_match(org, {"audience": population.audience_id}, key_range)
        )
    return Candidates(population.datatype, population.datatype, tenant_match(org, key_range, population.match))


def key_range_condition(after: str, until: str) -> Document:
    """The condition on sk of the part behind `after` up to and including `until`; "" is no bound."""
    bounds = {"$gt": after} if after else {}
    if until:
        bounds["$lte"] = until
    return {"sk": bounds} if bounds else {}


def join_records(datatype: str, kept_fields: Sequence[str]) -> Stages:
    """From rows that refer to records, by sk, to the records as they are now, with fields of the rows that are kept.

    Of a record that is gone, these alone.
    """
    record = {"from": datatype, "localField": "sk", "foreignField": "sk", "as": "record"}
    merged = {"$mergeObjects": [{"$arrayElemAt": ["$record", 0]}, {name: f"${name}" for name in kept_fields}]}
    return [{"$lookup": record}, {"$replaceRoot": {"newRoot": merged}}]


@contextmanager
def run(
    database: Database[dict[str, Any]], pipeline: Pipeline, deadline: Deadline
) -> Iterator[Collection[dict[str, Any]]]:
    """Enter `with_deadline` for a pipeline, and return the collection to run it on.

    Raises what `with_deadline` raises. Errors of the filter name its path.
    """
    with with_deadline(database, deadline, pipeline.population):
        yield database[pipeline.collection]


def execute(
    database: Database[dict[str, Any]], pipeline: Pipeline, stages: Stages, deadline: Deadline
) -> list[Document]:
    """Run stages on the pipeline's collection, and return all documents. Raises what `run` raises."""
    with with_deadline(database, deadline, pipeline.population):
        return list(database[pipeline.collection].aggregate(stages, allowDiskUse=True))


def _record_stages(datatype: str) -> Stages:
    """From a list's rows to the records they refer to, by sk, which holds the org."""
    return [*_joined_records(datatype), {"$match": NOT_ARCHIVED_MATCH}]


def _joined_records(datatype: str) -> Stages:
    """The same, archived and deleted records included."""
    return [
        {"$lookup": {"from": datatype, "localField": "sk", "foreignField": "sk", "as": "record"}},
        {"$unwind": "$record"},
        {"$replaceRoot": {"newRoot": "$record"}},
    ]
