"""The storage of snapshots: manifests, rows and diffs. domain/audiences/repository.py has the general rules."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.idempotency import IdempotencyKey
from audience_service.domain.core.lease import Lease
from audience_service.domain.core.pages import Page, PageKey
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.population import Population
from audience_service.domain.snapshots.model import Snapshot, SnapshotQuery


@dataclass(frozen=True, slots=True)
class RowSummary:
    """The number and the digest of stored rows, and the ends of their slices."""

    count: int = 0
    digest: str = "0" * 16
    slice_ends: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SnapshotResult:
    """The result of an attempt. The summary is of the stored rows, so that readers find exactly as many.

    `exclusions` are the numbers of excluded records, by reason.
    """

    summary: RowSummary
    exclusions: Mapping[str, int]
    read_at: datetime
    point_in_time: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """A record in only one of two snapshots: in the second if it `entered`, otherwise in the first."""

    pk: str
    sk: str
    entered: bool


class SnapshotRepository(Protocol):
    """The manifests.

    1. Deleted and expired snapshots are not found, whether their records have been removed or not.
    2. Every change of state is compare-and-set on the attempt and its state, which refuses an abandoned attempt.
    3. Orphaned rows are swept after `capacity_free_at`, when every command that may write them now has ended.
    """

    def insert(
        self, org: str, snapshot: Snapshot, lease: Lease, key: IdempotencyKey | None, deadline: Deadline
    ) -> None:
        """Store a new manifest.

        Raises RequestIdReused if a snapshot has this key already, and InvalidArgument if the filters in the manifest
        exceed its size limit.
        """

    def find_by_key(self, org: str, key: IdempotencyKey, deadline: Deadline) -> tuple[Snapshot, str] | None:
        """The snapshot that a request created, and the digest of that request."""

    def get(self, org: str, snapshot_id: str, deadline: Deadline) -> Snapshot:
        """The snapshot. Raises SnapshotNotFound."""

    def count(self, org: str, limit: int, deadline: Deadline) -> int:
        """The number of snapshots in any state, up to `limit`."""

    def page(
        self, org: str, query: SnapshotQuery, size: int, after: PageKey | None, deadline: Deadline
    ) -> Page[Snapshot]:
        """Up to `size` snapshots after the key `after`, newest first."""

    def renew(self, org: str, snapshot: Snapshot, lease: Lease, deadline: Deadline) -> bool:
        """Renew the lease of an attempt and raise the stored progress to the snapshot's.

        Returns whether this owner still has the lease. An expired one counts until somebody acts on it.
        """

    def take_over(
        self, org: str, snapshot: Snapshot, lease: Lease, capacity_free_at: datetime, deadline: Deadline
    ) -> bool:
        """Start an attempt, if it follows the stored one, and that has FAILED or its lease has expired.

        Returns whether it has started. The rows of the stored attempt are swept.
        """

    def finish(self, org: str, snapshot: Snapshot, deadline: Deadline) -> bool:
        """Make an attempt READY. Returns whether it was the current attempt, or is READY already."""

    def fail(self, org: str, snapshot: Snapshot, capacity_free_at: datetime, deadline: Deadline) -> None:
        """Make an attempt FAILED if it is the current one. Its rows are swept."""

    def remove(self, org: str, snapshot_id: str, capacity_free_at: datetime, deadline: Deadline) -> Snapshot:
        """Delete a snapshot and return it as it was. Raises SnapshotNotFound.

        Its rows are swept once requests that found it before have read them. If they were missing earlier, the snapshot
        would look empty, and an exclusion by it would let its members through.
        """


class SnapshotRowRepository(Protocol):
    """The rows of snapshots, with one document per member."""

    def write(
        self,
        org: str,
        snapshot: Snapshot,
        candidates: Population,
        reasons: Mapping[str, CompiledFilter],
        deadline: Deadline,
        on_written: Callable[[], None],
    ) -> SnapshotResult:
        """Write the rows of an attempt in one command, inside the database, then count them.

        It calls `on_written` once all rows are stored, before it counts.

        The first reason that holds for a candidate excludes it. Count and exclusions add up to the candidates, even
        with concurrent writes.
        """

    def summarize(self, org: str, list_version_id: str, deadline: Deadline) -> Mapping[str, RowSummary]:
        """The summary of an attempt's rows by its id, and of its excluded rows by "<attempt>!<reason>"."""

    def delete(self, org: str, list_version_id: str, deadline: Deadline) -> None:
        """Delete all rows of an attempt."""

    def diff(
        self, org: str, first: Snapshot, second: Snapshot, batch_size: int, after: str, deadline: Deadline
    ) -> Generator[list[Difference], None, None]:
        """The records in only one of two snapshots, after the sk `after`, in sk order, computed by the database.

        They come in batches of up to `batch_size`; no batch is empty. Memory holds one. A caller that stops early
        closes the generator.
        """
