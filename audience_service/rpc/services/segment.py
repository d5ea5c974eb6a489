"""The servicer of SegmentService."""

import grpc

from audience_service.domain.segments.contacts import SegmentContacts
from audience_service.domain.segments.deletion import SegmentDeleter
from audience_service.domain.segments.service import Segments
from audience_service.domain.segments.version_service import SegmentVersions
from audience_service.pb.audience.v1 import segment_service_pb2 as pb
from audience_service.pb.audience.v1.resources_pb2 import Segment
from audience_service.pb.audience.v1.segment_service_pb2_grpc import SegmentServiceServicer
from audience_service.rpc.context import current_context
from audience_service.rpc.converters.paging import decode_page
from audience_service.rpc.converters.segments import (
    decode_segment_draft,
    decode_segment_query,
    decode_segment_source,
    decode_segment_version,
    decode_target_version,
    encode_segment,
    encode_segment_version,
)


class SegmentServicer(SegmentServiceServicer):
    """Implements SegmentService."""

    def __init__(
        self,
        segments: Segments,
        lists: SegmentContacts,
        versions: SegmentVersions,
        deletion: SegmentDeleter,
    ) -> None:
        self._segments = segments
        self._lists = lists
        self._versions = versions
        self._deletion = deletion

    def CreateSegment(self, request: pb.CreateSegmentRequest, context: grpc.ServicerContext) -> Segment:
        """Create a dynamic or a static segment."""
        draft, source = decode_segment_draft(request.segment), decode_segment_source(request)
        created = self._segments.create(
            current_context(), draft, source, request.request_id, validate_only=request.validate_only
        )
        return encode_segment(created, self._segments.warnings(current_context(), created))

    def GetSegment(self, request: pb.GetSegmentRequest, context: grpc.ServicerContext) -> Segment:
        """One segment."""
        found = self._segments.get(current_context(), request.id)
        return encode_segment(found, self._segments.warnings(current_context(), found))

    def ListSegments(self, request: pb.ListSegmentsRequest, context: grpc.ServicerContext) -> pb.ListSegmentsResponse:
        """One page of segments."""
        requested = decode_page(request.page_size, request.page_token, default=50, maximum=1_000)
        page = self._segments.list(current_context(), decode_segment_query(request), requested)
        return pb.ListSegmentsResponse(
            segments=[encode_segment(segment) for segment in page.items],
            next_page_token=page.next_page_token,
            total_size=page.total,
        )

    def UpdateSegment(self, request: pb.UpdateSegmentRequest, context: grpc.ServicerContext) -> Segment:
        """Update a segment."""
        changed = self._segments.update(
            current_context(),
            request.segment.id,
            decode_segment_draft(request.segment),
            request.update_mask.paths,
            decode_segment_version(request.segment),
            validate_only=request.validate_only,
        )
        return encode_segment(changed, self._segments.warnings(current_context(), changed))

    def DeleteSegment(self, request: pb.DeleteSegmentRequest, context: grpc.ServicerContext) -> Segment:
        """Mark a segment as deleted."""
        deleted = self._deletion.delete(
            current_context(), request.id, decode_segment_version(request), force=request.force
        )
        return encode_segment(deleted)

    def AddSegmentContacts(
        self, request: pb.AddSegmentContactsRequest, context: grpc.ServicerContext
    ) -> pb.AddSegmentContactsResponse:
        """Add contacts to a static segment."""
        added, segment = self._lists.add(current_context(), request.id, tuple(request.contact_ids))
        return pb.AddSegmentContactsResponse(added_count=added, segment=encode_segment(segment))

    def RemoveSegmentContacts(
        self, request: pb.RemoveSegmentContactsRequest, context: grpc.ServicerContext
    ) -> pb.RemoveSegmentContactsResponse:
        """Remove contacts from a static segment."""
        removed, segment = self._lists.remove(current_context(), request.id, tuple(request.contact_ids))
        return pb.RemoveSegmentContactsResponse(removed_count=removed, segment=encode_segment(segment))

    def ListSegmentContacts(
        self, request: pb.ListSegmentContactsRequest, context: grpc.ServicerContext
    ) -> pb.ListSegmentContactsResponse:
        """One page of a static segment's contacts."""
        requested = decode_page(request.page_size, request.page_token, default=1_000, maximum=50_000)
        page = self._lists.list(current_context(), request.id, requested)
        return pb.ListSegmentContactsResponse(
            contact_ids=page.items, next_page_token=page.next_page_token, total_size=page.total
        )

    def ListSegmentVersions(
        self, request: pb.ListSegmentVersionsRequest, context: grpc.ServicerContext
    ) -> pb.ListSegmentVersionsResponse:
        """One page of a segment's versions."""
        requested = decode_page(request.page_size, request.page_token, default=20, maximum=100)
        page = self._versions.list(current_context(), request.id, requested)
        return pb.ListSegmentVersionsResponse(
            versions=[encode_segment_version(version) for version in page.items],
            next_page_token=page.next_page_token,
            total_size=page.total,
        )

    def UndeleteSegment(self, request: pb.UndeleteSegmentRequest, context: grpc.ServicerContext) -> Segment:
        """Undelete a segment."""
        return encode_segment(self._versions.undelete(current_context(), request.id, decode_segment_version(request)))

    def RollbackSegment(self, request: pb.RollbackSegmentRequest, context: grpc.ServicerContext) -> Segment:
        """Roll a segment back to an older version, as a new version."""
        target, version = decode_target_version(request), decode_segment_version(request)
        return encode_segment(self._versions.rollback(current_context(), request.id, target, version))
