"""The servicer of MembershipService."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import grpc

from audience_service.domain.explain.membership_explanation import MembershipExplainer
from audience_service.domain.exports.service import Exports
from audience_service.domain.membership.checks import MembershipChecker
from audience_service.domain.membership.service import Membership
from audience_service.domain.snapshots.diff import SnapshotDifferences
from audience_service.domain.snapshots.service import Snapshots
from audience_service.domain.watch.stream import WatchStreams
from audience_service.pb.audience.v1 import membership_service_pb2 as pb
from audience_service.pb.audience.v1.membership_service_pb2_grpc import MembershipServiceServicer
from audience_service.rpc.context import current_context
from audience_service.rpc.converters.audiences import decode_selection
from audience_service.rpc.converters.exports import decode_export, encode_export
from audience_service.rpc.converters.membership import (
    decode_as_of,
    decode_encoding,
    decode_partition,
    encode_batches,
    encode_contact_audiences,
    encode_membership_explanation,
    encode_memberships,
)
from audience_service.rpc.converters.paging import decode_page, decode_size
from audience_service.rpc.converters.snapshots import (
    decode_snapshot_draft,
    decode_snapshot_query,
    encode_snapshot,
    encode_snapshot_diff,
    encode_snapshots,
)
from audience_service.rpc.converters.watch import encode_watch_batch


class MembershipServicer(MembershipServiceServicer):
    """Implements MembershipService."""

    def __init__(
        self,
        membership: Membership,
        checks: MembershipChecker,
        explanations: MembershipExplainer,
        snapshots: Snapshots,
        differences: SnapshotDifferences,
        exports: Exports,
        watch_streams: WatchStreams,
    ) -> None:
        self._membership = membership
        self._checks = checks
        self._explanations = explanations
        self._snapshots = snapshots
        self._differences = differences
        self._exports = exports
        self._watch_streams = watch_streams

    def StreamMembers(self, request: pb.StreamMembersRequest, context: grpc.ServicerContext) -> Iterator[Any]:
        """Stream the members in batches, as serialized responses."""
        size = decode_size(request.batch_size, "batch_size", default=1_000, maximum=10_000)
        encoding = decode_encoding(request)
        batches = self._membership.stream(
            current_context(),
            decode_selection(request),
            request.fields,
            size,
            request.cursor,
            decode_partition(request),
            decode_as_of(request),
            encoding,
        )
        with closing(batches):
            for batch in batches:
                yield from encode_batches(batch, encoding)

    def WatchMembership(
        self, request: pb.WatchMembershipRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchMembershipResponse]:
        """Stream the changes of an audience's members."""
        batches = self._watch_streams.watch(
            current_context(), request.audience_id, request.resume_token, request.since_snapshot_id
        )
        with closing(batches):
            for batch in batches:
                yield encode_watch_batch(batch)

    def CheckMembership(
        self, request: pb.CheckMembershipRequest, context: grpc.ServicerContext
    ) -> pb.CheckMembershipResponse:
        """Check which audiences contain which contacts."""
        return encode_memberships(self._checks.check(current_context(), request.audience_ids, request.contact_ids))

    def ListAudiencesOfContact(
        self, request: pb.ListAudiencesOfContactRequest, context: grpc.ServicerContext
    ) -> pb.ListAudiencesOfContactResponse:
        """One page of the segments that contain a contact."""
        requested = decode_page(request.page_size, request.page_token, default=200, maximum=500)
        return encode_contact_audiences(self._checks.list_audiences(current_context(), request.contact_id, requested))

    def ExplainMembership(
        self, request: pb.ExplainMembershipRequest, context: grpc.ServicerContext
    ) -> pb.ExplainMembershipResponse:
        """Explain why a contact is or is not a member."""
        return encode_membership_explanation(
            self._explanations.explain(current_context(), decode_selection(request), request.contact_id)
        )

    def CreateSnapshot(self, request: pb.CreateSnapshotRequest, context: grpc.ServicerContext) -> pb.Snapshot:
        """Create a snapshot of the members."""
        created = self._snapshots.create(current_context(), decode_snapshot_draft(request), request.request_id)
        return encode_snapshot(created)

    def GetSnapshot(self, request: pb.GetSnapshotRequest, context: grpc.ServicerContext) -> pb.Snapshot:
        """One snapshot."""
        return encode_snapshot(self._snapshots.get(current_context(), request.id))

    def ListSnapshots(
        self, request: pb.ListSnapshotsRequest, context: grpc.ServicerContext
    ) -> pb.ListSnapshotsResponse:
        """One page of snapshots."""
        requested = decode_page(request.page_size, request.page_token, default=20, maximum=100)
        query = decode_snapshot_query(request)
        return encode_snapshots(self._snapshots.list(current_context(), query, requested))

    def DeleteSnapshot(self, request: pb.DeleteSnapshotRequest, context: grpc.ServicerContext) -> pb.Snapshot:
        """Delete a snapshot."""
        return encode_snapshot(self._snapshots.delete(current_context(), request.id))

    def DiffSnapshots(
        self, request: pb.DiffSnapshotsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.DiffSnapshotsResponse]:
        """Stream the contacts that entered and exited between two snapshots, in batches."""
        size = decode_size(request.batch_size, "batch_size", default=1_000, maximum=10_000)
        batches = self._differences.stream(
            current_context(), request.from_snapshot_id, request.to_snapshot_id, size, request.cursor
        )
        with closing(batches):
            for batch in batches:
                yield encode_snapshot_diff(batch)

    def ExportIdentifiers(
        self, request: pb.ExportIdentifiersRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ExportIdentifiersResponse]:
        """Stream the members' identifiers in batches of the ad platform's size."""
        parts = self._exports.stream(current_context(), decode_export(request))
        with closing(parts):
            for part in parts:
                yield encode_export(part)
