"""Converters of audience insights."""

from collections.abc import Mapping

from audience_service.domain.history.model import Cause
from audience_service.domain.history.size_history import SizeHistory, TimeRange
from audience_service.domain.insights.comparison import Bucket, DimensionInsights
from audience_service.domain.insights.model import BucketKind
from audience_service.domain.insights.service import AudienceInsights
from audience_service.pb.audience.v1 import reach_service_pb2 as pb
from audience_service.rpc.converters.result_warnings import encode_result_warnings
from audience_service.rpc.converters.structs import decode_timestamp, encode_timestamp
from audience_service.rpc.converters.watch import CHANGE_CAUSES

_QUANTILE_NAMES = {0: "min", 100: "max"}


def encode_insights(value: AudienceInsights) -> pb.GetInsightsResponse:
    """The message of an audience's insights."""
    return pb.GetInsightsResponse(
        size_history=None if value.history is None else _encode_size_history(value.history),
        count=value.size,
        read_time=encode_timestamp(value.read_at),
        baseline_count=value.baseline_size,
        baseline_read_time=encode_timestamp(value.baseline_read_at),
        min_bucket_size=value.min_bucket_size,
        dimensions=[_encode_dimension(dimension) for dimension in value.dimensions],
        warnings=encode_result_warnings(value.warnings),
    )


def decode_time_range(message: pb.GetInsightsRequest) -> TimeRange | None:
    """The time range of the size history, None if the request asks for no history. Raises InvalidArgument."""
    if not message.HasField("size_history"):
        return None
    query, field_path = message.size_history, "size_history"
    start, end = (
        decode_timestamp(getattr(query, name), f"{field_path}.{name}") if query.HasField(name) else None
        for name in ("start_time", "end_time")
    )
    return TimeRange.read(start, end, query.point_count, field_path)


def _encode_size_history(value: SizeHistory) -> pb.SizeHistory:
    return pb.SizeHistory(
        watched=value.retained_from is not None,
        earliest_time=encode_timestamp(value.retained_from),
        watermark=encode_timestamp(value.watermark),
        points=[
            pb.SizePoint(
                time=encode_timestamp(point.at),
                size=point.size,
                entered_count=point.event_counts.entered,
                exited_count=point.event_counts.exited,
                entered_by_cause=_encode_cause_counts(point.event_counts.entered_by),
                exited_by_cause=_encode_cause_counts(point.event_counts.exited_by),
            )
            for point in value.points
        ],
    )


def _encode_cause_counts(counts: Mapping[Cause, int]) -> list[pb.CauseCount]:
    """The counts by cause, in the order of the proto's enum. Counts of 0 are left out."""
    return [
        pb.CauseCount(cause=number, count=counts[cause])
        for cause, number in CHANGE_CAUSES.items()
        if counts.get(cause, 0)
    ]


def _encode_dimension(value: DimensionInsights) -> pb.DimensionInsights:
    return pb.DimensionInsights(
        name=value.dimension.name,
        paths=value.dimension.paths,
        multi_valued=value.multi_valued,
        with_value_count=value.with_value,
        buckets=[_encode_bucket(bucket) for bucket in value.buckets],
        quantiles=_encode_quantiles(value.quantiles),
        baseline_quantiles=_encode_quantiles(value.baseline_quantiles),
    )


def _encode_bucket(value: Bucket) -> pb.InsightBucket:
    bucket_count = value.bucket_count
    return pb.InsightBucket(
        kind=bucket_count.kind,
        value=bucket_count.label if bucket_count.kind is BucketKind.VALUE else f"({bucket_count.kind})",
        count=bucket_count.count,
        combined_value_count=bucket_count.values,
        share=value.share,
        baseline_count=value.baseline_count,
        baseline_share=value.baseline_share,
        index=value.index,
    )


def _encode_quantiles(values: Mapping[int, float]) -> pb.InsightQuantiles | None:
    if not values:
        return None
    return pb.InsightQuantiles(
        **{_QUANTILE_NAMES.get(percent, f"p{percent}"): number for percent, number in values.items()}
    )
