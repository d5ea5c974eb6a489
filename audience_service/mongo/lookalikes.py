"""Models of lookalikes counted, and records scored by them, by the database.

Every method is one aggregation. Fields are counted as insights are: records are grouped by what stands at a field's
place, and what it means is found out for each of the groups, of which there are few. Records are scored by where their
values stand among those that have weights.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pymongo.database import Database

from audience_service.domain.caller import Deadline
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.filter import Document
from audience_service.domain.lookalikes.fields import LikenessField
from audience_service.domain.lookalikes.model import UNIT
from audience_service.domain.lookalikes.tally import (
    FieldValues,
    Moments,
    Scores,
    SeedScores,
    SeedTally,
    Survey,
    ValueCount,
    Weighed,
)
from audience_service.domain.ports import Population
from audience_service.mongo.collections import LISTS
from audience_service.mongo.joins import Stages
from audience_service.mongo.likeness import drawn, grouped_by, held_out, is_factor, values_of, weight
from audience_service.mongo.pipeline import read_pipeline, running
from audience_service.mongo.values import is_number

_MOST_NUMBERS = 20
"""Different numbers of a field that stand for themselves; more are put into bands."""
_BANDS = 10
_SAMPLE = 10_000
_SIZE = "size"


class MongoLookalikes:
    """The LookalikeRepository on MongoDB; domain/lookalikes/ports.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database

    def check_supported(self) -> None:
        """Every MongoDB models lookalikes."""

    def survey(
        self,
        org: str,
        everyone: CompiledFilter,
        fields: Sequence[LikenessField],
        moment: datetime,
        most: int,
        least: int,
        deadline: Deadline,
    ) -> Survey:
        """One $facet with a $group for each field."""
        facets: dict[str, Stages] = {
            f"f{number}": _survey_stages(field, moment, most, least) for number, field in enumerate(fields)
        }
        stages: Stages = [_project(fields), {"$facet": {**facets, _SIZE: [{"$count": "n"}]}}]
        [answer] = self._run(org, everyone, stages, deadline)
        size = sum(int(row["n"]) for row in answer[_SIZE])
        found = (_field_values(field, answer[f"f{number}"]) for number, field in enumerate(fields))
        return Survey(size, moment, tuple(found))

    def tally(
        self, org: str, seed: Population, everyone: CompiledFilter, survey: Survey, deadline: Deadline
    ) -> SeedTally:
        """Likewise."""
        learnt = {"learnt": {"$cond": [held_out(), 0, 1]}}
        fields = [found.field for found in survey.fields]
        facets: dict[str, Stages] = {
            f"f{number}": _tally_stages(found, survey.moment) for number, found in enumerate(survey.fields)
        }
        both = {"n": {"$sum": 1}, "learnt": {"$sum": "$learnt"}}
        facets[_SIZE] = [{"$group": {"_id": None, **both}}]
        stages: Stages = [{"$match": everyone.match}, _project(fields, sk=1, **learnt), {"$facet": facets}]
        [answer] = self._run(org, seed, stages, deadline)
        [size, learnt_size] = next(([int(row["n"]), int(row["learnt"])] for row in answer[_SIZE]), [0, 0])
        return SeedTally(
            size,
            learnt_size,
            tuple(_counts(answer[f"f{number}"], len(found.values)) for number, found in enumerate(survey.fields)),
        )

    def moments(
        self, org: str, everyone: CompiledFilter, size: int, fields: Sequence[Weighed], deadline: Deadline
    ) -> Moments:
        """One $group of sums over 10,000 records or so at most."""
        part: Stages = [{"$match": {"$expr": drawn(_SAMPLE / size)}}] if size > _SAMPLE else []
        weights = {f"w{place}": weight(field) for place, field in enumerate(fields)}
        sums: Document = {"n": {"$sum": "$n"}}
        for i in range(len(fields)):
            sums[f"s{i}"] = {"$sum": {"$multiply": ["$n", f"$_id.w{i}"]}}
            sums |= {f"p{i}_{j}": {"$sum": {"$multiply": ["$n", f"$_id.w{i}", f"$_id.w{j}"]}} for j in range(i + 1)}
        # Each sum may evaluate anew what it is of: by groups first, whose weights stand there as numbers.
        grouped: Stages = [{"$group": {"_id": weights, "n": {"$sum": 1}}}, {"$group": {"_id": None, **sums}}]
        stages: Stages = [*part, _project([field.field for field in fields], sk=1), *grouped]
        row = next(iter(self._run(org, everyone, stages, deadline)), None)
        if row is None:
            return Moments(0, [0] * len(fields), [[0] * len(fields) for _ in fields])
        products = [[int(row[f"p{max(i, j)}_{min(i, j)}"]) for j in range(len(fields))] for i in range(len(fields))]
        return Moments(int(row["n"]), [int(row[f"s{i}"]) for i in range(len(fields))], products)

    def scores(self, org: str, everyone: CompiledFilter, fields: Sequence[Weighed], deadline: Deadline) -> Scores:
        """One $group by the score."""
        stages: Stages = [*_scored(fields), {"$group": {"_id": "$score", "n": {"$sum": 1}}}]
        return {int(row["_id"]): int(row["n"]) for row in self._run(org, everyone, stages, deadline)}

    def seed_scores(
        self, org: str, seed: Population, everyone: CompiledFilter, fields: Sequence[Weighed], deadline: Deadline
    ) -> SeedScores:
        """Likewise."""
        group = {"_id": "$score", "n": {"$sum": 1}, "held_out": {"$sum": {"$cond": ["$held_out", 1, 0]}}}
        stages: Stages = [{"$match": everyone.match}, *_scored(fields, sk=1, held_out=held_out()), {"$group": group}]
        rows = self._run(org, seed, stages, deadline)
        return SeedScores(
            held_out={int(row["_id"]): int(row["held_out"]) for row in rows if row["held_out"]},
            all={int(row["_id"]): int(row["n"]) for row in rows},
        )

    def write(
        self,
        org: str,
        candidates: CompiledFilter,
        fields: Sequence[Weighed],
        rows_id: str,
        cutoff: int,
        most: int,
        deadline: Deadline,
    ) -> None:
        """One pipeline that ends in $merge: no record leaves the database."""
        row = {
            "_id": {"$concat": [{"$literal": rows_id}, "/", "$sk"]},
            "audience": {"$literal": rows_id},
            "pk": 1,
            "sk": 1,
            "score": {"$divide": ["$score", UNIT]},
        }
        merge = {"into": LISTS, "on": "_id", "whenMatched": "keepExisting", "whenNotMatched": "insert"}
        stages: Stages = [
            *_scored(fields, pk=1, sk=1),
            {"$match": {"score": {"$gte": cutoff}}},
            {"$sort": {"score": -1, "sk": 1}},
            {"$limit": most},
            {"$project": row},
            {"$merge": merge},
        ]
        self._run(org, candidates, stages, deadline)

    def _run(self, org: str, population: Population, stages: Stages, deadline: Deadline) -> list[Document]:
        pipeline = read_pipeline(self._database, org, population, deadline)
        with running(self._database, pipeline, deadline) as collection:
            return list(collection.aggregate([*pipeline.stages(), *stages], allowDiskUse=True))


def _survey_stages(field: LikenessField, moment: datetime, most: int, least: int) -> Stages:
    """From records to a field's values: {v, n, top, several, band}, where numbers are many the bands of these.

    All stages but the first work on groups. A band holds the numbers whose least rank is in the same tenth. What a
    record has nearly alone, a name of a company say, goes early: there may be as many groups of it as records.
    """
    whole = {"documents": ["unbounded", "unbounded"]}
    numbers: Document = {
        "until": {"$sum": "$n", "window": {"documents": ["unbounded", "current"]}},
        "all": {"$sum": "$n", "window": whole},
        "different": {"$sum": 1, "window": whole},
    }
    below = {"$subtract": ["$until", "$n"]}
    tenth = {"$floor": {"$divide": [{"$multiply": [below, _BANDS]}, "$all"]}}
    is_banded = {"$and": [is_number("$_id"), {"$gt": ["$different", _MOST_NUMBERS]}]}
    is_band = {"$or": [{"$ne": [{"$type": "$_id.band"}, "missing"]}, {"$in": [{"$type": "$v"}, ["date", "null"]]}]}
    return [
        {"$group": {"_id": grouped_by(field, moment), "n": {"$sum": 1}}},
        {"$project": {"n": 1, "values": values_of("$_id", field, moment, ()), "listed": {"$isArray": "$_id"}}},
        {"$project": {"_id": 0, "n": 1, "values": 1, "several": {"$cond": ["$listed", {"$size": "$values"}, 0]}}},
        {"$unwind": "$values"},
        {"$group": {"_id": "$values", "n": {"$sum": "$n"}, "several": {"$max": "$several"}}},
        {"$setWindowFields": {"output": {"several": {"$max": "$several", "window": whole}}}},
        {"$match": {"$or": [{"n": {"$gte": least}}, {"_id": {"$type": "number"}}]}},
        {"$setWindowFields": {"partitionBy": is_number("$_id"), "sortBy": {"_id": 1}, "output": numbers}},
        {
            "$group": {
                "_id": {"$cond": [is_banded, {"band": tenth}, {"value": "$_id"}]},
                "n": {"$sum": "$n"},
                "v": {"$min": "$_id"},
                "top": {"$max": "$_id"},
                "several": {"$max": "$several"},
            }
        },
        {"$match": {"$expr": is_factor("$v")}},
        {"$set": {"band": {"$cond": [{"$ne": [{"$type": "$_id.band"}, "missing"]}, True, False]}}},
        {"$set": {"first": {"$cond": [is_band, 0, 1]}}},
        {"$sort": {"first": 1, "n": -1, "v": 1}},
        {"$limit": most},
    ]


def _tally_stages(found: FieldValues, moment: datetime) -> Stages:
    """From records to how many have each of the survey's values, by its position."""
    both = {"n": {"$sum": "$n"}, "learnt": {"$sum": "$learnt"}}
    position = {"$indexOfArray": [{"$literal": [value.value for value in found.values]}, "$values"]}
    return [
        {
            "$group": {
                "_id": grouped_by(found.field, moment),
                "n": {"$sum": 1},
                "learnt": {"$sum": "$learnt"},
            }
        },
        {"$project": {"_id": 0, "n": 1, "learnt": 1, "values": values_of("$_id", found.field, moment, found.cuts)}},
        {"$unwind": "$values"},
        {"$group": {"_id": position, **both}},
    ]


def _project(fields: Sequence[LikenessField], **also: Any) -> Document:
    """What the fields read, and more: sk where it is hashed, which early releases do not see (SERVER-58047)."""
    paths = {path for field in fields for path in field.paths}
    outermost = sorted(path for path in paths if not any(path.startswith(f"{other}.") for other in paths))
    return {"$project": {"_id": 0, **dict.fromkeys(outermost, 1), **also}}


def _scored(fields: Sequence[Weighed], **also: Any) -> Stages:
    """The score of each record."""
    score = {"$add": [0, *(weight(field) for field in fields)]}
    return [
        _project([field.field for field in fields], **also),
        {"$project": {"score": score, **dict.fromkeys(also, 1)}},
    ]


def _field_values(field: LikenessField, rows: Sequence[Document]) -> FieldValues:
    bands = sorted((float(row["v"]), float(row["top"])) for row in rows if row["band"])
    return FieldValues(
        field=field,
        values=tuple(ValueCount(row["v"], int(row["n"])) for row in rows),
        cuts=tuple(low for low, _ in bands),
        tops=tuple(top for _, top in bands),
        several=any(int(row["several"]) > 1 for row in rows),
        listed=any(int(row["several"]) > 0 for row in rows),
    )


def _counts(rows: Sequence[Document], size: int) -> Sequence[tuple[int, int]]:
    counted: dict[int, tuple[int, int]] = {int(row["_id"]): (int(row["n"]), int(row["learnt"])) for row in rows}
    return [counted.get(position, (0, 0)) for position in range(size)]
