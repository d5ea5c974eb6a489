"""Overlaps of audiences as messages."""

from audience_service.domain.reach.venn_regions import VennRegions
from audience_service.pb.audience.v1 import reach_service_pb2 as pb
from audience_service.rpc.converters.structs import encode_timestamp


def encode_overlap(value: VennRegions) -> pb.GetOverlapResponse:
    """The overlap of two audiences as callers see it."""
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
    """The regions of several audiences, and what follows from them, as callers see it."""
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
        subsets=[pb.AudienceSubset(audience_id=inner, other_audience_id=outer) for inner, outer in value.subsets()],
        read_time=encode_timestamp(value.read_at),
    )
