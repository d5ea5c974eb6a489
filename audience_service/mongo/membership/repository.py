"""Counts and streams of a population's members."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any

import bson
from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.documents import Documents, cut_documents, exclude
from audience_service.domain.core.record import Record
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.ast import And, Nor, reads_lists
from audience_service.domain.filters.population import Population
from audience_service.mongo.core.cursor_batches import FIRST_BATCH_SIZE, RawBatchReader
from audience_service.mongo.core.errors import retry_read
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.query.joins import Stages
from audience_service.mongo.query.lookups import source
from audience_service.mongo.query.pipeline import (
    Pipeline,
    build_pipeline,
    count,
    execute,
    key_range_condition,
    run,
)
from audience_service.mongo.reach.regions import count_regions

CURSOR_BATCH_SIZE = 10_000
"""The most records per batch of a cursor. Each batch costs a round trip, even if the caller's are smaller."""


class MongoMembers:
    """The MemberRepository on MongoDB; the protocol states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope

    def count(self, org: str, population: Population, deadline: Deadline, after: str = "", until: str = "") -> int:
        """Count with the stages of `stream`, so that both agree."""
        key_range = key_range_condition(after, until)
        pipeline = build_pipeline(self._database, self._scope, org, population, deadline, key_range, for_count=True)
        return count(self._database, pipeline, deadline)

    def reach(self, org: str, population: Population, deadline: Deadline) -> tuple[int, Record | None]:
        """Return the count, and the first member that the database finds.

        If the population needs no other collection, one command finds up to two members. Fewer than two are all.
        """
        pipeline = build_pipeline(self._database, self._scope, org, population, deadline, for_count=True)
        if pipeline.record_condition is not None:
            found = execute(self._database, pipeline, [*pipeline.stages(), {"$limit": 2}], deadline)
            if len(found) < 2:
                return len(found), found[0] if found else None
            number = count(self._database, pipeline, deadline)
            return number, found[0] if number else None
        number = count(self._database, pipeline, deadline)
        if not number:
            return 0, None
        found = execute(self._database, pipeline, pipeline.first_stages(), deadline)
        return number, found[0] if found else None

    def regions(self, org: str, populations: Sequence[Population], deadline: Deadline) -> Mapping[int, int]:
        """Count with the stages of `stream`, all in one command."""
        return count_regions(self._database, self._scope, org, populations, deadline)

    def exclusions(
        self,
        org: str,
        candidates: Population,
        reasons: Sequence[CompiledFilter],
        deadline: Deadline,
        after: str = "",
        until: str = "",
    ) -> Sequence[int]:
        """Run a $facet after the stages of `stream`, so that all reasons share each candidate's lookups."""
        nodes = [reason.node for reason in reasons]
        exclusive_nodes = [
            And((node, *([Nor(tuple(nodes[:number]))] if number else []))) for number, node in enumerate(nodes)
        ]
        key_range = key_range_condition(after, until)
        pipeline = build_pipeline(
            self._database, self._scope, org, candidates, deadline, key_range, extra_nodes=exclusive_nodes
        )
        facets: dict[str, Any] = {
            f"r{number}": [{"$match": pipeline.joins.condition(first)}, {"$count": "n"}]
            for number, first in enumerate(exclusive_nodes)
        }
        stages = [*pipeline.stages(keep_lookups=True), {"$facet": facets}]
        population = next(
            (reason for reason in reasons if reason.has_expressions and not pipeline.may_fail), pipeline.population
        )
        reads_reasons = any(map(reads_lists, nodes))
        collection = source(self._database, pipeline.collection, reads_lists=pipeline.reads_lists or reads_reasons)
        [answer] = retry_read(
            self._database, deadline, lambda: list(collection.aggregate(stages, allowDiskUse=True)), population
        )
        return [int(answer[name][0]["n"]) if answer[name] else 0 for name in facets]

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
        """Decode the batches of `stream_documents`, each by one call: a cursor that decodes takes longer per record."""
        with closing(self.stream_documents(org, population, paths, batch_size, after, deadline, until)) as batches:
            for documents in batches:
                yield bson.decode_all(documents.content, self._database.codec_options)

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
        """Read one cursor of undecoded batches in sk order. Closing the generator closes it."""
        erased_before = self._scope.erased_sks(org)  # the stages exclude them
        pipeline = build_pipeline(
            self._database, self._scope, org, population, deadline, key_range_condition("", until)
        )
        stages = stream_stages(pipeline, paths, after)
        with run(self._database, pipeline, deadline) as collection:
            cursor = collection.aggregate_raw_batches(stages, batchSize=FIRST_BATCH_SIZE, allowDiskUse=True)
        with closing(cursor):
            reader = RawBatchReader(cursor, batch_size, CURSOR_BATCH_SIZE)
            while True:
                with run(self._database, pipeline, deadline):
                    content = reader.read()
                if not content:
                    return
                for documents in cut_documents(content, batch_size):
                    erased = self._scope.erased_sks(org) - erased_before
                    if present := exclude(documents, erased) if erased else documents:
                        yield present


def stream_stages(pipeline: Pipeline, paths: Sequence[str], after: str) -> Stages:
    """Return the stages that yield the records after an sk in sk order, with pk, sk and the paths."""
    return [*pipeline.stages(after=after, ordered=True), *pipeline.project_stages(outermost(paths))]


def outermost(paths: Sequence[str]) -> list[str]:
    """Return the paths except those inside another one: MongoDB refuses such a projection as a collision."""
    always_read = {"pk", "sk"}
    return [p for p in dict.fromkeys(paths) if p not in always_read and not any(p.startswith(f"{q}.") for q in paths)]
