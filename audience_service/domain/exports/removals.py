"""Rows to remove, without what somebody who stays has too."""

from collections.abc import Sequence

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.exports.readiness import Row
from audience_service.domain.identifiers import Identifier
from audience_service.domain.identifiers.digests import Digests

_MAX_IDENTIFIERS = 20_000_000


class RetainedIdentifiers:
    """What the members who stay are told from others by.

    A platform takes whoever a row's identifiers are of off its list: two records of one person have the same email, and
    the one that goes must not take the other along.
    """

    def __init__(self, identifier: Identifier) -> None:
        self._keys = identifier.keys
        self._digests = Digests(_MAX_IDENTIFIERS)

    def add(self, row: Row) -> None:
        """Remember a member's row. Raises InvalidArgument past twenty million identifiers."""
        for key in self._keys:
            if found := _key_values(row, key):
                self._digests.add(found)
        if self._digests.is_full:
            raise InvalidArgument.at(
                "since_snapshot_id", f"compares more than {_MAX_IDENTIFIERS:,} identifiers; export all members instead"
            )

    def remove_from(self, row: Row) -> Row | None:
        """The row without what members who stay have; None where that leaves nothing that tells who it is."""
        remaining = list(row)
        for key in self._keys:
            if (found := _key_values(row, key)) and found in self._digests:
                for index in key:
                    remaining[index] = ""
        return remaining if any(_key_values(remaining, key) for key in self._keys) else None


def _key_values(row: Row, key: Sequence[int]) -> list[str]:
    """The values of a key and which key they are of; nothing where one is missing."""
    values = [row[index] for index in key]
    return [str(key), *values] if all(values) else []
