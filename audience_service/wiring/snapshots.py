"""Builds the worker that creates snapshots."""

from audience_service.domain.core.jobs import JobLimits
from audience_service.domain.snapshots.worker import SnapshotWorker
from audience_service.mongo.store import Store
from audience_service.settings import Settings

WAITING_PER_RUNNING = 15
"""The most snapshots that wait in one process, per running one. A single thread renews all their leases."""


def build_snapshot_worker(settings: Settings, store: Store) -> SnapshotWorker:
    """The worker of this process; close it when the process stops."""
    limits = JobLimits(
        max_running=settings.max_concurrent_snapshots,
        max_waiting=settings.max_concurrent_snapshots * WAITING_PER_RUNNING,
        timeout_seconds=settings.snapshot_timeout_seconds,
        lease_seconds=settings.snapshot_lease_seconds,
    )
    return SnapshotWorker(store.snapshots, store.snapshot_rows, limits)
