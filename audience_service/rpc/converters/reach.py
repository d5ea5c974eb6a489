"""Converters of reach estimates and overlaps."""

from typing import Any

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.reach.service import ReachEstimate, ReachProgress
from audience_service.domain.reach.venn_regions import VennRegions
from audience_service.pb.audience.v1 import reach_service_pb2 as pb
from audience_service.rpc.converters.filters import encode_warnings
from audience_service.rpc.converters.structs import encode_struct, encode_timestamp


def decode_budget(message: pb.EstimateReachRequest) -> float | None:
    """The seconds that an exact count may take, None if the request sets no budget.

    Raises InvalidArgument if it is negative.
    """
    if not message.HasField("exact_count_timeout"):
        return None
    seconds = message.exact_count_timeout.seconds + message.exact_count_timeout.nanos / 1e9
    if seconds < 0:
        raise InvalidArgument.at("exact_count_timeout", "is negative; set 0 or a positive duration")
    return seconds


def encode_reach(value: ReachEstimate) -> pb.EstimateReachResponse:
    """The message of an estimate: the count, its confidence interval, and a masked sample member."""
    return pb.EstimateReachResponse(**_estimate_fields(value))


def encode_reach_progress(value: ReachProgress) -> pb.StreamReachResponse:
    """The message of one step of a progressive count: the estimate, and how many records it has scanned."""
    return pb.StreamReachResponse(
        **_estimate_fields(value), scanned_count=value.scanned_count, total_count=value.total_count
    )


def _estimate_fields(value: ReachEstimate) -> dict[str, Any]:
    """The fields of an estimate, which have the same names in both messages."""
    return {
        "count": value.estimate.count,
        "sample_profile": None if value.sample_profile is None else encode_struct(value.sample_profile),
        "read_time": encode_timestamp(value.read_at),
        "exact": value.estimate.exact,
        "lower_bound": value.estimate.lower_bound,
        "upper_bound": value.estimate.upper_bound,
        "warnings": encode_warnings(value.warnings),
    }


def encode_overlap(value: VennRegions) -> pb.GetOverlapResponse:
    """The message of the overlap of two audiences."""
    [pair] = value.pairs()
    return pb.GetOverlapResponse(
        count=pair.count,
        size=pair.size,
        other_size=pair.other_size,
        jaccard=pair.jaccard,
        share_of_audience=pair.share_of_audience,
        share_of_other=pair.share_of_other,
        read_time=encode_timestamp(value.read_at),
    )


def encode_overlap_regions(value: VennRegions) -> pb.GetOverlapRegionsResponse:
    """The message of two or more audiences' overlap regions, with sizes, pairs, duplicates and subsets."""
    sizes = zip(value.audience_ids, value.sizes, strict=True)
    return pb.GetOverlapRegionsResponse(
        regions=[pb.OverlapRegion(audience_ids=ids, count=count) for ids, count in value.largest_first()],
        sizes=[pb.AudienceSize(audience_id=audience_id, size=size) for audience_id, size in sizes],
        pairwise=[
            pb.PairOverlap(
                audience_id=pair.audience_id,
                other_audience_id=pair.other_audience_id,
                count=pair.count,
                jaccard=pair.jaccard,
                share_of_audience=pair.share_of_audience,
                share_of_other=pair.share_of_other,
            )
            for pair in value.pairs()
        ],
        union_count=value.union,
        duplicates=[pb.DuplicateGroup(audience_ids=ids) for ids in value.duplicates()],
        subsets=[
            pb.AudienceSubset(subset_audience_id=inner, superset_audience_id=outer) for inner, outer in value.subsets()
        ],
        read_time=encode_timestamp(value.read_at),
    )
