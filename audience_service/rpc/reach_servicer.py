"""ReachService on the wire."""

import grpc

from audience_service.domain.overlap import Overlaps
from audience_service.domain.reach import Reach
from audience_service.pb.audience.v1 import reach_service_pb2 as pb
from audience_service.pb.audience.v1.reach_service_pb2_grpc import ReachServiceServicer
from audience_service.rpc.call import current_call
from audience_service.rpc.codec import decode_selection
from audience_service.rpc.overlaps import encode_overlap, encode_regions
from audience_service.rpc.structs import encode_moment, write_struct


class ReachServicer(ReachServiceServicer):
    """Decodes, delegates to the use cases, encodes."""

    def __init__(self, reach: Reach, overlaps: Overlaps) -> None:
        self._reach = reach
        self._overlaps = overlaps

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

    def GetOverlap(self, request: pb.GetOverlapRequest, context: grpc.ServicerContext) -> pb.GetOverlapResponse:
        """Count what two audiences have in common."""
        return encode_overlap(self._overlaps.between(current_call(), request.id, request.other_id))

    def GetOverlapRegions(
        self, request: pb.GetOverlapRegionsRequest, context: grpc.ServicerContext
    ) -> pb.GetOverlapRegionsResponse:
        """Count who is in exactly which audiences."""
        return encode_regions(self._overlaps.among(current_call(), request.audience_ids))
