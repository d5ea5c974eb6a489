"""Snapshots to read members of, and snapshots as audiences."""

from audience_service.domain.audiences.model import ListAudience
from audience_service.domain.audiences.repository import MemberRepository
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import AudienceNotFound, SnapshotNotFound, SnapshotNotReady, UnusableAudience
from audience_service.domain.snapshots.model import SNAPSHOT_PREFIX, Snapshot, SnapshotState
from audience_service.domain.snapshots.repository import SnapshotRepository


class SnapshotReader:
    """Finds snapshots by id, within the call's org."""

    def __init__(self, snapshots: SnapshotRepository, members: MemberRepository) -> None:
        self._snapshots = snapshots
        self._members = members

    def get(self, ctx: RequestContext, snapshot_id: str) -> Snapshot:
        """The snapshot, whatever its state. Raises SnapshotNotFound."""
        if not snapshot_id.startswith(SNAPSHOT_PREFIX):
            raise SnapshotNotFound.of(snapshot_id)
        return self._snapshots.get(ctx.org, snapshot_id, ctx.deadline)

    def get_ready(self, ctx: RequestContext, snapshot_id: str) -> Snapshot:
        """The snapshot, which is READY. Raises SnapshotNotFound, SnapshotNotReady."""
        snapshot = self.get(ctx, snapshot_id)
        if snapshot.state is not SnapshotState.READY:
            raise SnapshotNotReady(
                f"the snapshot is {snapshot.state}",
                metadata={"id": snapshot.id, "creation_state": snapshot.state.value},
            )
        return snapshot

    def verify_complete(self, ctx: RequestContext, snapshot: Snapshot, count: int | None = None) -> None:
        """Raise where rows of a snapshot were missing when it was read; `count` is how many were read, where all.

        One that has expired or been deleted meanwhile has its rows for a while, and what has been read of it stands.
        Raises SnapshotNotFound where they are gone as well.
        """
        if count == snapshot.count:
            return
        try:
            self.get_ready(ctx, snapshot.id)
        except SnapshotNotFound:
            if count is None and self._members.count(ctx.org, snapshot.rows, ctx.deadline) == snapshot.count:
                return
            raise
        if count is not None:
            raise RuntimeError(f"{count:,} of the {snapshot.count:,} members of {snapshot.id} were read")

    def load_audience(self, ctx: RequestContext, snapshot_id: str) -> ListAudience:
        """The snapshot as an audience: those frozen that are still in use.

        Raises AudienceNotFound, UnusableAudience.
        """
        try:
            snapshot = self.get_ready(ctx, snapshot_id)
        except SnapshotNotFound:
            raise AudienceNotFound.of(snapshot_id) from None
        except SnapshotNotReady as error:
            raise UnusableAudience(error.message, metadata=error.metadata) from None
        return ListAudience(snapshot.id, snapshot.name, snapshot.active_rows)
