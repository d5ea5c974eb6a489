"""How much of an audience a platform can use, counted as its members are read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audience_service.domain.audiences.selection_resolver import Exclusion
from audience_service.domain.identifiers import Identifier
from audience_service.domain.identifiers.digests import Digests
from audience_service.domain.identifiers.rules import PlatformRules

_MAX_DISTINCT_ROWS = 10_000_000
"""Rows whose different ones are counted, which take 12 bytes each."""

Row = Sequence[str]


@dataclass(frozen=True, slots=True)
class Removals:
    """Of those who have gone out: rows sent, people known by what somebody who stays has too, and nothing to hash."""

    removed: int
    retained: int
    unremovable: int


@dataclass(frozen=True, slots=True)
class Readiness:
    """How many there are of whom the platform can use how many; `distinct` is None past ten million rows."""

    members: int
    exclusions: Sequence[Exclusion]
    consented: int
    with_identifiers: int
    valid: int
    distinct: int | None
    invalid: Mapping[str, int]
    minimum: int
    minimum_met: bool
    removals: Removals | None


class ReadinessCounter:
    """Makes rows of members and counts what becomes of them."""

    def __init__(self, identifier: Identifier) -> None:
        self._identifier = identifier
        self._counts: Counter[str] = Counter()
        self._invalid: Counter[str] = Counter()
        self._rows = Digests(_MAX_DISTINCT_ROWS)

    def row(self, record: Mapping[str, Any]) -> Row | None:
        """The row of a member, None for whom none is to be sent."""
        identified = self._identifier.identify(record)
        self._counts["consented"] += 1
        self._counts["present"] += identified.has_identifiers
        self._invalid.update(identified.invalid)
        if identified.row is not None:
            self._counts["valid"] += 1
            self._rows.add(identified.row)
        return identified.row

    def readiness(
        self, exclusions: Sequence[Exclusion], rules: PlatformRules, removals: Removals | None = None
    ) -> Readiness:
        """What has been counted; the exclusions are of those who have not been read."""
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
            minimum=rules.minimum,
            minimum_met=distinct >= rules.minimum,
            removals=removals,
        )
