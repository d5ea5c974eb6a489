"""Breakdowns of populations by all dimensions, in one scan.

One `$facet` has a `$group` for each dimension, over the stored values; docs/reference/performance.md compares the
alternatives. The groups are few, so normalising them costs little. Dates become bands before, because almost all of
them differ. Quantiles use `$setWindowFields` instead of `$percentile`: they are exact, and available from MongoDB 5.0.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from bson import Decimal128
from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters.population import Population
from audience_service.domain.insights.dimensions import Dimension, DimensionKind
from audience_service.domain.insights.model import (
    PERCENTS,
    Breakdown,
    BucketCount,
    BucketKind,
    DimensionCounts,
    Quantile,
)
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.insights.value_expressions import (
    INVALID,
    MISSING,
    OTHER,
    VALUE,
    band_number,
    bucket_stages,
    is_number,
    raw_key,
)
from audience_service.mongo.query.joins import Stages
from audience_service.mongo.query.pipeline import build_pipeline, execute

_KINDS = {
    VALUE: BucketKind.VALUE,
    MISSING: BucketKind.MISSING,
    INVALID: BucketKind.INVALID,
    OTHER: BucketKind.OTHER,
}
_MAX_INTEGER_LABEL = 1e15
_RANKED_KINDS = (DimensionKind.TEXT, DimensionKind.LIST, DimensionKind.ANY)
_NUMERIC_KINDS = (DimensionKind.NUMBER, DimensionKind.ANY)


class MongoInsights:
    """The InsightRepository on MongoDB; the protocol states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope

    def breakdown(
        self,
        org: str,
        population: Population,
        dimensions: Sequence[Dimension],
        as_of: datetime,
        max_values: int,
        deadline: Deadline,
    ) -> Breakdown:
        """Run one $facet with a $group for each dimension, after a projection of their fields."""
        pipeline = build_pipeline(self._database, self._scope, org, population, deadline)
        facets = {f"d{number}": dimension_stages(found, as_of, max_values) for number, found in enumerate(dimensions)}
        # A single-valued dimension has every record in exactly one bucket. Without one, count the records separately.
        single = next((name for name, found in zip(facets, dimensions, strict=True) if not found.is_list), "size")
        facets.setdefault(single, [{"$count": "n"}])
        stages = [*pipeline.stages(), _project_stage(dimensions), {"$facet": facets}]
        [answer] = execute(self._database, pipeline, stages, deadline)
        return Breakdown(
            size=sum(int(row["n"]) for row in answer[single]),
            read_at=as_of,
            dimensions=tuple(
                _read_dimension(dimension, as_of, answer[f"d{number}"]) for number, dimension in enumerate(dimensions)
            ),
        )


def dimension_stages(dimension: Dimension, as_of: datetime, max_values: int) -> Stages:
    """Return the stages from records to a dimension's rows: {_id: {k, v}, n, values}, and inputs of its quantiles.

    All stages except the first work on groups.
    """
    stages: Stages = [
        {"$group": {"_id": raw_key(dimension, as_of), "n": {"$sum": 1}}},
        *bucket_stages(dimension, as_of),
    ]
    if dimension.is_list:
        stages += [{"$set": {"m": {"$size": "$c"}}}, {"$unwind": "$c"}]
    stages.append({"$group": {"_id": {"k": "$c.k", "v": "$c.v"}, "n": {"$sum": "$n"}, "m": {"$max": "$m"}}})
    merged: dict[str, Any] = {"n": {"$sum": "$n"}, "values": {"$sum": 1}, "m": {"$max": "$m"}}
    if dimension.kind in _NUMERIC_KINDS:
        stages.append(_cumulative_counts_stage())
        merged |= _quantile_accumulators()
    key: Any = "$_id"
    is_value = {"$eq": ["$_id.k", VALUE]}
    if dimension.kind in _RANKED_KINDS:
        stages += _rank_stages()
        key = {"$cond": [{"$and": [is_value, {"$gt": ["$rank", max_values]}]}, {"k": OTHER}, key]}
    if dimension.kind is DimensionKind.NUMBER:
        key = {"$cond": [is_value, {"k": VALUE, "v": band_number("$_id.v", dimension.bands(as_of))}, key]}
    return [*stages, {"$group": {"_id": key, **merged}}]


def _rank_stages() -> Stages:
    """Return the stages that rank values, the most frequent first, then in the database's order."""
    order = {"$set": {"order": {"n": {"$multiply": ["$n", -1]}, "v": "$_id.v"}}}
    output: dict[str, Any] = {"rank": {"$documentNumber": {}}}
    return [order, {"$setWindowFields": {"partitionBy": "$_id.k", "sortBy": {"order": 1}, "output": output}}]


def _cumulative_counts_stage() -> dict[str, Any]:
    """Return the stage that adds to each number its cumulative count, and the count of all numbers."""
    output: dict[str, Any] = {
        "until": {"$sum": "$n", "window": {"documents": ["unbounded", "current"]}},
        "all": {"$sum": "$n", "window": {"documents": ["unbounded", "unbounded"]}},
    }
    return {"$setWindowFields": {"partitionBy": is_number("$_id.v"), "sortBy": {"_id.v": 1}, "output": output}}


def _quantile_accumulators() -> dict[str, Any]:
    """Return the accumulators of quantiles, by the nearest-rank method."""
    number = is_number("$_id.v")
    above = {"$add": [{"$subtract": ["$all", "$until"]}, "$n"]}
    entry = {"v": "$_id.v", "le": "$until", "ge": above}
    found: dict[str, Any] = {"numbers": {"$sum": {"$cond": [number, "$n", 0]}}}
    for percent in PERCENTS:
        is_reached = {"$gte": [{"$multiply": ["$until", 100]}, {"$multiply": ["$all", percent]}]}
        found[f"q{percent}"] = {"$min": {"$cond": [{"$and": [number, is_reached]}, entry, None]}}
    return found


def _project_stage(dimensions: Sequence[Dimension]) -> dict[str, Any]:
    """Return the projection of the dimensions' fields, so that each $facet reads small documents."""
    paths = {path for dimension in dimensions for path in dimension.paths}
    outermost = sorted(p for p in paths if not any(p.startswith(f"{q}.") for q in paths))
    return {"$project": {"_id": 0, **dict.fromkeys(outermost, 1)}}


def _read_dimension(dimension: Dimension, as_of: datetime, rows: Sequence[Mapping[str, Any]]) -> DimensionCounts:
    return DimensionCounts(
        buckets=tuple(_read_buckets(dimension, as_of, rows)),
        max_values_per_record=max((int(row.get("m") or 1) for row in rows), default=1),
        number_count=sum(int(row.get("numbers", 0)) for row in rows),
        quantiles=dict(_smallest_quantiles(rows)),
    )


def _read_buckets(dimension: Dimension, as_of: datetime, rows: Sequence[Mapping[str, Any]]) -> list[BucketCount]:
    """Return the rows as buckets in order, including empty bands."""
    labels = [band.label or "" for band in dimension.bands(as_of)]
    counts = {(BucketKind.VALUE, label): (0, 1) for label in labels if label}
    for row in rows:
        kind, value = _KINDS[int(row["_id"]["k"])], row["_id"].get("v")
        label = "" if kind is not BucketKind.VALUE else labels[int(value)] if dimension.is_banded else _label(value)
        count, _ = counts.get(
            (kind, label), (0, 1)
        )  # a number and a string that is no plain numeral may have the same label
        counts[kind, label] = count + int(row["n"]), int(row["values"]) if kind is BucketKind.OTHER else 1
    buckets = [BucketCount(kind, label, count, values) for (kind, label), (count, values) in counts.items()]
    if not dimension.is_banded:
        return sorted(buckets, key=lambda bucket: (-bucket.count, bucket.label))
    order = labels[::-1] if dimension.kind is DimensionKind.NUMBER else labels
    return sorted(buckets, key=lambda bucket: order.index(bucket.label) if bucket.label else len(labels))


def _smallest_quantiles(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Quantile]]:
    """Yield each quantile: the smallest of the rows' values for it."""
    for percent in PERCENTS:
        entries = [row[f"q{percent}"] for row in rows if row.get(f"q{percent}")]
        found = (Quantile(_float(entry["v"]), int(entry["le"]), int(entry["ge"])) for entry in entries)
        if smallest := min(found, key=lambda quantile: quantile.value, default=None):
            yield percent, smallest


def _label(value: Any) -> str:
    """Return a value as text, and whole numbers without decimals."""
    if isinstance(value, float | Decimal128):
        number = _float(value)
        return str(int(number)) if number.is_integer() and abs(number) < _MAX_INTEGER_LABEL else repr(number)
    return str(value)


def _float(value: Any) -> float:
    return float(value.to_decimal()) if isinstance(value, Decimal128) else float(value)
