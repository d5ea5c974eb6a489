"""Builds the watch: the threads that reconcile audiences, and the streams of their events."""

from dataclasses import dataclass
from datetime import timedelta

from audience_service.domain.watch.notifier import Notifier
from audience_service.domain.watch.reconciler import Reconciler
from audience_service.domain.watch.registry import WatchRegistry
from audience_service.domain.watch.repository import ChangeStream
from audience_service.domain.watch.schedule import PollingConfig
from audience_service.domain.watch.scheduler import WatchScheduler
from audience_service.domain.watch.snapshot_start import SnapshotBootstrap
from audience_service.domain.watch.stream import WatchStreams
from audience_service.domain.watch.worker_pool import WorkerPool
from audience_service.mongo.store import Store
from audience_service.settings import Settings
from audience_service.wiring.core import Core


@dataclass(frozen=True, slots=True)
class Watch:
    """The worker threads, the watch streams and the change stream of a process."""

    streams: WatchStreams
    worker_pool: WorkerPool
    change_stream: ChangeStream

    def stop(self) -> None:
        """Stop the threads and close the change stream. Call it after all streams have ended."""
        self.worker_pool.stop()
        self.change_stream.close()


def build_watch(settings: Settings, core: Core, store: Store) -> Watch:
    """The watch of this process. The caller starts its worker pool."""
    work_available, events_available = Notifier(), Notifier()
    retention = timedelta(seconds=settings.watch_retention_seconds)
    reconciler = Reconciler(store.watches, store.event_log, core.audiences, events_available, retention)
    change_stream = store.open_change_stream(work_available.notify)
    polling = PollingConfig(settings.watch_poll_interval_seconds, settings.watch_lease_seconds)
    worker_pool = WorkerPool(WatchScheduler(store.watches, reconciler, change_stream, polling), work_available)
    streams = WatchStreams(
        WatchRegistry(store.watches, retention, settings.max_watches_per_org, worker_pool.wake),
        store.event_log,
        SnapshotBootstrap(store.history, core.snapshot_reader),
        core.audiences,
        core.tokens,
        settings.watch_heartbeat_seconds,
        events_available,
    )
    return Watch(streams, worker_pool, change_stream)
