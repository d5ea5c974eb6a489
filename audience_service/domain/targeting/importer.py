"""The use case: import a platform's export, an operator's command."""

import uuid
from collections.abc import Mapping

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.targeting.platform_exports import read_export
from audience_service.domain.targeting.platform_ids import ImportedIds, PlatformIdRepository
from audience_service.domain.targeting.taxonomy import Taxonomy
from audience_service.domain.targeting.taxonomy_matcher import MatchResult, TaxonomyMatcher


class TaxonomyImporter:
    """Links exports to the taxonomies and publishes what was linked."""

    def __init__(self, taxonomies: Mapping[str, Taxonomy], repository: PlatformIdRepository) -> None:
        self._matcher = TaxonomyMatcher(taxonomies)
        self._repository = repository

    def match(self, platform: str, files: Mapping[str, str]) -> MatchResult:
        """What the files, their text by their name, link to. Writes nothing. Raises InvalidArgument."""
        return self._matcher.match(entry for name, text in files.items() for entry in read_export(platform, text, name))

    def publish(self, platform: str, files: Mapping[str, str], matches: MatchResult, deadline: Deadline) -> None:
        """Put the links in the place of the platform's earlier import. Raises as PlatformIdRepository.publish does."""
        version = uuid.uuid4().hex
        self._repository.publish(
            ImportedIds(platform, version, now(), tuple(files), matches.ids, len(matches.unmatched)), deadline
        )
