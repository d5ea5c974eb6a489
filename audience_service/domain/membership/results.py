"""What the use cases ask of storage about single records, and what it answers; see domain/ports.py as well."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.core.record import Record
from audience_service.domain.filters import CompiledFilter


@dataclass(frozen=True, slots=True)
class MembershipResults:
    """Which of some records are members of which of some populations.

    `records` are those that there are, in use or not, by id, with what was asked for of each. `members` are the ids of
    each population's members among them, in the populations' order, or why it cannot be told.
    """

    records: Mapping[str, Record]
    members: Sequence[frozenset[str] | InvalidFilter]


class CheckRepository(Protocol):
    """Records by id, and what they are members of."""

    def find(self, org: str, datatype: str, ids: Sequence[str], deadline: Deadline) -> frozenset[str]:
        """Those of the ids that are records, in use or not."""

    def evaluate(
        self,
        org: str,
        datatype: str,
        populations: Sequence[CompiledFilter],
        ids: Sequence[str],
        paths: Sequence[str],
        deadline: Deadline,
    ) -> MembershipResults:
        """Judge records by populations of their datatype, by one command where it holds all of them.

        A population that fails on one of the records fails alone. Of each record `paths` are read, and what lies
        around them.
        """
