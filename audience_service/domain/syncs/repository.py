"""The storage of syncs. domain/audiences/repository.py has the rules for every method.

One caller at a time scans and builds batches: the one with the sync's lease. An acknowledgement needs no lease.
"""

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.idempotency import IdempotencyKey
from audience_service.domain.core.lease import Lease
from audience_service.domain.core.pages import Page, PageKey
from audience_service.domain.core.record import Record
from audience_service.domain.filters.population import Population
from audience_service.domain.syncs.model import (
    Batch,
    BatchState,
    MemberSource,
    Receipt,
    RowFormat,
    Scan,
    Sync,
    SyncMember,
    SyncQuery,
    SyncRow,
)


class SyncRepository(Protocol):
    """The records of syncs."""

    def insert(self, org: str, sync: Sync, key: IdempotencyKey | None, deadline: Deadline) -> None:
        """Store a new sync. Raises RequestIdReused if a sync has this key already."""

    def find_by_key(self, org: str, key: IdempotencyKey, deadline: Deadline) -> tuple[Sync, str] | None:
        """The sync that a request created, and the digest of that request."""

    def get(self, org: str, sync_id: str, deadline: Deadline) -> Sync:
        """The sync. Raises SyncNotFound."""

    def page(self, org: str, query: SyncQuery, size: int, after: PageKey | None, deadline: Deadline) -> Page[Sync]:
        """Up to `size` syncs after the key `after`, newest first."""

    def save(self, org: str, sync: Sync, deadline: Deadline) -> Sync:
        """Write the spec and return the sync, if the stored version is `sync.version`.

        Raises StaleVersion, SyncNotFound.
        """

    def remove(self, org: str, sync: Sync, deadline: Deadline) -> None:
        """Delete the sync if the stored version is `sync.version`. Its rows are swept. Raises as `save` does."""

    def acquire(self, org: str, sync_id: str, lease: Lease, deadline: Deadline) -> bool:
        """Take the lease, if it is free or expired. Returns whether it succeeded."""

    def renew(self, org: str, sync_id: str, lease: Lease, deadline: Deadline) -> None:
        """Renew the lease. Raises LeaseLost."""

    def release(self, org: str, sync_id: str, lease: Lease, deadline: Deadline) -> None:
        """Release the lease, unless another caller has it."""

    def start_scan(
        self, org: str, sync_id: str, lease: Lease, row_format: RowFormat, deadline: Deadline
    ) -> tuple[int, int]:
        """The number of a new scan, and the index of the row format, which is stored if it is new. Raises LeaseLost."""

    def finish_scan(self, org: str, sync_id: str, lease: Lease, scan: Scan, deadline: Deadline) -> None:
        """Store the scan as the latest complete one. Raises LeaseLost."""


class SyncRowRepository(Protocol):
    """The rows of syncs. The database computes every difference."""

    def check_supported(self) -> None:
        """Raise UnsupportedByStore if the store cannot compare rows."""

    def mark(
        self, org: str, sync_id: str, scan: int, row_format: int, rows: Sequence[SyncRow], deadline: Deadline
    ) -> None:
        """Store the rows that a scan found, and mark existing ones as found by it."""

    def drop(self, org: str, sync_id: str, scan: int, digests: Collection[str], deadline: Deadline) -> None:
        """Mark rows as not found by the scan, which had found them."""

    def compare(self, org: str, sync_id: str, scan: int, expired_before: datetime | None, deadline: Deadline) -> None:
        """Decide for every row what to do, after `scan` has marked all desired rows.

        Rows that the platform has since before `expired_before` are to be added again. A row that is not desired, and
        whose keys complete rows on the platform also have, is deleted.
        """

    def has_candidates(self, org: str, sync_id: str, batch: Batch, deadline: Deadline) -> bool:
        """Whether rows wait for a batch of this operation and format. They may be blocked."""

    def assign(self, org: str, sync_id: str, batch: Batch, size: int, deadline: Deadline) -> None:
        """Give the batch up to `size` rows of its operation and format that share no key with another open batch."""

    def count(self, org: str, sync_id: str, number: int, deadline: Deadline) -> int:
        """The number of rows of a batch."""

    def count_blocked(self, org: str, sync_id: str, scan: int, deadline: Deadline) -> int:
        """The number of rows that are to be added or removed, and share a key with an open batch."""

    def stream(
        self, org: str, sync_id: str, number: int, deadline: Deadline
    ) -> Generator[tuple[tuple[str, ...], frozenset[str]], None, None]:
        """The values and the keys to send of each row of an open batch, always in the same order."""

    def digests(
        self, org: str, sync_id: str, number: int, indexes: Sequence[int], deadline: Deadline
    ) -> tuple[str, ...]:
        """The digests of the rows of an open batch at these positions. Use them only if the batch is still open."""

    def apply(self, org: str, sync_id: str, batch: Batch, deadline: Deadline) -> None:
        """Record that the platform has accepted an APPLYING batch, except its rejected rows. It can be repeated."""

    def clear(self, org: str, sync_id: str, deadline: Deadline) -> None:
        """Delete all rows of a sync, and what is stored of its members."""


class SyncMemberRepository(Protocol):
    """What the last comparison of a sync knows of its members. The database finds those that have changed since."""

    def read(
        self, org: str, population: Population, source: MemberSource, keys: Sequence[str] | None, deadline: Deadline
    ) -> Generator[list[Record], None, None]:
        """The members, or those with these sk, in batches: sk, the fields of their source, and its hash `source`."""

    def find_changed(
        self, org: str, sync_id: str, population: Population, source: MemberSource, deadline: Deadline
    ) -> Generator[list[str], None, None]:
        """The sk of members that are not stored or have another hash, and of stored ones that are none any more."""

    def find_rows(self, org: str, sync_id: str, keys: Collection[str], deadline: Deadline) -> Collection[str]:
        """The digests of the rows that the stored members with these sk have."""

    def find_shared_rows(
        self, org: str, digests: Collection[str], without: Collection[str], deadline: Deadline
    ) -> Collection[str]:
        """Those of the digests that stored members have, apart from the members with the sk in `without`."""

    def insert(self, org: str, sync_id: str, members: Sequence[SyncMember], deadline: Deadline) -> None:
        """Store members that are not stored."""

    def start(self, org: str, sync_id: str, members: Sequence[SyncMember], deadline: Deadline) -> None:
        """Add the row of each member to its stored ones, and let the member count as changed until it is replaced."""

    def replace(
        self, org: str, sync_id: str, members: Sequence[SyncMember], removed: Collection[str], deadline: Deadline
    ) -> None:
        """Store members, and delete those with the sk in `removed`."""

    def count(self, org: str, sync_id: str, deadline: Deadline) -> tuple[int, int]:
        """The number of stored members, and of those with a row."""

    def clear(self, org: str, sync_id: str, deadline: Deadline) -> None:
        """Delete all members of a sync."""


class SyncBatchRepository(Protocol):
    """The batches of syncs, without their rows. Numbers begin at 1."""

    def reserve(self, org: str, sync_id: str, batch: Batch, deadline: Deadline) -> Batch:
        """Store a new batch, BUILDING, and return it with its number."""

    def open(self, org: str, sync_id: str, batch: Batch, row_count: int, deadline: Deadline) -> None:
        """Make a BUILDING batch OPEN, with its lease. Delete it if it has no rows."""

    def claim(
        self, org: str, sync_id: str, worker_id: str, after: int, lease_until: datetime, deadline: Deadline
    ) -> Batch | None:
        """Lease the first OPEN batch after a number that is the worker's own, or whose lease has expired."""

    def get(self, org: str, sync_id: str, number: int, deadline: Deadline) -> Batch | None:
        """The batch in any state."""

    def list(self, org: str, sync_id: str, states: Sequence[BatchState], deadline: Deadline) -> Sequence[Batch]:
        """The batches in these states, in order."""

    def start_acknowledgement(
        self, org: str, sync_id: str, number: int, receipt: Receipt, rejected: Sequence[str], deadline: Deadline
    ) -> None:
        """Make an OPEN batch APPLYING, with a receipt and the digests of the rejected rows."""

    def finish_acknowledgement(
        self, org: str, sync_id: str, number: int, expire_at: datetime, deadline: Deadline
    ) -> None:
        """Make an APPLYING batch ACKNOWLEDGED. It is deleted at `expire_at`."""

    def acknowledged(self, org: str, sync_id: str, limit: int, deadline: Deadline) -> Sequence[Batch]:
        """The last acknowledged batches, newest first."""

    def discard(self, org: str, sync_id: str, expire_at: datetime, deadline: Deadline) -> None:
        """Make all batches that are not acknowledged DISCARDED. They are deleted at `expire_at`."""


@dataclass(frozen=True, slots=True)
class SyncStorage:
    """The repositories of syncs."""

    syncs: SyncRepository
    rows: SyncRowRepository
    members: SyncMemberRepository
    batches: SyncBatchRepository
