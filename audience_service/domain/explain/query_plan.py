"""How the database answers a filter: the plan, and the indexes that there are."""

from dataclasses import dataclass
from enum import StrEnum


class PlanKind(StrEnum):
    """Whether an index narrows the org's records down before they are read."""

    INDEX = "INDEX"
    SCAN = "SCAN"


@dataclass(frozen=True, slots=True)
class ExecutionStats:
    """What a run of the plan has taken. `matched` is None where the database does not tell it."""

    documents_examined: int
    keys_examined: int
    matched: int | None
    milliseconds: int

    @property
    def documents_per_match(self) -> float:
        """Documents examined for each match."""
        return self.documents_examined / max(self.matched or 0, 1)


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """The plan of a count.

    `index` are the names of the indexes that narrow, parted by commas; empty for a scan, the reading of all of the
    org's records, by their sk or not. `joins` are its looks into other collections. `figures` are None where it has not
    been run.
    """

    kind: PlanKind
    index: str
    joins: int
    stats: ExecutionStats | None


@dataclass(frozen=True, slots=True)
class ExistingIndex:
    """An index that any query may use, by its fields in order."""

    name: str
    fields: tuple[str, ...]
