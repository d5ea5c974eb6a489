"""The storage of erasures. domain/audiences/repository.py has the rules for every method."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.record import Record
from audience_service.domain.erasure.model import Person, Remainder, Removal, Tombstone


class ErasureRepository(Protocol):
    """Tombstones, and the removal of people from every collection of the service."""

    def find_records(
        self, org: str, datatypes: Sequence[str], ids: Collection[str], deadline: Deadline
    ) -> list[Record]:
        """The platform's records with these ids in any state, also of people who were erased before."""

    def find_inactive(self, org: str, datatype: str, paths: Sequence[str], deadline: Deadline) -> list[Record]:
        """The platform's records that are archived or marked as deleted: pk and the fields at these paths."""

    def find_sealed(self, org: str, tombstone_id: str, deadline: Deadline) -> bytes | None:
        """The encrypted person of a tombstone, None if it is not stored."""

    def store(self, org: str, tombstone: Tombstone, deadline: Deadline) -> None:
        """Store a tombstone. One that is stored already gets the later `sweep_until`."""

    def remove(self, org: str, person: Person, erased_at: datetime, deadline: Deadline) -> Removal:
        """Remove the person from every collection. It is safe to repeat."""

    def remainders(
        self, org: str, datatypes: Sequence[str], person: Person, removal: Removal, deadline: Deadline
    ) -> Sequence[Remainder]:
        """What other systems still hold: the platform's records, the syncs of its rows, and the users of its lists."""
