"""Readiness: how much of an audience a platform can use, counted while its members are read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audience_service.domain.audiences.selection_resolver import Exclusion
from audience_service.domain.identifiers import IdentifierExtractor
from audience_service.domain.identifiers.digests import Digests
from audience_service.domain.identifiers.rules import PlatformRules

_MAX_DISTINCT_ROWS = 10_000_000
"""The most rows for which distinct rows are counted, at 12 bytes each."""

Row = Sequence[str]


@dataclass(frozen=True, slots=True)
class Removals:
    """How many members exited since the snapshot, by what the export does with them.

    `removed`: a row to remove is sent.
    `retained`: no row, because without the identifiers of remaining members no complete key is left.
    `unremovable`: no valid identifiers, or a deleted record.
    """

    removed: int
    retained: int
    unremovable: int


@dataclass(frozen=True, slots=True)
class Readiness:
    """Counts of members, identifiers and rows. `distinct` is None above ten million rows.

    `problems` and `changes` count members by field and problem, or kind of change.
    """

    members: int
    exclusions: Sequence[Exclusion]
    consented: int
    with_identifiers: int
    valid: int
    distinct: int | None
    invalid: Mapping[str, int]
    min_list_size: int
    minimum_met: bool
    removals: Removals | None
    problems: Mapping[tuple[str, str], int]
    changes: Mapping[tuple[str, str], int]


class ReadinessCounter:
    """Converts members to rows and counts the results."""

    def __init__(self, identifier: IdentifierExtractor) -> None:
        self._identifier = identifier
        self._counts: Counter[str] = Counter()
        self._invalid: Counter[str] = Counter()
        self._problems: Counter[tuple[str, str]] = Counter()
        self._changes: Counter[tuple[str, str]] = Counter()
        self._rows = Digests(_MAX_DISTINCT_ROWS)

    def row(self, record: Mapping[str, Any]) -> Row | None:
        """The row of a member; None if the member has no valid key."""
        identified = self._identifier.identify(record)
        self._counts["consented"] += 1
        self._counts["present"] += identified.has_identifiers
        self._invalid.update(identified.invalid)
        self._problems.update(identified.problems)
        self._changes.update(identified.changes)
        if identified.row is not None:
            self._counts["valid"] += 1
            self._rows.add(identified.row)
        return identified.row

    def readiness(
        self, exclusions: Sequence[Exclusion], rules: PlatformRules, removals: Removals | None = None
    ) -> Readiness:
        """The counts so far. `exclusions` has the counts of members that the export does not read."""
        consented = self._counts["consented"]
        distinct = len(self._rows)
        return Readiness(
            members=consented + sum(exclusion.count for exclusion in exclusions),
            exclusions=exclusions,
            consented=consented,
            with_identifiers=self._counts["present"],
            valid=self._counts["valid"],
            distinct=None if self._rows.is_full else distinct,
            invalid={rule.field: self._invalid[rule.field] for rule in rules.fields if self._invalid[rule.field]},
            min_list_size=rules.min_list_size,
            minimum_met=distinct >= rules.min_list_size,
            removals=removals,
            problems=self._problems,
            changes=self._changes,
        )
