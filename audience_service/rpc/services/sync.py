"""The servicer of SyncService."""

from collections.abc import Iterator
from contextlib import closing

import grpc

from audience_service.domain.syncs.changes import SyncChanges
from audience_service.domain.syncs.service import Syncs
from audience_service.pb.audience.v1 import sync_service_pb2 as pb
from audience_service.pb.audience.v1.sync_service_pb2_grpc import SyncServiceServicer
from audience_service.rpc.context import current_context
from audience_service.rpc.converters.paging import decode_page
from audience_service.rpc.converters.syncs import (
    decode_changes_request,
    decode_receipt,
    decode_sync,
    decode_sync_query,
    decode_sync_version,
    encode_changes,
    encode_receipt,
    encode_sync,
    encode_syncs,
)


class SyncServicer(SyncServiceServicer):
    """Implements SyncService."""

    def __init__(self, syncs: Syncs, changes: SyncChanges) -> None:
        self._syncs = syncs
        self._changes = changes

    def CreateSync(self, request: pb.CreateSyncRequest, context: grpc.ServicerContext) -> pb.Sync:
        """Create a sync."""
        return encode_sync(self._syncs.create(current_context(), decode_sync(request.sync), request.request_id))

    def GetSync(self, request: pb.GetSyncRequest, context: grpc.ServicerContext) -> pb.Sync:
        """One sync with its receipts."""
        return encode_sync(*self._syncs.get(current_context(), request.id))

    def ListSyncs(self, request: pb.ListSyncsRequest, context: grpc.ServicerContext) -> pb.ListSyncsResponse:
        """One page of syncs."""
        requested = decode_page(request.page_size, request.page_token, default=50, maximum=1_000)
        return encode_syncs(self._syncs.list(current_context(), decode_sync_query(request), requested))

    def UpdateSync(self, request: pb.UpdateSyncRequest, context: grpc.ServicerContext) -> pb.Sync:
        """Change a sync."""
        written, version = decode_sync(request.sync), decode_sync_version(request.sync)
        mask = request.update_mask.paths
        return encode_sync(self._syncs.update(current_context(), request.sync.id, written, mask, version))

    def DeleteSync(self, request: pb.DeleteSyncRequest, context: grpc.ServicerContext) -> pb.Sync:
        """Delete a sync."""
        return encode_sync(self._syncs.delete(current_context(), request.id, decode_sync_version(request)))

    def ResetSync(self, request: pb.ResetSyncRequest, context: grpc.ServicerContext) -> pb.Sync:
        """Forget the rows of a sync."""
        return encode_sync(self._syncs.reset(current_context(), request.id, request.external_id))

    def StreamSyncChanges(
        self, request: pb.StreamSyncChangesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.StreamSyncChangesResponse]:
        """Stream the rows to remove and to add, in batches."""
        with closing(self._changes.stream(current_context(), decode_changes_request(request))) as parts:
            for part in parts:
                yield encode_changes(part)

    def AcknowledgeSyncBatch(
        self, request: pb.AcknowledgeSyncBatchRequest, context: grpc.ServicerContext
    ) -> pb.SyncReceipt:
        """Record that the platform has accepted a batch."""
        batch = self._changes.acknowledge(
            current_context(), request.id, request.batch_number, decode_receipt(request), request.rejected_rows
        )
        return encode_receipt(batch)
