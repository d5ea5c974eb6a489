"""Query plans and existing indexes."""

from collections.abc import Collection, Sequence
from typing import Any

from pymongo.database import Database
from pymongo.errors import OperationFailure

from audience_service.domain.core.context import Deadline
from audience_service.domain.explain.query_plan import ExistingIndex, QueryPlan
from audience_service.domain.filters.ast import OnList, joins
from audience_service.domain.filters.field_usage import used_fields
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.population import Population
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.query.explain_parser import execution_failure, parse_explain
from audience_service.mongo.query.pipeline import build_pipeline, run

_UNUSABLE_INDEX_OPTIONS = ("partialFilterExpression", "hidden", "collation")
"""Options that make an index unusable for filters."""


class MongoPlans:
    """The PlanRepository on MongoDB; the protocol states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope

    def plan(
        self, org: str, population: Population, deadline: Deadline, *, analyze: bool, force_lookup: bool = False
    ) -> QueryPlan:
        """Explain the command that counts. `analyze` also executes it, which takes as long as the count."""
        pipeline = build_pipeline(self._database, self._scope, org, population, deadline, force_lookup=force_lookup)
        stages = pipeline.count_stages()
        command = {"aggregate": pipeline.collection, "pipeline": stages, "cursor": {}}
        with run(self._database, pipeline, deadline) as collection:
            document = self._database.command(
                "explain",
                command,
                verbosity="executionStats" if analyze else "queryPlanner",
                read_preference=collection.read_preference,
            )
            if execution_error := execution_failure(document):
                raise OperationFailure(*execution_error)
        parsed = parse_explain(document, org, _named_fields(population))
        return QueryPlan(parsed.kind, parsed.index, sum("$lookup" in stage for stage in stages), parsed.execution_stats)

    def hash_text(self, text: str, deadline: Deadline) -> int:
        """Hash a document of the pipeline itself."""
        stages: list[Document] = [
            {"$documents": [{"text": text}]},
            {"$project": {"hash": {"$toHashedIndexKey": "$text"}}},
        ]
        with with_deadline(self._database, deadline):
            [found] = self._database.aggregate(stages)
        return int(found["hash"])

    def indexes(self, org: str, datatype: str, deadline: Deadline) -> Sequence[ExistingIndex]:  # noqa: ARG002 - orgs share them
        """Return the indexes on plain fields that every filter may use."""
        with with_deadline(self._database, deadline):
            found = self._database[datatype].index_information()
        return [
            ExistingIndex(name, tuple(field for field, _ in index["key"]))
            for name, index in found.items()
            if all(order in (1, -1) for _, order in index["key"])
            and not any(index.get(o) for o in _UNUSABLE_INDEX_OPTIONS)
        ]


def _named_fields(population: Population) -> Collection[str]:
    """Return the fields by which an index can narrow the population."""
    if isinstance(population, MemberList):
        return {"audience"}
    on_lists = any(isinstance(join, OnList) for join in joins(population.node))
    return {*used_fields(population.node), *(["sk"] if on_lists else [])}
