"""Rows to remove, without what somebody who stays has too."""

from collections.abc import Sequence

from audience_service.domain.errors import InvalidArgument
from audience_service.domain.exports.readiness import Row
from audience_service.domain.identifiers import Identifier
from audience_service.domain.identifiers.digests import Digests

_MOST_IDENTIFIERS = 20_000_000


class Staying:
    """What the members who stay are told from others by.

    A platform takes whoever a row's identifiers are of off its list: two records of one person have the same email, and
    the one that goes must not take the other along.
    """

    def __init__(self, identifier: Identifier) -> None:
        self._keys = identifier.keys
        self._known = Digests(_MOST_IDENTIFIERS)

    def add(self, row: Row) -> None:
        """Remember a member's row. Raises InvalidArgument past twenty million identifiers."""
        for key in self._keys:
            if found := _of(row, key):
                self._known.add(found)
        if self._known.is_full:
            raise InvalidArgument.at(
                "since_snapshot_id", f"compares more than {_MOST_IDENTIFIERS:,} identifiers; export all members instead"
            )

    def without(self, row: Row) -> Row | None:
        """The row without what members who stay have; None where that leaves nothing that tells who it is."""
        left = list(row)
        for key in self._keys:
            if (found := _of(row, key)) and found in self._known:
                for index in key:
                    left[index] = ""
        return left if any(_of(left, key) for key in self._keys) else None


def _of(row: Row, key: Sequence[int]) -> list[str]:
    """The values of a key and which key they are of; nothing where one is missing."""
    values = [row[index] for index in key]
    return [str(key), *values] if all(values) else []
