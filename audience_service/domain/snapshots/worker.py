"""Making snapshots, on threads of the maker's own: a call that ends early does not end the making.

An attempt is held by a lease, which one thread renews for all that are being made here. Where the process dies, the
lease runs out, and the attempt can be taken over or is marked FAILED (mongo/snapshots/cleanup.py).
"""

import secrets
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from audience_service.domain.audiences.selection_resolver import ResolvedSelection
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import AudienceError, OutOfTime, StoreUnavailable, TooManySnapshots
from audience_service.domain.core.lease import Lease
from audience_service.domain.snapshots.model import (
    COPYING_PROGRESS,
    COUNTING_PROGRESS,
    READY_PROGRESS,
    Snapshot,
    SnapshotState,
)
from audience_service.domain.snapshots.repository import SnapshotRepository, SnapshotRowRepository

_WRITE_TIMEOUT_SECONDS = 30.0
_RENEW_TIMEOUT_SECONDS = 3.0
_RETRY_INTERVAL_SECONDS = 0.5
_DELETE_TIMEOUT_SECONDS = 300.0
_RENEWALS_PER_LEASE = 4
QUEUE_FACTOR = 16

_log = structlog.get_logger()

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class SnapshotLimits:
    """How snapshots are made: so many at once, each within so many seconds, and given up when silent for so many."""

    max_concurrent: int = 4
    timeout_seconds: float = 3600.0
    lease_seconds: float = 30.0

    @property
    def max_pending(self) -> int:
        """How many may be made or wait for their turn in one process: their leases are renewed one after another."""
        return self.max_concurrent * QUEUE_FACTOR


@dataclass(frozen=True, slots=True)
class _Job:
    org: str
    snapshot: Snapshot


class SnapshotWorker:
    """Makes the snapshots of one process."""

    def __init__(self, snapshots: SnapshotRepository, rows: SnapshotRowRepository, limits: SnapshotLimits) -> None:
        self._snapshots = snapshots
        self._rows = rows
        self._limits = limits
        self._owner = secrets.token_hex(8)
        self._pool = ThreadPoolExecutor(limits.max_concurrent, thread_name_prefix="snapshot")
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._renew_thread: threading.Thread | None = None

    def check_capacity(self) -> None:
        """Raise TooManySnapshots where as many are made here, or wait for their turn, as may."""
        if len(self._jobs) >= self._limits.max_pending:
            max_pending = self._limits.max_pending
            raise TooManySnapshots(
                f"{max_pending} snapshots are being made already", metadata={"limit": str(max_pending)}
            )

    def lease(self) -> Lease:
        """A lease from now on, for an attempt that will be started here."""
        return Lease(self._owner, now() + timedelta(seconds=self._limits.lease_seconds))

    def capacity_free_at(self) -> datetime:
        """When the commands that make snapshots now will have ended, here or in another process."""
        return now() + timedelta(seconds=self._limits.timeout_seconds)

    def start(self, org: str, snapshot: Snapshot, resolved_selection: ResolvedSelection) -> None:
        """Make an attempt that is stored with a lease of this maker. Returns at once."""
        with self._lock:
            if self._renew_thread is None:
                self._renew_thread = threading.Thread(target=self._renew_leases, name="snapshot-leases", daemon=True)
                self._renew_thread.start()
            done = self._pool.submit(self._run, org, snapshot, resolved_selection)
            self._jobs[snapshot.list_version_id] = _Job(org, snapshot)
        done.add_done_callback(lambda _: self._jobs.pop(snapshot.list_version_id, None))

    def close(self) -> None:
        """Give up all that is being made, so that others can take it over at once."""
        self._closed.set()
        cancelled_jobs = tuple(self._jobs.values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for job in cancelled_jobs:
            failed = replace(job.snapshot, state=SnapshotState.FAILED, error="the service that made it was stopped")
            with suppress(AudienceError):
                self._snapshots.fail(job.org, failed, self.capacity_free_at(), Deadline.after(_RENEW_TIMEOUT_SECONDS))

    def _run(self, org: str, snapshot: Snapshot, resolved_selection: ResolvedSelection) -> None:
        try:
            copying = replace(snapshot, progress=COPYING_PROGRESS)
            if not self._retry_write(lambda until: self._snapshots.renew(org, copying, self.lease(), until)):
                return  # it has waited for its turn too long, and is somebody else's
            result = self._rows.write(
                org,
                snapshot,
                resolved_selection.candidates,
                resolved_selection.reasons,
                Deadline.after(self._limits.timeout_seconds),
                lambda: self._report_counting(org, snapshot),
            )
            finished = replace(
                snapshot,
                state=SnapshotState.READY,
                progress=READY_PROGRESS,
                count=result.count,
                digest=result.digest,
                exclusions=result.exclusions,
                read_at=result.read_at,
                point_in_time=result.point_in_time,
            )
            if not self._retry_write(lambda until: self._snapshots.finish(org, finished, until)):
                # Given up, taken over or deleted meanwhile: nothing refers to these rows.
                self._rows.delete(org, snapshot.list_version_id, Deadline.after(_DELETE_TIMEOUT_SECONDS))
        except OutOfTime:
            limit = self._limits.timeout_seconds
            self._fail(org, snapshot, f"it took longer than the {limit:g} seconds that a snapshot may take")
        except AudienceError as error:
            self._fail(org, snapshot, str(error))
        except Exception as error:
            incident = uuid.uuid4().hex[:8]
            _log.error("snapshot failed", snapshot=snapshot.id, incident=incident, exc_info=error)
            self._fail(org, snapshot, f"internal error; the log has incident {incident}")

    def _report_counting(self, org: str, snapshot: Snapshot) -> None:
        """Store the progress if the database is available; the creation goes on without it."""
        counting = replace(snapshot, progress=COUNTING_PROGRESS)
        with suppress(AudienceError):
            self._snapshots.renew(org, counting, self.lease(), Deadline.after(_RENEW_TIMEOUT_SECONDS))

    def _fail(self, org: str, snapshot: Snapshot, reason: str) -> None:
        """Say so, if the database can be reached; else the lease runs out."""
        failed = replace(snapshot, state=SnapshotState.FAILED, error=reason)
        with suppress(AudienceError):
            self._retry_write(lambda until: self._snapshots.fail(org, failed, self.capacity_free_at(), until))

    def _retry_write(self, write: Callable[[Deadline], Result]) -> Result:
        """What a write to the manifest answers, tried again for as long as a lease lasts while the database is away.

        What has been frozen is not to be lost by an election. Each write can be done twice.
        """
        give_up_at = time.monotonic() + self._limits.lease_seconds
        while True:
            try:
                return write(Deadline.after(_WRITE_TIMEOUT_SECONDS))
            except StoreUnavailable:
                if time.monotonic() > give_up_at or self._closed.wait(_RETRY_INTERVAL_SECONDS):
                    raise

    def _renew_leases(self) -> None:
        while not self._closed.wait(self._limits.lease_seconds / _RENEWALS_PER_LEASE):
            for job in tuple(self._jobs.values()):
                try:
                    self._snapshots.renew(job.org, job.snapshot, self.lease(), Deadline.after(_RENEW_TIMEOUT_SECONDS))
                except AudienceError:
                    pass  # the next beat will do
                except Exception as error:  # one lease must not end the others'
                    _log.error("lease renewal failed", snapshot=job.snapshot.id, exc_info=error)
