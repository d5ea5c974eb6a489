"""The storage that the schema of an org's records needs."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters.filter import Document
from audience_service.domain.schema.sample import Sample


class SampleRepository(Protocol):
    """Reads samples of an org's records, and their declared schema."""

    def sample(self, org: str, datatype: str, deadline: Deadline) -> Sample:
        """Up to SAMPLE_SIZE records that are not archived, spread over all of the org's; all if there are no more."""

    def schema(self, org: str, datatype: str, deadline: Deadline) -> Mapping[str, Any]:
        """The collection's `$jsonSchema`, which applies to the records of all orgs; empty if it has none."""

    def count(self, org: str, datatype: str, match: Document, deadline: Deadline) -> int:
        """How many of all the org's records meet a match. Raises OutOfTime."""

    def count_matching(
        self, org: str, datatype: str, keys: Sequence[str], matches: Sequence[Document], deadline: Deadline
    ) -> Sequence[int]:
        """For each match, how many of the records with these sks meet it."""
