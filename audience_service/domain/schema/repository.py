"""What the schema of an org's records asks of storage."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters.filter import Document
from audience_service.domain.schema.sample import Sample


class SampleRepository(Protocol):
    """A look at an org's records without reading all of them."""

    def sample(self, org: str, datatype: str, deadline: Deadline) -> Sample:
        """Up to SAMPLE_SIZE records in use, from all over the org's; all of them where there are no more."""

    def schema(self, org: str, datatype: str, deadline: Deadline) -> Mapping[str, Any]:
        """The `$jsonSchema` that records of the datatype, of all orgs, are held to; empty where there is none."""

    def count_matching(
        self, org: str, datatype: str, keys: Sequence[str], matches: Sequence[Document], deadline: Deadline
    ) -> Sequence[int]:
        """How many of the records with these sks meet each match."""
