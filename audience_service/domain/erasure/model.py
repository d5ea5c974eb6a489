"""An erased person, the tombstone that is left of them, and the report of an erasure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime

REDACTED = "(erased)"
"""Replaces a quoted address, number or id in filters, names and descriptions."""


@dataclass(frozen=True, slots=True)
class Person:
    """The contacts of a person, and the texts that identify them.

    `emails` are addresses, `numbers` national phone numbers in digits, `digests` SHA-256 in hexadecimal digits: the
    forms in which an upload may contain them. An address or number that another contact also has is in none of them.
    """

    ids: tuple[str, ...]
    sks: tuple[str, ...]
    emails: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()

    def union(self, other: "Person") -> "Person":
        """The person with what identifies either."""
        merged = {
            each.name: tuple(dict.fromkeys((*getattr(self, each.name), *getattr(other, each.name))))
            for each in fields(self)
        }
        return Person(**merged)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What remains of an erased person: keyed hashes, and the person itself, encrypted with the key of the service.

    The keys stop uploads. The encrypted ids keep the platform's record out of every query. Until `sweep_until` the
    removal is repeated, for rows that a running upload, snapshot or watch writes late.
    """

    id: str
    keys: frozenset[bytes]
    sealed: bytes
    erased_at: datetime
    sweep_until: datetime


@dataclass(slots=True)
class Removal:
    """What was removed: the number of rows by collection, and the audiences whose definition quoted the person.

    `list_ids` are the lists that had the person, and `sync_rows` the keys of the person's rows in syncs.
    """

    counts: Counter[str] = field(default_factory=Counter)
    list_ids: set[str] = field(default_factory=set)
    sync_rows: set[str] = field(default_factory=set)
    rewritten: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Remainder:
    """What another system still holds: its name, what it is, and how many."""

    system: str
    description: str
    count: int


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """The result of an erasure. `contact_count` is the number of the platform's records that are excluded from now on.

    `shared_count` is the number of addresses and numbers that other contacts also have. They stay, and uploads may
    contain them.
    """

    contact_count: int
    removal: Removal
    shared_count: int
    remaining: Sequence[Remainder]
