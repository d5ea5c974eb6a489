"""ReachService on the wire."""

import grpc

from audience_service.domain.insights import Insights
from audience_service.domain.reach import Reach
from audience_service.pb.audience.v1 import reach_service_pb2 as pb
from audience_service.pb.audience.v1.reach_service_pb2_grpc import ReachServiceServicer
from audience_service.rpc.call import current_call
from audience_service.rpc.codec import decode_selection, decode_size
from audience_service.rpc.insights import encode_insights
from audience_service.rpc.structs import encode_moment, write_struct


class ReachServicer(ReachServiceServicer):
    """Decodes, delegates to the use cases, encodes."""

    def __init__(self, reach: Reach, insights: Insights) -> None:
        self._reach = reach
        self._insights = insights

    def EstimateReach(
        self, request: pb.EstimateReachRequest, context: grpc.ServicerContext
    ) -> pb.EstimateReachResponse:
        """Count the members and show one."""
        estimate = self._reach.estimate(current_call(), decode_selection(request))
        profile = estimate.sample_profile
        return pb.EstimateReachResponse(
            count=estimate.count,
            sample_profile=None if profile is None else write_struct(profile),
            read_at=encode_moment(estimate.read_at),
        )

    def GetInsights(self, request: pb.GetInsightsRequest, context: grpc.ServicerContext) -> pb.GetInsightsResponse:
        """Break an audience down."""
        limit = decode_size(request.bucket_limit, "bucket_limit", default=20, maximum=100)
        return encode_insights(self._insights.get(current_call(), request.id, request.dimensions, limit))
