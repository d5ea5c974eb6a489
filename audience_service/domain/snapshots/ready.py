"""Snapshots to read members of, and snapshots as audiences."""

from audience_service.domain.audiences.audience import ListedAudience
from audience_service.domain.caller import Call
from audience_service.domain.errors import AudienceNotFound, SnapshotNotFound, SnapshotNotReady, UnusableAudience
from audience_service.domain.ports import MemberRepository
from audience_service.domain.snapshots.ports import SnapshotRepository
from audience_service.domain.snapshots.snapshot import SNAPSHOT_PREFIX, Snapshot, SnapshotState


class ReadySnapshots:
    """Finds snapshots by id, within the call's org."""

    def __init__(self, snapshots: SnapshotRepository, members: MemberRepository) -> None:
        self._snapshots = snapshots
        self._members = members

    def get(self, call: Call, snapshot_id: str) -> Snapshot:
        """The snapshot, whatever its state. Raises SnapshotNotFound."""
        if not snapshot_id.startswith(SNAPSHOT_PREFIX):
            raise SnapshotNotFound.of(snapshot_id)
        return self._snapshots.get(call.org, snapshot_id, call.deadline)

    def ready(self, call: Call, snapshot_id: str) -> Snapshot:
        """The snapshot, which is READY. Raises SnapshotNotFound, SnapshotNotReady."""
        snapshot = self.get(call, snapshot_id)
        if snapshot.state is not SnapshotState.READY:
            raise SnapshotNotReady(
                f"the snapshot is {snapshot.state}",
                metadata={"id": snapshot.id, "creation_state": snapshot.state.value},
            )
        return snapshot

    def check_whole(self, call: Call, snapshot: Snapshot, count: int | None = None) -> None:
        """Raise where rows of a snapshot were missing when it was read; `count` is how many were read, where all.

        One that has expired or been deleted meanwhile has its rows for a while, and what has been read of it stands.
        Raises SnapshotNotFound where they are gone as well.
        """
        if count == snapshot.count:
            return
        try:
            self.ready(call, snapshot.id)
        except SnapshotNotFound:
            if count is None and self._members.count(call.org, snapshot.rows, call.deadline) == snapshot.count:
                return
            raise
        if count is not None:
            raise RuntimeError(f"{count:,} of the {snapshot.count:,} members of {snapshot.id} were read")

    def as_audience(self, call: Call, snapshot_id: str) -> ListedAudience:
        """The snapshot as an audience: those frozen that are still in use.

        Raises AudienceNotFound, UnusableAudience.
        """
        try:
            snapshot = self.ready(call, snapshot_id)
        except SnapshotNotFound:
            raise AudienceNotFound.of(snapshot_id) from None
        except SnapshotNotReady as error:
            raise UnusableAudience(error.message, metadata=error.metadata) from None
        return ListedAudience(snapshot.id, snapshot.name, snapshot.living)
