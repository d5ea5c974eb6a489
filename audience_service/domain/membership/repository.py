"""What streams of members ask of storage."""

from collections.abc import Sequence
from typing import Protocol

from audience_service.domain.core.context import Deadline


class PartitionRepository(Protocol):
    """Where populations are cut into parts, agreed on by all who read them at about the same time."""

    def find(self, org: str, name: str, deadline: Deadline) -> Sequence[str] | None:
        """The keys that were agreed on under a name and used within the hour; this counts as a use."""

    def get_or_create(self, org: str, name: str, keys: Sequence[str], deadline: Deadline) -> Sequence[str]:
        """The keys that hold: those that somebody else has agreed on meanwhile, else these."""
