"""Populations broken down by the database, in one pass for all dimensions."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from bson import Decimal128
from pymongo.database import Database

from audience_service.domain.caller import Deadline
from audience_service.domain.insights.breakdown import PERCENTS, Breakdown, Cell, CellKind, DimensionCells, Quantile
from audience_service.domain.insights.dimensions import Dimension, Kind
from audience_service.domain.ports import Population
from audience_service.mongo.joins import Stages
from audience_service.mongo.pipeline import read_pipeline, running
from audience_service.mongo.values import INVALID, MISSING, OTHER, VALUE, band_number, is_number, raw_key, to_cells

_KINDS = {
    VALUE: CellKind.VALUE,
    MISSING: CellKind.MISSING,
    INVALID: CellKind.INVALID,
    OTHER: CellKind.OTHER,
}
_WHOLE = 1e15
_RANKED = (Kind.TEXT, Kind.LIST, Kind.ANY)
_NUMERIC = (Kind.NUMBER, Kind.ANY)


class MongoInsights:
    """The InsightRepository on MongoDB; domain/ports.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database

    def breakdown(
        self,
        org: str,
        population: Population,
        dimensions: Sequence[Dimension],
        moment: datetime,
        most: int,
        deadline: Deadline,
    ) -> Breakdown:
        """One $facet with a $group for each dimension, after a projection of what they read."""
        pipeline = read_pipeline(self._database, org, population, deadline)
        facets = {f"d{number}": dimension_stages(found, moment, most) for number, found in enumerate(dimensions)}
        # Every record is in one cell of a dimension of single values; only where there is none are they counted apart.
        single = next((name for name, found in zip(facets, dimensions, strict=True) if not found.is_list), "size")
        facets.setdefault(single, [{"$count": "n"}])
        stages = [*pipeline.stages(), _project(dimensions), {"$facet": facets}]
        with running(self._database, pipeline, deadline) as collection:
            [answer] = collection.aggregate(stages, allowDiskUse=True)
        return Breakdown(
            size=sum(int(row["n"]) for row in answer[single]),
            read_at=moment,
            dimensions=tuple(
                _read(dimension, moment, answer[f"d{number}"]) for number, dimension in enumerate(dimensions)
            ),
        )


def dimension_stages(dimension: Dimension, moment: datetime, most: int) -> Stages:
    """From records to a dimension's rows: {_id: {k, v}, n, values}, and what its quantiles are made of.

    All stages but the first work on groups.
    """
    stages: Stages = [
        {"$group": {"_id": raw_key(dimension, moment), "n": {"$sum": 1}}},
        *to_cells(dimension, moment),
    ]
    if dimension.is_list:
        stages += [{"$set": {"m": {"$size": "$c"}}}, {"$unwind": "$c"}]
    stages.append({"$group": {"_id": {"k": "$c.k", "v": "$c.v"}, "n": {"$sum": "$n"}, "m": {"$max": "$m"}}})
    merged: dict[str, Any] = {"n": {"$sum": "$n"}, "values": {"$sum": 1}, "m": {"$max": "$m"}}
    if dimension.kind in _NUMERIC:
        stages.append(_accumulated())
        merged |= _quantiles()
    key: Any = "$_id"
    is_value = {"$eq": ["$_id.k", VALUE]}
    if dimension.kind in _RANKED:
        stages += _ranked()
        key = {"$cond": [{"$and": [is_value, {"$gt": ["$rank", most]}]}, {"k": OTHER}, key]}
    if dimension.kind is Kind.NUMBER:
        key = {"$cond": [is_value, {"k": VALUE, "v": band_number("$_id.v", dimension.bands(moment))}, key]}
    return [*stages, {"$group": {"_id": key, **merged}}]


def _ranked() -> Stages:
    """The position of each value, the most frequent first and then in the database's own order."""
    order = {"$set": {"order": {"n": {"$multiply": ["$n", -1]}, "v": "$_id.v"}}}
    output: dict[str, Any] = {"rank": {"$documentNumber": {}}}
    return [order, {"$setWindowFields": {"partitionBy": "$_id.k", "sortBy": {"order": 1}, "output": output}}]


def _accumulated() -> dict[str, Any]:
    """For each number how many have it or less, and how many numbers there are."""
    output: dict[str, Any] = {
        "until": {"$sum": "$n", "window": {"documents": ["unbounded", "current"]}},
        "all": {"$sum": "$n", "window": {"documents": ["unbounded", "unbounded"]}},
    }
    return {"$setWindowFields": {"partitionBy": is_number("$_id.v"), "sortBy": {"_id.v": 1}, "output": output}}


def _quantiles() -> dict[str, Any]:
    """By nearest rank: the least number that `percent` of the numbers are at most."""
    number = is_number("$_id.v")
    above = {"$add": [{"$subtract": ["$all", "$until"]}, "$n"]}
    entry = {"v": "$_id.v", "le": "$until", "ge": above}
    found: dict[str, Any] = {"numbers": {"$sum": {"$cond": [number, "$n", 0]}}}
    for percent in PERCENTS:
        reached = {"$gte": [{"$multiply": ["$until", 100]}, {"$multiply": ["$all", percent]}]}
        found[f"q{percent}"] = {"$min": {"$cond": [{"$and": [number, reached]}, entry, None]}}
    return found


def _project(dimensions: Sequence[Dimension]) -> dict[str, Any]:
    """What the dimensions read, which spares each of them a way through whole records."""
    paths = {path for dimension in dimensions for path in dimension.paths}
    outermost = sorted(p for p in paths if not any(p.startswith(f"{q}.") for q in paths))
    return {"$project": {"_id": 0, **dict.fromkeys(outermost, 1)}}


def _read(dimension: Dimension, moment: datetime, rows: Sequence[Mapping[str, Any]]) -> DimensionCells:
    return DimensionCells(
        cells=tuple(_cells(dimension, moment, rows)),
        several=max((int(row.get("m") or 1) for row in rows), default=1),
        numbers=sum(int(row.get("numbers", 0)) for row in rows),
        quantiles=dict(_least_of(rows)),
    )


def _cells(dimension: Dimension, moment: datetime, rows: Sequence[Mapping[str, Any]]) -> list[Cell]:
    """The rows as cells in order, with those of empty bands."""
    labels = [band.label or "" for band in dimension.bands(moment)]
    counts = {(CellKind.VALUE, label): (0, 1) for label in labels if label}
    for row in rows:
        kind, value = _KINDS[int(row["_id"]["k"])], row["_id"].get("v")
        label = "" if kind is not CellKind.VALUE else labels[int(value)] if dimension.is_banded else _label(value)
        count, _ = counts.get((kind, label), (0, 1))  # a number may look like text that is no plain numeral
        counts[kind, label] = count + int(row["n"]), int(row["values"]) if kind is CellKind.OTHER else 1
    cells = [Cell(kind, label, count, values) for (kind, label), (count, values) in counts.items()]
    if not dimension.is_banded:
        return sorted(cells, key=lambda cell: (-cell.count, cell.label))
    order = labels[::-1] if dimension.kind is Kind.NUMBER else labels
    return sorted(cells, key=lambda cell: order.index(cell.label) if cell.label else len(labels))


def _least_of(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Quantile]]:
    """Each quantile: the least of what the rows have for it."""
    for percent in PERCENTS:
        entries = [row[f"q{percent}"] for row in rows if row.get(f"q{percent}")]
        found = (Quantile(_float(entry["v"]), int(entry["le"]), int(entry["ge"])) for entry in entries)
        if least := min(found, key=lambda quantile: quantile.value, default=None):
            yield percent, least


def _label(value: Any) -> str:
    """A value as text, numbers without needless decimals."""
    if isinstance(value, float | Decimal128):
        number = _float(value)
        return str(int(number)) if number.is_integer() and abs(number) < _WHOLE else repr(number)
    return str(value)


def _float(value: Any) -> float:
    return float(value.to_decimal()) if isinstance(value, Decimal128) else float(value)
