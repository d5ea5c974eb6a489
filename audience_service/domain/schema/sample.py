"""A bounded sample of an org's records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SAMPLE_SIZE = 1_000
"""Records that a sample holds at most."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Records in use, each once. `whole` says that the org has no others."""

    records: Sequence[Mapping[str, Any]]
    is_complete: bool
