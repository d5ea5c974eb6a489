"""Lookalike models: the database counts features, and scores records.

Every method is one aggregation. Features are counted like insights: records are grouped by stored values, and the few
groups are mapped to features. Scoring looks up each value's position among those with weights.
feature_expressions.py has a worked example.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.population import Population
from audience_service.domain.lookalikes.counts import (
    FeatureStats,
    FeatureValues,
    MomentSums,
    ScoredFeature,
    Scores,
    SeedCounts,
    SeedScores,
    ValueCount,
)
from audience_service.domain.lookalikes.features import Feature
from audience_service.domain.lookalikes.model import UNIT
from audience_service.mongo.core.collections import LISTS
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.insights.value_expressions import is_number
from audience_service.mongo.lookalikes.feature_expressions import (
    feature_values,
    feature_weight,
    group_key,
    is_factor,
    is_holdout,
    is_sampled,
)
from audience_service.mongo.query.joins import Stages
from audience_service.mongo.query.pipeline import build_pipeline, execute, run

_MAX_DISTINCT_NUMBERS = 20
"""The most distinct numbers of a feature that are values of their own. More are put into bins."""
_BIN_COUNT = 10
_SAMPLE_SIZE = 10_000
_SIZE_FACET = "size"


class MongoLookalikes:
    """The LookalikeRepository on MongoDB; domain/lookalikes/repository.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope

    def check_supported(self) -> None:
        """Do nothing: every MongoDB supports lookalikes."""

    def feature_stats(
        self,
        org: str,
        everyone: CompiledFilter,
        fields: Sequence[Feature],
        as_of: datetime,
        max_values: int,
        min_bucket_size: int,
        deadline: Deadline,
    ) -> FeatureStats:
        """Run one $facet with a $group for each feature."""
        facets: dict[str, Stages] = {
            f"f{number}": _feature_stats_stages(field, as_of, max_values, min_bucket_size)
            for number, field in enumerate(fields)
        }
        stages: Stages = [_project_stage(fields), {"$facet": {**facets, _SIZE_FACET: [{"$count": "n"}]}}]
        [answer] = self._run(org, everyone, stages, deadline)
        size = sum(int(row["n"]) for row in answer[_SIZE_FACET])
        found = (_read_field_values(field, answer[f"f{number}"]) for number, field in enumerate(fields))
        return FeatureStats(size, as_of, tuple(found))

    def seed_counts(
        self, org: str, seed: Population, everyone: CompiledFilter, stats: FeatureStats, deadline: Deadline
    ) -> SeedCounts:
        """Run one $facet with a $group for each feature."""
        training_flag = {"training": {"$cond": [is_holdout(), 0, 1]}}
        fields = [found.feature for found in stats.fields]
        facets: dict[str, Stages] = {
            f"f{number}": _seed_count_stages(found, stats.as_of) for number, found in enumerate(stats.fields)
        }
        counts = {"n": {"$sum": 1}, "training": {"$sum": "$training"}}
        facets[_SIZE_FACET] = [{"$group": {"_id": None, **counts}}]
        stages: Stages = [{"$match": everyone.match}, _project_stage(fields, sk=1, **training_flag), {"$facet": facets}]
        [answer] = self._run(org, seed, stages, deadline)
        [size, training_size] = next(([int(row["n"]), int(row["training"])] for row in answer[_SIZE_FACET]), [0, 0])
        return SeedCounts(
            size,
            training_size,
            tuple(_read_counts(answer[f"f{number}"], len(found.values)) for number, found in enumerate(stats.fields)),
        )

    def moment_sums(
        self, org: str, everyone: CompiledFilter, size: int, fields: Sequence[ScoredFeature], deadline: Deadline
    ) -> MomentSums:
        """Run one $group of sums over a sample of about 10,000 records."""
        sample_stage: Stages = [{"$match": {"$expr": is_sampled(_SAMPLE_SIZE / size)}}] if size > _SAMPLE_SIZE else []
        weights = {f"w{index}": feature_weight(field) for index, field in enumerate(fields)}
        sums: Document = {"n": {"$sum": "$n"}}
        for i in range(len(fields)):
            sums[f"s{i}"] = {"$sum": {"$multiply": ["$n", f"$_id.w{i}"]}}
            sums |= {f"p{i}_{j}": {"$sum": {"$multiply": ["$n", f"$_id.w{i}", f"$_id.w{j}"]}} for j in range(i + 1)}
        # Group first, so that the sums read weights as numbers. Otherwise each sum may evaluate them again.
        grouped: Stages = [{"$group": {"_id": weights, "n": {"$sum": 1}}}, {"$group": {"_id": None, **sums}}]
        stages: Stages = [*sample_stage, _project_stage([field.feature for field in fields], sk=1), *grouped]
        row = next(iter(self._run(org, everyone, stages, deadline)), None)
        if row is None:
            return MomentSums(0, [0] * len(fields), [[0] * len(fields) for _ in fields])
        products = [[int(row[f"p{max(i, j)}_{min(i, j)}"]) for j in range(len(fields))] for i in range(len(fields))]
        return MomentSums(int(row["n"]), [int(row[f"s{i}"]) for i in range(len(fields))], products)

    def scores(self, org: str, everyone: CompiledFilter, fields: Sequence[ScoredFeature], deadline: Deadline) -> Scores:
        """Run one $group by score."""
        stages: Stages = [*_score_stages(fields), {"$group": {"_id": "$score", "n": {"$sum": 1}}}]
        return {int(row["_id"]): int(row["n"]) for row in self._run(org, everyone, stages, deadline)}

    def seed_scores(
        self, org: str, seed: Population, everyone: CompiledFilter, fields: Sequence[ScoredFeature], deadline: Deadline
    ) -> SeedScores:
        """Run one $group by score."""
        group = {"_id": "$score", "n": {"$sum": 1}, "holdout": {"$sum": {"$cond": ["$holdout", 1, 0]}}}
        stages: Stages = [
            {"$match": everyone.match},
            *_score_stages(fields, sk=1, holdout=is_holdout()),
            {"$group": group},
        ]
        rows = self._run(org, seed, stages, deadline)
        return SeedScores(
            holdout={int(row["_id"]): int(row["holdout"]) for row in rows if row["holdout"]},
            all={int(row["_id"]): int(row["n"]) for row in rows},
        )

    def write(
        self,
        org: str,
        candidates: CompiledFilter,
        fields: Sequence[ScoredFeature],
        list_version_id: str,
        cutoff: int,
        max_members: int,
        deadline: Deadline,
    ) -> None:
        """Run one pipeline that ends in $merge, so that no record leaves the database."""
        row = {
            "_id": {"$concat": [{"$literal": list_version_id}, "/", "$sk"]},
            "audience": {"$literal": list_version_id},
            "pk": 1,
            "sk": 1,
            "score": {"$divide": ["$score", UNIT]},
        }
        merge = {"into": LISTS, "on": "_id", "whenMatched": "keepExisting", "whenNotMatched": "insert"}
        stages: Stages = [
            *_score_stages(fields, pk=1, sk=1),
            {"$match": {"score": {"$gte": cutoff}}},
            {"$sort": {"score": -1, "sk": 1}},
            {"$limit": max_members},
            {"$project": row},
            {"$merge": merge},
        ]
        pipeline = build_pipeline(self._database, self._scope, org, candidates, deadline)
        # Not repeated after an interruption: a second run may find other members, and the first may still insert.
        with run(self._database, pipeline, deadline) as collection:
            collection.aggregate([*pipeline.stages(), *stages], allowDiskUse=True)

    def _run(self, org: str, population: Population, stages: Stages, deadline: Deadline) -> list[Document]:
        pipeline = build_pipeline(self._database, self._scope, org, population, deadline)
        return execute(self._database, pipeline, [*pipeline.stages(), *stages], deadline)


def _feature_stats_stages(feature: Feature, as_of: datetime, max_values: int, min_count: int) -> Stages:
    """Return the stages from records to a feature's values: {v, n, top, several, band}, or bins of many numbers.

    All stages except the first work on groups. A bin contains the numbers whose lowest rank is in the same tenth. Rare
    values, such as company names, are dropped early: they may form as many groups as records.
    """
    partition_window = {"documents": ["unbounded", "unbounded"]}
    numbers: Document = {
        "until": {"$sum": "$n", "window": {"documents": ["unbounded", "current"]}},
        "all": {"$sum": "$n", "window": partition_window},
        "different": {"$sum": 1, "window": partition_window},
    }
    below = {"$subtract": ["$until", "$n"]}
    tenth = {"$floor": {"$divide": [{"$multiply": [below, _BIN_COUNT]}, "$all"]}}
    is_binned = {"$and": [is_number("$_id"), {"$gt": ["$different", _MAX_DISTINCT_NUMBERS]}]}
    is_bin = {"$or": [{"$ne": [{"$type": "$_id.band"}, "missing"]}, {"$in": [{"$type": "$v"}, ["date", "null"]]}]}
    return [
        {"$group": {"_id": group_key(feature, as_of), "n": {"$sum": 1}}},
        {"$project": {"n": 1, "values": feature_values("$_id", feature, as_of, ()), "listed": {"$isArray": "$_id"}}},
        {"$project": {"_id": 0, "n": 1, "values": 1, "several": {"$cond": ["$listed", {"$size": "$values"}, 0]}}},
        {"$unwind": "$values"},
        {"$group": {"_id": "$values", "n": {"$sum": "$n"}, "several": {"$max": "$several"}}},
        {"$setWindowFields": {"output": {"several": {"$max": "$several", "window": partition_window}}}},
        {"$match": {"$or": [{"n": {"$gte": min_count}}, {"_id": {"$type": "number"}}]}},
        {"$setWindowFields": {"partitionBy": is_number("$_id"), "sortBy": {"_id": 1}, "output": numbers}},
        {
            "$group": {
                "_id": {"$cond": [is_binned, {"band": tenth}, {"value": "$_id"}]},
                "n": {"$sum": "$n"},
                "v": {"$min": "$_id"},
                "top": {"$max": "$_id"},
                "several": {"$max": "$several"},
            }
        },
        {"$match": {"$expr": is_factor("$v")}},
        {"$set": {"band": {"$cond": [{"$ne": [{"$type": "$_id.band"}, "missing"]}, True, False]}}},
        {"$set": {"first": {"$cond": [is_bin, 0, 1]}}},
        {"$sort": {"first": 1, "n": -1, "v": 1}},
        {"$limit": max_values},
    ]


def _seed_count_stages(found: FeatureValues, as_of: datetime) -> Stages:
    """Return the stages that count the records with each known value, by its position."""
    counts = {"n": {"$sum": "$n"}, "training": {"$sum": "$training"}}
    position = {"$indexOfArray": [{"$literal": [value.value for value in found.values]}, "$values"]}
    return [
        {
            "$group": {
                "_id": group_key(found.feature, as_of),
                "n": {"$sum": 1},
                "training": {"$sum": "$training"},
            }
        },
        {
            "$project": {
                "_id": 0,
                "n": 1,
                "training": 1,
                "values": feature_values("$_id", found.feature, as_of, found.bin_edges),
            }
        },
        {"$unwind": "$values"},
        {"$group": {"_id": position, **counts}},
    ]


def _project_stage(fields: Sequence[Feature], **extra: Any) -> Document:
    """Return the projection of the features' fields and `extra`.

    Expressions that hash sk need it in `extra`, because early releases miss that the hash reads it (SERVER-58047).
    """
    paths = {path for field in fields for path in field.paths}
    outermost = sorted(path for path in paths if not any(path.startswith(f"{other}.") for other in paths))
    return {"$project": {"_id": 0, **dict.fromkeys(outermost, 1), **extra}}


def _score_stages(fields: Sequence[ScoredFeature], **extra: Any) -> Stages:
    """Return the stages that compute each record's score."""
    score = {"$add": [0, *(feature_weight(field) for field in fields)]}
    return [
        _project_stage([field.feature for field in fields], **extra),
        {"$project": {"score": score, **dict.fromkeys(extra, 1)}},
    ]


def _read_field_values(feature: Feature, rows: Sequence[Document]) -> FeatureValues:
    bins = sorted((float(row["v"]), float(row["top"])) for row in rows if row["band"])
    return FeatureValues(
        feature=feature,
        values=tuple(ValueCount(row["v"], int(row["n"])) for row in rows),
        bin_edges=tuple(edge for edge, _ in bins),
        bin_maxima=tuple(top for _, top in bins),
        multi_valued=any(int(row["several"]) > 1 for row in rows),
        has_lists=any(int(row["several"]) > 0 for row in rows),
    )


def _read_counts(rows: Sequence[Document], size: int) -> Sequence[tuple[int, int]]:
    counted: dict[int, tuple[int, int]] = {int(row["_id"]): (int(row["n"]), int(row["training"])) for row in rows}
    return [counted.get(position, (0, 0)) for position in range(size)]
