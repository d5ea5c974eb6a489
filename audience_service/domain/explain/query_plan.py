"""Query plans and existing indexes."""

from dataclasses import dataclass
from enum import StrEnum


class PlanKind(StrEnum):
    """Whether an index narrows the org's records before the database reads them."""

    INDEX = "INDEX"
    SCAN = "SCAN"


@dataclass(frozen=True, slots=True)
class ExecutionStats:
    """The cost of one run of the plan. `matched` is None if the database does not report it."""

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

    `index` contains the comma-separated names of the indexes that narrow the records. It is empty for a scan, which
    reads all of the org's records, with or without an index on sk. `joins` is the number of lookups in other
    collections. `stats` are None if the plan was not run.
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
