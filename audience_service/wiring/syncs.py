"""Builds SyncService."""

from audience_service.domain.syncs.changes import SyncChanges
from audience_service.domain.syncs.scanner import SyncScanner
from audience_service.domain.syncs.service import Syncs
from audience_service.mongo.store import Store
from audience_service.rpc.services.sync import SyncServicer
from audience_service.wiring.core import Core


def build_sync_servicer(core: Core, store: Store) -> SyncServicer:
    """The servicer of SyncService."""
    resolver, storage = core.selection_resolver, store.sync_storage
    scanner = SyncScanner(resolver, storage.syncs, storage.rows, storage.members)
    return SyncServicer(
        Syncs(storage.syncs, storage.rows, storage.batches, resolver, core.tokens),
        SyncChanges(storage.syncs, storage.rows, storage.batches, scanner, core.export_log),
    )
