"""Finds snapshots that requests read, and loads snapshots as audiences."""

from collections.abc import Mapping, Sequence

from audience_service.domain.audiences.model import Audience, ListAudience, SelectedSnapshot
from audience_service.domain.audiences.repository import MemberRepository
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.erased import ErasedKeys, NobodyErased
from audience_service.domain.core.errors import SnapshotNotFound, SnapshotNotReady, UnusableAudience
from audience_service.domain.core.idempotency import CreationState
from audience_service.domain.snapshots.model import SNAPSHOT_PREFIX, Snapshot
from audience_service.domain.snapshots.repository import SnapshotRepository


class SnapshotReader:
    """Finds snapshots by id, within the caller's org."""

    def __init__(
        self, snapshots: SnapshotRepository, members: MemberRepository, erased: ErasedKeys | None = None
    ) -> None:
        """`erased` are the org's erased people; None for a service without erasures."""
        self._snapshots = snapshots
        self._members = members
        self._erased = erased or NobodyErased()

    def get(self, ctx: RequestContext, snapshot_id: str) -> Snapshot:
        """The snapshot in any state. Raises SnapshotNotFound."""
        if not snapshot_id.startswith(SNAPSHOT_PREFIX):
            raise SnapshotNotFound.of(snapshot_id)
        return self._snapshots.get(ctx.org, snapshot_id, ctx.deadline)

    def get_ready(self, ctx: RequestContext, snapshot_id: str) -> Snapshot:
        """The READY snapshot. Raises SnapshotNotFound, SnapshotNotReady."""
        snapshot = self.get(ctx, snapshot_id)
        if snapshot.state is not CreationState.READY:
            raise SnapshotNotReady(
                f"the snapshot is {snapshot.state}; its members can be read once it is READY",
                metadata={"id": snapshot.id, "creation_state": snapshot.state.value},
            )
        return snapshot

    def verify_complete(self, ctx: RequestContext, snapshot: SelectedSnapshot, count: int | None = None) -> None:
        """Raise SnapshotNotFound if rows of a snapshot were deleted during a read.

        `count` is the number of rows read, or None if the read did not cover all of them. A snapshot that expires or is
        deleted keeps its rows for a while. What was read is complete as long as all of them exist.
        """
        if count == snapshot.count:
            return
        try:
            self.get_ready(ctx, snapshot.id)
        except SnapshotNotFound:
            if count is None and self._members.count(ctx.org, snapshot.rows, ctx.deadline) == snapshot.count:
                return
            raise
        if count is None:
            return
        # Contacts that were erased since are missing among the rows, or only among those that were read last.
        is_erased = bool(self._erased.keys(ctx.org))
        if not (is_erased and self._members.count(ctx.org, snapshot.rows, ctx.deadline) <= count <= snapshot.count):
            raise RuntimeError(f"{snapshot.id} has {snapshot.count:,} members, but {count:,} were read")

    def load(self, ctx: RequestContext, audience_ids: Sequence[str]) -> Mapping[str, Audience]:
        """The snapshots that exist, as audiences of their members that are not archived or deleted since.

        Raises UnusableAudience if one is not READY.
        """
        found: dict[str, Audience] = {}
        for snapshot_id in audience_ids:
            try:
                snapshot = self.get_ready(ctx, snapshot_id)
            except SnapshotNotFound:
                continue
            except SnapshotNotReady as error:
                raise UnusableAudience(error.message, metadata=error.metadata) from None
            found[snapshot_id] = ListAudience(snapshot.id, snapshot.name, snapshot.unarchived_rows)
        return found
