"""The servicer of ReachService."""

from collections.abc import Iterator
from contextlib import closing

import grpc

from audience_service.domain.insights.service import Insights
from audience_service.domain.reach.overlap import Overlaps
from audience_service.domain.reach.service import Reach
from audience_service.pb.audience.v1 import reach_service_pb2 as pb
from audience_service.pb.audience.v1.reach_service_pb2_grpc import ReachServiceServicer
from audience_service.rpc.context import current_context
from audience_service.rpc.converters.audiences import decode_selection
from audience_service.rpc.converters.insights import decode_time_range, encode_insights
from audience_service.rpc.converters.paging import decode_size
from audience_service.rpc.converters.reach import (
    decode_budget,
    encode_overlap,
    encode_overlap_regions,
    encode_reach,
    encode_reach_progress,
)


class ReachServicer(ReachServiceServicer):
    """Implements ReachService."""

    def __init__(self, reach: Reach, overlaps: Overlaps, insights: Insights) -> None:
        self._reach = reach
        self._overlaps = overlaps
        self._insights = insights

    def EstimateReach(
        self, request: pb.EstimateReachRequest, context: grpc.ServicerContext
    ) -> pb.EstimateReachResponse:
        """Count or estimate the members, and return a masked sample member."""
        return encode_reach(self._reach.estimate(current_context(), decode_selection(request), decode_budget(request)))

    def StreamReach(
        self, request: pb.StreamReachRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.StreamReachResponse]:
        """Stream estimates with narrowing confidence intervals, and finally the count."""
        with closing(self._reach.stream(current_context(), decode_selection(request))) as steps:
            for step in steps:
                yield encode_reach_progress(step)

    def GetOverlap(self, request: pb.GetOverlapRequest, context: grpc.ServicerContext) -> pb.GetOverlapResponse:
        """Count the common members of two audiences."""
        return encode_overlap(
            self._overlaps.compare_pair(current_context(), request.audience_id, request.other_audience_id)
        )

    def GetOverlapRegions(
        self, request: pb.GetOverlapRegionsRequest, context: grpc.ServicerContext
    ) -> pb.GetOverlapRegionsResponse:
        """Count the members of each overlap region of the audiences."""
        return encode_overlap_regions(self._overlaps.compare_all(current_context(), request.audience_ids))

    def GetInsights(self, request: pb.GetInsightsRequest, context: grpc.ServicerContext) -> pb.GetInsightsResponse:
        """Break an audience down by dimension."""
        limit = decode_size(request.max_buckets, "max_buckets", default=20, maximum=100)
        return encode_insights(
            self._insights.get(
                current_context(), request.audience_id, request.dimensions, limit, decode_time_range(request)
            )
        )
