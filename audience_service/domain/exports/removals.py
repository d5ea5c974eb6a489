"""Rows to remove, without the identifiers of remaining members."""

from collections.abc import Sequence

from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.exports.readiness import Row
from audience_service.domain.identifiers import IdentifierExtractor
from audience_service.domain.identifiers.digests import Digests

_MAX_IDENTIFIERS = 20_000_000


class RetainedIdentifiers:
    """The identifiers of the members that remain in the audience.

    For example, two records of one person share an email address, and one of them exits. A row with that address would
    remove the person from the platform's list, so the address is left out of the row.
    """

    def __init__(self, identifier: IdentifierExtractor) -> None:
        self._keys = identifier.keys
        self._digests = Digests(_MAX_IDENTIFIERS)

    def add(self, row: Row) -> None:
        """Add a remaining member's row. Raises InvalidArgument above twenty million identifiers."""
        for name, indexes in self._keys:
            if found := _key_values(row, name, indexes):
                self._digests.add(found)
        if self._digests.is_full:
            raise InvalidArgument.at(
                "since_snapshot_id",
                f"needs more than {_MAX_IDENTIFIERS:,} identifiers to compare; export all members instead",
            )

    def remove_from(self, row: Row) -> Row | None:
        """The row without identifiers of remaining members; None if no complete key is left."""
        remaining = list(row)
        for name, indexes in self._keys:
            if (found := _key_values(row, name, indexes)) and found in self._digests:
                for index in indexes:
                    remaining[index] = ""
        return remaining if any(_key_values(remaining, *key) for key in self._keys) else None


def _key_values(row: Row, name: str, indexes: Sequence[int]) -> list[str]:
    """The key's name and values; empty if a value is missing."""
    values = [row[index] for index in indexes]
    return [name, *values] if all(values) else []
