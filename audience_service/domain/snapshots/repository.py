"""What the use cases on snapshots ask of storage; domain/ports.py states what holds for every method."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.idempotency import IdempotencyKey
from audience_service.domain.core.lease import Lease
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.population import Population
from audience_service.domain.snapshots.model import Snapshot, SnapshotPage, SnapshotQuery


@dataclass(frozen=True, slots=True)
class SnapshotResult:
    """What has been frozen: counted and digested from the rows, so that the count is how many there are to read.

    `exclusions` are the rows that were left out, by reason.
    """

    count: int
    digest: str
    exclusions: Mapping[str, int]
    read_at: datetime
    point_in_time: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """A record that is in one of two snapshots alone: in the second where it `entered`, else in the first."""

    pk: str
    sk: str
    entered: bool


class SnapshotRepository(Protocol):
    """The manifests. Those that were deleted or have expired are not there, whether they have been removed or not.

    Every change of state is compare-and-set on the attempt and the state before it: an attempt that was given up can
    write nothing any more. Rows that are left to be swept are there until `busy_until`, when whatever command may write
    them now has ended.
    """

    def insert(
        self, org: str, snapshot: Snapshot, lease: Lease, key: IdempotencyKey | None, deadline: Deadline
    ) -> None:
        """Store a new manifest.

        Raises RequestIdReused where the request has made one already, InvalidArgument where the filters in it take more
        room than a manifest has.
        """

    def find_by_key(self, org: str, key: IdempotencyKey, deadline: Deadline) -> tuple[Snapshot, str] | None:
        """The snapshot that a request has made, and the digest of that request."""

    def get(self, org: str, snapshot_id: str, deadline: Deadline) -> Snapshot:
        """The snapshot. Raises SnapshotNotFound."""

    def page(
        self, org: str, query: SnapshotQuery, size: int, after: tuple[str, str] | None, deadline: Deadline
    ) -> SnapshotPage:
        """Up to `size` snapshots behind the key `after`, newest first."""

    def renew(self, org: str, snapshot: Snapshot, lease: Lease, deadline: Deadline) -> bool:
        """Renew the lease of an attempt and raise the stored progress to the snapshot's.

        Returns whether this owner still has the lease.
        """

    def take_over(
        self, org: str, snapshot: Snapshot, lease: Lease, capacity_free_at: datetime, deadline: Deadline
    ) -> bool:
        """Begin an attempt, the one after the stored one, which has FAILED or whose lease has run out.

        Answers with whether it could be begun; the stored attempt's rows are left to be swept.
        """

    def finish(self, org: str, snapshot: Snapshot, deadline: Deadline) -> bool:
        """Make an attempt READY; answers with whether it was still the one to be made, or is READY already."""

    def fail(self, org: str, snapshot: Snapshot, capacity_free_at: datetime, deadline: Deadline) -> None:
        """Make an attempt FAILED, if it was still the one to be made, and leave its rows to be swept."""

    def remove(self, org: str, snapshot_id: str, capacity_free_at: datetime, deadline: Deadline) -> Snapshot:
        """Delete a snapshot; answers with it as it was. Raises SnapshotNotFound.

        Its rows are left to be swept once whoever had found it before has read them: a list that vanished meanwhile
        would be an audience without members, and whom it was to leave out would be reached.
        """


class SnapshotRowRepository(Protocol):
    """The rows of snapshots, a document for each record in one."""

    def write(
        self,
        org: str,
        snapshot: Snapshot,
        candidates: Population,
        reasons: Mapping[str, CompiledFilter],
        deadline: Deadline,
        on_written: Callable[[], None],
    ) -> SnapshotResult:
        """Write the rows of an attempt, inside the database and by one command, then count them.

        It calls `on_written` once all rows are stored, before it counts.

        A candidate for whom reasons hold is left out by the first of them, so that the count and the exclusions add up
        to the candidates, whatever is written meanwhile.
        """

    def delete(self, org: str, list_version_id: str, deadline: Deadline) -> None:
        """Delete all rows of an attempt."""


class DifferenceRepository(Protocol):
    """What two snapshots have not in common."""

    def diff(
        self, org: str, first: Snapshot, second: Snapshot, batch_size: int, after: str, deadline: Deadline
    ) -> Generator[list[Difference], None, None]:
        """Those in one of two snapshots alone, behind the sk `after`, in sk order, computed by the database.

        In batches of up to `batch_size`, never an empty one. Memory holds one.
        Whoever stops early closes the generator.
        """
