"""Records in the platform's envelope."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]
"""A record: pk, sk, state, data and so on. Its datetimes have a timezone."""


@dataclass(frozen=True, slots=True)
class Documents:
    """One or more records as the database sends them: BSON documents, one after the other, in sk order."""

    content: bytes
    count: int
    last_sk: str
    """The sk of the last record."""
