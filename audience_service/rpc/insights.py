"""Insights as messages."""

from collections.abc import Mapping

from audience_service.domain.breakdown import CellKind
from audience_service.domain.comparison import Bucket, DimensionInsights
from audience_service.domain.insights import AudienceInsights
from audience_service.pb.audience.v1 import reach_service_pb2 as pb
from audience_service.rpc.structs import encode_moment

_NAMES = {0: "min", 100: "max"}


def encode_insights(value: AudienceInsights) -> pb.GetInsightsResponse:
    """The insights as callers see them."""
    return pb.GetInsightsResponse(
        count=value.size,
        read_at=encode_moment(value.read_at),
        baseline_count=value.baseline_size,
        baseline_read_at=encode_moment(value.baseline_read_at),
        min_cell=value.least,
        dimensions=[_dimension(dimension) for dimension in value.dimensions],
    )


def _dimension(value: DimensionInsights) -> pb.DimensionInsights:
    return pb.DimensionInsights(
        name=value.dimension.name,
        paths=value.dimension.paths,
        multi_valued=value.multi_valued,
        with_value_count=value.with_value,
        buckets=[_bucket(bucket) for bucket in value.buckets],
        quantiles=_quantiles(value.quantiles),
        baseline_quantiles=_quantiles(value.baseline_quantiles),
    )


def _bucket(value: Bucket) -> pb.InsightBucket:
    cell = value.cell
    return pb.InsightBucket(
        kind=cell.kind,
        value=cell.label if cell.kind is CellKind.VALUE else f"({cell.kind})",
        count=cell.count,
        value_count=cell.values,
        share=value.share,
        baseline_count=value.baseline_count,
        baseline_share=value.baseline_share,
        index=value.index,
    )


def _quantiles(values: Mapping[int, float]) -> pb.InsightQuantiles | None:
    if not values:
        return None
    return pb.InsightQuantiles(**{_NAMES.get(percent, f"p{percent}"): number for percent, number in values.items()})
