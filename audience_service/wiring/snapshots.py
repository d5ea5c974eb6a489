"""Builds the worker that creates snapshots."""

from audience_service.domain.snapshots.worker import SnapshotLimits, SnapshotWorker
from audience_service.mongo.store import Store
from audience_service.settings import Settings


def build_snapshot_worker(settings: Settings, store: Store) -> SnapshotWorker:
    """The worker of this process; close it when the process stops."""
    limits = SnapshotLimits(
        settings.max_concurrent_snapshots, settings.snapshot_timeout_seconds, settings.snapshot_lease_seconds
    )
    return SnapshotWorker(store.snapshots, store.snapshot_rows, limits)
