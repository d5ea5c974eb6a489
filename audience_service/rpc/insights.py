"""Insights as messages."""

from collections.abc import Mapping

from audience_service.domain.insights.breakdown import CellKind
from audience_service.domain.insights.comparison import Bucket, DimensionInsights
from audience_service.domain.insights.insights import AudienceInsights
from audience_service.domain.watches.sizes import SizeHistory, Span
from audience_service.domain.watches.watch import Cause
from audience_service.pb.audience.v1 import reach_service_pb2 as pb
from audience_service.pb.audience.v1 import resources_pb2 as resources
from audience_service.rpc.structs import decode_moment, encode_moment

_NAMES = {0: "min", 100: "max"}
_CAUSES = {
    Cause.DATA: resources.CHANGE_CAUSE_DATA,
    Cause.TIME: resources.CHANGE_CAUSE_TIME,
    Cause.DEFINITION: resources.CHANGE_CAUSE_DEFINITION,
    Cause.SNAPSHOT: resources.CHANGE_CAUSE_SNAPSHOT,
}


def encode_insights(value: AudienceInsights) -> pb.GetInsightsResponse:
    """The insights as callers see them."""
    return pb.GetInsightsResponse(
        size_history=None if value.history is None else _history(value.history),
        count=value.size,
        read_time=encode_moment(value.read_at),
        baseline_count=value.baseline_size,
        baseline_read_time=encode_moment(value.baseline_read_at),
        min_bucket_size=value.least,
        dimensions=[_dimension(dimension) for dimension in value.dimensions],
    )


def decode_span(message: pb.GetInsightsRequest) -> Span | None:
    """For which time sizes are wanted, None where none are. Raises InvalidArgument."""
    if not message.HasField("size_history"):
        return None
    wanted, place = message.size_history, "size_history"
    start, end = (
        decode_moment(getattr(wanted, name), f"{place}.{name}") if wanted.HasField(name) else None
        for name in ("start_time", "end_time")
    )
    return Span.read(start, end, wanted.points, place)


def _history(value: SizeHistory) -> pb.SizeHistory:
    return pb.SizeHistory(
        tracked=value.known_since is not None,
        earliest_time=encode_moment(value.known_since),
        watermark=encode_moment(value.as_of),
        points=[
            pb.SizePoint(
                time=encode_moment(point.at),
                size=point.size,
                entered=point.since.entered,
                exited=point.since.exited,
                entered_by_cause=_cause_counts(point.since.entered_by),
                exited_by_cause=_cause_counts(point.since.exited_by),
            )
            for point in value.points
        ],
    )


def _cause_counts(counts: Mapping[Cause, int]) -> list[pb.CauseCount]:
    """The counts by cause, in the order of the enum."""
    return [pb.CauseCount(cause=value, count=counts[cause]) for cause, value in _CAUSES.items() if counts.get(cause, 0)]


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
