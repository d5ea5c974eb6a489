"""The storage that streams of members and checks of single contacts need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.core.record import Record
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.ast import Related

Measurement = Mapping[str, Any]
"""The numbers that a relation sees: `count`, and the results by function and path."""


class PartitionRepository(Protocol):
    """The keys that divide populations into partitions: parallel readers share them."""

    def find(self, org: str, name: str, deadline: Deadline) -> Sequence[str] | None:
        """The keys stored under a name, if a call used them within the last hour. This call counts as a use."""

    def get_or_create(self, org: str, name: str, keys: Sequence[str], deadline: Deadline) -> Sequence[str]:
        """The keys that apply: those that another reader stored in the meantime, otherwise `keys`."""


@dataclass(frozen=True, slots=True)
class MembershipResults:
    """Which records are members of which populations.

    `records` has the records that exist, archived ones included, by id, with the requested paths.
    `members` has, for each population in order, the ids of its members among the records.
    If a population fails on a record, `members` has its error instead.
    """

    records: Mapping[str, Record]
    members: Sequence[frozenset[str] | InvalidFilter]


class MembershipCheckRepository(Protocol):
    """Records by id, and their memberships."""

    def find(self, org: str, datatype: str, ids: Sequence[str], deadline: Deadline) -> frozenset[str]:
        """The ids that belong to records, archived ones included."""

    def evaluate(
        self,
        org: str,
        datatype: str,
        populations: Sequence[CompiledFilter],
        ids: Sequence[str],
        paths: Sequence[str],
        deadline: Deadline,
    ) -> MembershipResults:
        """Evaluate populations of one datatype on records, in one command if they fit one.

        A population that fails on a record does not affect the others. Of each record, the fields that contain `paths`
        are read.
        """

    def measure(
        self, org: str, datatype: str, relations: Sequence[Related], record_id: str, deadline: Deadline
    ) -> Sequence[Measurement]:
        """The numbers that relations with a test see for one record: `count`, and the results by function and path.

        Empty for a relation if an expression in it fails.
        """
