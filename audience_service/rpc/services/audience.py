"""The servicer of AudienceService."""

import grpc

from audience_service.domain.audiences.service import AudienceUses
from audience_service.domain.erasure.service import Erasures
from audience_service.pb.audience.v1 import audience_service_pb2 as pb
from audience_service.pb.audience.v1.audience_service_pb2_grpc import AudienceServiceServicer
from audience_service.rpc.context import current_context
from audience_service.rpc.converters.audiences import decode_use, encode_usage, encode_use
from audience_service.rpc.converters.erasure import decode_contact_selector, encode_erasure


class AudienceServicer(AudienceServiceServicer):
    """Implements AudienceService."""

    def __init__(self, uses: AudienceUses, erasures: Erasures) -> None:
        self._uses = uses
        self._erasures = erasures

    def RegisterUse(self, request: pb.RegisterUseRequest, context: grpc.ServicerContext) -> pb.AudienceUse:
        """Register that a consumer uses an audience."""
        return encode_use(self._uses.register(current_context(), decode_use(request.use)))

    def ReleaseUse(self, request: pb.ReleaseUseRequest, context: grpc.ServicerContext) -> pb.ReleaseUseResponse:
        """Release a use."""
        return pb.ReleaseUseResponse(released=self._uses.release(current_context(), decode_use(request)))

    def GetAudienceUsage(
        self, request: pb.GetAudienceUsageRequest, context: grpc.ServicerContext
    ) -> pb.GetAudienceUsageResponse:
        """List the segments, lookalikes and consumers that use an audience."""
        return encode_usage(self._uses.usage(current_context(), request.audience_id))

    def EraseContact(self, request: pb.EraseContactRequest, context: grpc.ServicerContext) -> pb.EraseContactResponse:
        """Erase a person."""
        return encode_erasure(self._erasures.erase(current_context(), decode_contact_selector(request)))
