"""A bounded sample of an org's records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SAMPLE_SIZE = 1_000
"""The most records in a sample."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Records that are not archived, each once. `is_complete`: the org has no others."""

    records: Sequence[Mapping[str, Any]]
    is_complete: bool
