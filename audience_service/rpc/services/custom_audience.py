"""The servicer of CustomAudienceService."""

from collections.abc import Iterator, Sequence
from contextlib import closing

import grpc

from audience_service.domain.custom_audiences.audience_types import TypeDescription
from audience_service.domain.custom_audiences.deletion import CustomAudienceDeleter
from audience_service.domain.custom_audiences.service import CustomAudiences
from audience_service.domain.lookalikes.service import Lookalikes
from audience_service.domain.uploads.service import Uploads
from audience_service.pb.audience.v1 import custom_audience_service_pb2 as pb
from audience_service.pb.audience.v1.custom_audience_service_pb2_grpc import CustomAudienceServiceServicer
from audience_service.rpc.context import current_context
from audience_service.rpc.converters.custom_audiences import (
    decode_custom_audience_draft,
    decode_custom_audience_query,
    decode_custom_audience_version,
    encode_custom_audience,
    encode_custom_audience_types,
)
from audience_service.rpc.converters.lookalikes import encode_lookalike_model
from audience_service.rpc.converters.paging import decode_page
from audience_service.rpc.converters.uploads import (
    decode_upload_messages,
    encode_rejected_rows,
    encode_unmatched_rows,
    encode_upload,
)


class CustomAudienceServicer(CustomAudienceServiceServicer):
    """Implements CustomAudienceService."""

    def __init__(
        self,
        audiences: CustomAudiences,
        deletion: CustomAudienceDeleter,
        uploads: Uploads,
        lookalikes: Lookalikes,
        types: Sequence[TypeDescription],
    ) -> None:
        self._audiences = audiences
        self._deletion = deletion
        self._uploads = uploads
        self._lookalikes = lookalikes
        self._types = types

    def CreateCustomAudience(
        self, request: pb.CreateCustomAudienceRequest, context: grpc.ServicerContext
    ) -> pb.CustomAudience:
        """Create a custom audience."""
        draft = decode_custom_audience_draft(request.custom_audience)
        created = self._audiences.create(
            current_context(), draft, request.request_id, validate_only=request.validate_only
        )
        return encode_custom_audience(created)

    def ListCustomAudiences(
        self, request: pb.ListCustomAudiencesRequest, context: grpc.ServicerContext
    ) -> pb.ListCustomAudiencesResponse:
        """One page of custom audiences."""
        requested = decode_page(request.page_size, request.page_token, default=50, maximum=1_000)
        page = self._audiences.list(current_context(), decode_custom_audience_query(request), requested)
        return pb.ListCustomAudiencesResponse(
            custom_audiences=[encode_custom_audience(audience) for audience in page.items],
            next_page_token=page.next_page_token,
            total_size=page.total,
        )

    def GetCustomAudience(
        self, request: pb.GetCustomAudienceRequest, context: grpc.ServicerContext
    ) -> pb.CustomAudience:
        """One custom audience."""
        return encode_custom_audience(self._audiences.get(current_context(), request.id))

    def UpdateCustomAudience(
        self, request: pb.UpdateCustomAudienceRequest, context: grpc.ServicerContext
    ) -> pb.CustomAudience:
        """Change the name or the description of a custom audience."""
        changed = self._audiences.update(
            current_context(),
            request.custom_audience.id,
            decode_custom_audience_draft(request.custom_audience),
            request.update_mask.paths,
            decode_custom_audience_version(request.custom_audience),
            validate_only=request.validate_only,
        )
        return encode_custom_audience(changed)

    def DeleteCustomAudience(
        self, request: pb.DeleteCustomAudienceRequest, context: grpc.ServicerContext
    ) -> pb.CustomAudience:
        """Delete a custom audience permanently."""
        version = decode_custom_audience_version(request)
        return encode_custom_audience(
            self._deletion.delete(current_context(), request.id, version, force=request.force)
        )

    def RefreshCustomAudience(
        self, request: pb.RefreshCustomAudienceRequest, context: grpc.ServicerContext
    ) -> pb.CustomAudience:
        """Start a refresh of a custom audience."""
        return encode_custom_audience(self._audiences.refresh(current_context(), request.id))

    def ListCustomAudienceTypes(
        self, request: pb.ListCustomAudienceTypesRequest, context: grpc.ServicerContext
    ) -> pb.ListCustomAudienceTypesResponse:
        """The types of custom audience."""
        return encode_custom_audience_types(self._types)

    def UploadMembers(
        self, request_iterator: Iterator[pb.UploadMembersRequest], context: grpc.ServicerContext
    ) -> pb.Upload:
        """Receive a CSV file, and publish it."""
        return encode_upload(self._uploads.receive(current_context(), decode_upload_messages(request_iterator)))

    def GetUpload(self, request: pb.GetUploadRequest, context: grpc.ServicerContext) -> pb.Upload:
        """The state of an upload, and the offset at which to resume it."""
        return encode_upload(self._uploads.get(current_context(), request.audience_id, request.upload_id))

    def ListRejectedRows(
        self, request: pb.ListRejectedRowsRequest, context: grpc.ServicerContext
    ) -> pb.ListRejectedRowsResponse:
        """One page of the rejected rows of an upload."""
        requested = decode_page(request.page_size, request.page_token, default=1_000, maximum=10_000)
        page = self._uploads.rejected(
            current_context(), request.audience_id, request.upload_id, request.reason, requested
        )
        return encode_rejected_rows(page)

    def StreamUnmatchedRows(
        self, request: pb.StreamUnmatchedRowsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.StreamUnmatchedRowsResponse]:
        """Stream the rows without a matching contact."""
        batches = self._uploads.unmatched(
            current_context(), request.audience_id, request.cursor, unescaped=request.unescaped_formulas
        )
        with closing(batches):
            for batch in batches:
                yield encode_unmatched_rows(batch)

    def GetLookalikeModel(
        self, request: pb.GetLookalikeModelRequest, context: grpc.ServicerContext
    ) -> pb.LookalikeModel:
        """The model of a lookalike."""
        return encode_lookalike_model(*self._lookalikes.model(current_context(), request.id))
