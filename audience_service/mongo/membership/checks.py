"""Membership checks: which of some records are members of which populations, by one command.

The command finds the records by id and joins them with their lists. A $facet then evaluates each population: its match,
its joins, and the ids of the remaining records. All results therefore come from one state of the records and lists.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import bson
from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.core.record import Record
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.ast import OnList, Related, joins, reads_lists
from audience_service.domain.filters.compiler import compile_node
from audience_service.domain.filters.filter import Document
from audience_service.domain.membership.repository import Measurement, MembershipResults
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.query.join_prefetch import measure_stages
from audience_service.mongo.query.joins import Joins, Stages
from audience_service.mongo.query.lookups import lists_lookup, source
from audience_service.mongo.query.pipeline import Pipeline, execute
from audience_service.mongo.query.related_groups import measured

MAX_COMMAND_BYTES = MAX_REPLY_BYTES = 12 * 1024 * 1024
"""The part of the 16 MiB of a command, and of its result, that populations may fill."""
_ITEM_OVERHEAD_BYTES = 14
"""Bytes of an item of a BSON array, without its text."""
MAX_FACETS = 1_000
_RECORDS = "records"


class MongoMembershipChecks:
    """The MembershipCheckRepository on MongoDB; domain/membership/repository.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope

    def find(self, org: str, datatype: str, ids: Sequence[str], deadline: Deadline) -> frozenset[str]:
        """Find the ids by the index on pk and sk."""
        match = self._scope.match(org, {"pk": {"$in": list(ids)}})
        with with_deadline(self._database, deadline):
            return frozenset(row["pk"] for row in self._database[datatype].find(match, {"_id": 0, "pk": 1}))

    def evaluate(
        self,
        org: str,
        datatype: str,
        populations: Sequence[CompiledFilter],
        ids: Sequence[str],
        paths: Sequence[str],
        deadline: Deadline,
    ) -> MembershipResults:
        """Evaluate in one command, or in more if the filters or their possible results exceed its size."""
        pipelines = [
            Pipeline(self._scope, org, found, Joins(self._scope, org, found.joins, {}, lists_preloaded=True))
            for found in populations
        ]
        records: dict[str, Record] = {}
        members: list[frozenset[str] | InvalidFilter] = []
        for batch in _batches(pipelines, ids):
            found = self._evaluate_pipelines(org, datatype, batch, ids, paths, deadline)
            records.update(found.records)
            members += found.members
        return MembershipResults(records, members)

    def measure(
        self, org: str, datatype: str, relations: Sequence[Related], record_id: str, deadline: Deadline
    ) -> Sequence[Measurement]:
        """Look the related records up as a filter does, but return their groups. Each relation has its own command."""
        match = self._scope.match(org, {"pk": record_id})
        measurements: list[Measurement] = []
        for related in relations:
            stages = measure_stages(self._scope, org, datatype, match, related)
            try:
                with with_deadline(self._database, deadline, compile_node(datatype, related)):
                    on_lists = any(map(reads_lists, related.queries))
                    records = source(self._database, datatype, reads_lists=on_lists)
                    found = list(records.aggregate(stages, allowDiskUse=True))
            except InvalidFilter:
                measurements.append({})
            else:
                measurements.append(measured(related, found))
        return measurements

    def _evaluate_pipelines(
        self,
        org: str,
        datatype: str,
        pipelines: Sequence[Pipeline],
        ids: Sequence[str],
        paths: Sequence[str],
        deadline: Deadline,
    ) -> MembershipResults:
        """Evaluate the pipelines in one command. If it fails, evaluate each half, to isolate the failing filters."""
        stages = _stages(self._scope, org, pipelines, ids, paths)
        try:
            if not pipelines:
                with with_deadline(self._database, deadline):
                    [answer] = self._database[datatype].aggregate(stages)
            else:
                riskiest = next((pipeline for pipeline in pipelines if pipeline.may_fail), pipelines[0])
                [answer] = execute(self._database, riskiest, stages, deadline, pipelines)
        except InvalidFilter as error:
            if len(pipelines) == 1:
                return MembershipResults(
                    self._evaluate_pipelines(org, datatype, (), ids, paths, deadline).records, [error]
                )
            middle = len(pipelines) // 2
            first = self._evaluate_pipelines(org, datatype, pipelines[:middle], ids, paths, deadline)
            second = self._evaluate_pipelines(org, datatype, pipelines[middle:], ids, paths, deadline)
            return MembershipResults({**first.records, **second.records}, [*first.members, *second.members])
        rows = [answer[_name(number)] for number in range(len(pipelines))]
        return MembershipResults(
            {record["pk"]: record for record in answer[_RECORDS]},
            [frozenset(row[0]["ids"]) if row else frozenset() for row in rows],
        )


def _batches(pipelines: Sequence[Pipeline], ids: Sequence[str]) -> Iterator[Sequence[Pipeline]]:
    """Yield batches of pipelines that fit a command and its result. There is at least one batch."""
    if len(pipelines) <= 1:
        yield pipelines
        return
    answer = sum(len(name.encode()) + _ITEM_OVERHEAD_BYTES for name in ids)
    max_facets = min(max(1, MAX_REPLY_BYTES // max(1, answer)), MAX_FACETS)
    batch: list[Pipeline] = []
    remaining_bytes = MAX_COMMAND_BYTES
    for pipeline in pipelines:
        size = len(bson.encode({"stages": _facet(pipeline)}))
        if batch and (size > remaining_bytes or len(batch) == max_facets):
            yield batch
            batch, remaining_bytes = [], MAX_COMMAND_BYTES
        batch.append(pipeline)
        remaining_bytes -= size
    yield batch


def _stages(
    scope: TenantScope, org: str, pipelines: Sequence[Pipeline], ids: Sequence[str], paths: Sequence[str]
) -> Stages:
    found = [join for pipeline in pipelines if pipeline.joins.node for join in joins(pipeline.joins.node)]
    lists = sorted({join.member_list.list_id for join in found if isinstance(join, OnList)})
    facets = {_name(number): _facet(pipeline) for number, pipeline in enumerate(pipelines)}
    return [
        {"$match": scope.match(org, {"pk": {"$in": list(ids)}})},
        # No filter reads _id. Without such a stage, some engines repeat the search for every facet.
        {"$unset": "_id"},
        *([lists_lookup(scope, org, lists)] if lists else []),
        {"$facet": {_RECORDS: [{"$project": _projection(paths)}], **facets}},
    ]


def _facet(pipeline: Pipeline) -> Stages:
    return [*pipeline.stages(), {"$group": {"_id": None, "ids": {"$push": "$pk"}}}]


def _name(number: int) -> str:
    return f"p{number}"


def _projection(paths: Sequence[str]) -> Document:
    """Return the projection of the top fields, of payload or envelope, that contain the paths.

    A projection of the paths themselves would miss indexes of lists (`tags.0`), and cannot name keys with dollars.
    """
    names = {_top_field(path.split(".")) for path in paths}
    shown = {name for name in names if "data" not in names or not name.startswith("data.")}
    return {"_id": 0, "pk": 1, **dict.fromkeys(sorted(shown), 1)}


def _top_field(steps: Sequence[str]) -> str:
    has_field = len(steps) > 1 and steps[0] == "data" and not steps[1].startswith("$")
    return f"data.{steps[1]}" if has_field else steps[0]
