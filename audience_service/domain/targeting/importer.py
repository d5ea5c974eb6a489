"""The use case on imports: an operator imports a platform's export."""

import uuid
from collections.abc import Mapping

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.targeting.platform_exports import read_export
from audience_service.domain.targeting.platform_ids import ImportedIds, PlatformIdRepository
from audience_service.domain.targeting.taxonomy import Taxonomy
from audience_service.domain.targeting.taxonomy_matcher import MatchResult, TaxonomyMatcher


class TaxonomyImporter:
    """Matches exports with the taxonomies, and publishes the platform ids."""

    def __init__(self, taxonomies: Mapping[str, Taxonomy], repository: PlatformIdRepository) -> None:
        self._matcher = TaxonomyMatcher(taxonomies)
        self._repository = repository

    def match(self, platform: str, files: Mapping[str, str]) -> MatchResult:
        """The matches of the entries in `files`, which has texts by file name. It writes no data.

        Raises InvalidArgument.
        """
        return self._matcher.match(entry for name, text in files.items() for entry in read_export(platform, text, name))

    def publish(self, platform: str, files: Mapping[str, str], matches: MatchResult, deadline: Deadline) -> None:
        """Replace the platform's earlier import by the matches. Raises the errors of PlatformIdRepository.publish."""
        version = uuid.uuid4().hex
        self._repository.publish(
            ImportedIds(platform, version, now(), tuple(files), matches.ids, len(matches.unmatched)), deadline
        )
