"""Overlap regions: the number of records in each combination of populations, counted by one command.

Two filters without lookups are evaluated together, in one scan of the records. That takes half the time of three
counts, and less than grouping. With three or more populations, or with lists, each population yields a row per
record: its key, and the population's digit. The command groups the rows by key (docs/adr/0013-overlap-regions.md).

In both ways the regions of a population add up to its count, even if the database writes between two reads of the
command.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.population import Population
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.query.joins import Stages
from audience_service.mongo.query.pipeline import Pipeline, build_pipeline, execute

_DIGIT_BASE = 64
"""The base of a population's digit. A scan may find a record twice if a concurrent write moves it in the index.

With base 2, the second occurrence would carry into the digit of another population.
"""


def count_regions(
    database: Database[dict[str, Any]],
    scope: TenantScope,
    org: str,
    populations: Sequence[Population],
    deadline: Deadline,
) -> dict[int, int]:
    """Return the counts by mask, whose bit i means populations[i]. The result may omit empty regions."""
    # A command with several filters has half the usual space for lists, and contains each of two filters twice.
    join_count = sum(1 for found in populations if isinstance(found, CompiledFilter) and found.joins)
    budget_divisor = join_count * (4 if len(populations) == 2 else 2)
    pipelines = [
        build_pipeline(database, scope, org, found, deadline, budget_divisor=max(budget_divisor, 1))
        for found in populations
    ]
    conditions = [pipeline.record_condition for pipeline in pipelines]
    riskiest = next((pipeline for pipeline in pipelines if pipeline.may_fail), pipelines[0])
    match conditions:
        case [dict() as first, dict() as second]:
            stages = _two_filter_stages(scope, org, first, second)
            [found] = execute(database, riskiest, stages, deadline, pipelines)
            return _two_filter_regions(found)
    counts: Counter[int] = Counter()
    for row in execute(database, riskiest, _group_stages(pipelines), deadline, pipelines):
        counts[_mask(int(row["_id"]), len(pipelines))] += int(row["n"])
    return counts


def _two_filter_stages(scope: TenantScope, org: str, first: Document, second: Document) -> Stages:
    """Return the stages that count the first, the second, and their union, in one scan of the records."""
    count = {"$count": "n"}
    facets = {"first": [{"$match": first}, count], "second": [{"$match": second}, count], "either": [count]}
    return [{"$match": scope.match(org, {"$or": [first, second]})}, {"$facet": facets}]


def _two_filter_regions(found: Mapping[str, list[Document]]) -> dict[int, int]:
    first, second, either = (int(found[part][0]["n"]) if found[part] else 0 for part in ("first", "second", "either"))
    return {0b01: either - second, 0b10: either - first, 0b11: first + second - either}


def _group_stages(pipelines: Sequence[Pipeline]) -> Stages:
    """Return the stages that sum the populations' digits for each sk, and count the sums."""
    stages: Stages = []
    for index, pipeline in enumerate(pipelines):
        digit_rows = [*pipeline.stages(), {"$project": {"_id": 0, "sk": 1, "digit": {"$literal": _DIGIT_BASE**index}}}]
        stages += [{"$unionWith": {"coll": pipeline.collection, "pipeline": digit_rows}}] if index else digit_rows
    return [
        *stages,
        {"$group": {"_id": "$sk", "digits": {"$sum": "$digit"}}},
        {"$group": {"_id": "$digits", "n": {"$sum": 1}}},
    ]


def _mask(digits: int, population_count: int) -> int:
    """Return the mask of the populations whose digit is not 0."""
    return sum(1 << index for index in range(population_count) if digits // _DIGIT_BASE**index % _DIGIT_BASE)
