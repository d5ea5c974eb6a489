"""The servicer of AudienceService."""

import grpc

from audience_service.domain.audiences.service import AudienceUses
from audience_service.domain.erasure.service import Erasures
from audience_service.domain.export_log.service import ExportLog
from audience_service.pb.audience.v1 import audience_service_pb2 as pb
from audience_service.pb.audience.v1.audience_service_pb2_grpc import AudienceServiceServicer
from audience_service.rpc.context import current_context
from audience_service.rpc.converters.audiences import decode_use, encode_usage, encode_use
from audience_service.rpc.converters.erasure import decode_contact_selector, encode_erasure
from audience_service.rpc.converters.export_log import decode_export_query, encode_exports
from audience_service.rpc.converters.paging import decode_page


class AudienceServicer(AudienceServiceServicer):
    """Implements AudienceService."""

    def __init__(self, uses: AudienceUses, erasures: Erasures, export_log: ExportLog) -> None:
        self._uses = uses
        self._erasures = erasures
        self._export_log = export_log

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

    def ListExports(self, request: pb.ListExportsRequest, context: grpc.ServicerContext) -> pb.ListExportsResponse:
        """One page of the calls that sent members."""
        requested = decode_page(request.page_size, request.page_token, default=50, maximum=1_000)
        return encode_exports(self._export_log.list(current_context(), decode_export_query(request), requested))

    def EraseContact(self, request: pb.EraseContactRequest, context: grpc.ServicerContext) -> pb.EraseContactResponse:
        """Erase a person."""
        return encode_erasure(self._erasures.erase(current_context(), decode_contact_selector(request)))
