"""Creates snapshots in the background, as jobs of this process: the caller need not wait for the rows.

    stored with a lease ──> COPYING ──> COUNTING ──> READY, by `finish`
                               └── an error, a timeout or close(): FAILED, by `fail`

If the process dies, the lease expires. Then the sweeper marks the attempt FAILED (mongo/snapshots/cleanup.py), or a
repeated request takes the snapshot over with the next attempt.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from audience_service.domain.audiences.selection_resolver import ResolvedSelection
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import TooManySnapshots
from audience_service.domain.core.idempotency import CreationState
from audience_service.domain.core.jobs import Job, JobLimits, JobRunner, Report
from audience_service.domain.core.lease import Lease
from audience_service.domain.snapshots.model import COPYING_PROGRESS, COUNTING_PROGRESS, READY_PROGRESS, Snapshot
from audience_service.domain.snapshots.repository import SnapshotRepository, SnapshotRowRepository

_DELETE_TIMEOUT_SECONDS = 300.0


class SnapshotWorker:
    """Creates the snapshots of one process."""

    def __init__(self, snapshots: SnapshotRepository, rows: SnapshotRowRepository, limits: JobLimits) -> None:
        self._snapshots = snapshots
        self._rows = rows
        self._timeout = timedelta(seconds=limits.timeout_seconds)
        self.runner = JobRunner("snapshot", limits, _too_many)

    def capacity_free_at(self) -> datetime:
        """When every command that writes rows now has ended, in this process or another."""
        return now() + self._timeout

    def job(self, org: str, snapshot: Snapshot, selection: ResolvedSelection) -> Job:
        """The creation of an attempt, which is stored with a lease of its slot."""
        finished = snapshot

        def run(deadline: Deadline, report: Report) -> None:
            nonlocal finished
            report(COPYING_PROGRESS)
            result = self._rows.write(
                org, snapshot, selection.candidates, selection.reasons, deadline, lambda: report(COUNTING_PROGRESS)
            )
            finished = replace(
                snapshot,
                state=CreationState.READY,
                progress=READY_PROGRESS,
                count=result.summary.count,
                digest=result.summary.digest,
                slice_ends=result.summary.slice_ends,
                exclusions=result.exclusions,
                read_at=result.read_at,
                point_in_time=result.point_in_time,
            )

        def renew(lease: Lease, progress: int, deadline: Deadline) -> bool:
            return self._snapshots.renew(org, replace(snapshot, progress=progress), lease, deadline)

        def finish(error: str, deadline: Deadline) -> None:
            if error:
                failed = replace(snapshot, state=CreationState.FAILED, error=error)
                self._snapshots.fail(org, failed, self.capacity_free_at(), deadline)
            elif not self._snapshots.finish(org, finished, deadline):
                # The attempt has failed, or was taken over or deleted: no snapshot refers to its rows.
                self._rows.delete(org, snapshot.list_version_id, Deadline.after(_DELETE_TIMEOUT_SECONDS))

        return Job(snapshot.id, run, renew, finish)


def _too_many(limit: int) -> TooManySnapshots:
    return TooManySnapshots(
        f"{limit} snapshots are already being created; retry later",
        metadata={"quota": "snapshots_in_creation", "limit": str(limit)},
    )
