"""The use case on imports: an operator imports a platform's export."""

import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import AudienceError, InvalidArgument
from audience_service.domain.targeting.platform_exports import read_export
from audience_service.domain.targeting.platform_ids import ImportedIds, PlatformIdRepository
from audience_service.domain.targeting.platform_tree import PlatformTreeRepository, TreeKey
from audience_service.domain.targeting.taxonomy import Taxonomy
from audience_service.domain.targeting.taxonomy_matcher import MatchResult, TaxonomyMatcher
from audience_service.domain.targeting.tree_builder import build_trees

_BATCH_SIZE = 1_000
_CLEANUP_TIMEOUT_SECONDS = 60.0


class TaxonomyImporter:
    """Matches exports with the taxonomies, and publishes the platform's own trees and ids.

    1. A tree is written under a new version. One write of the platform's document then publishes it with the ids.
    2. That write requires the version that was current when the import began, so imports do not mix.
    3. Versions that existed before this write can no longer be published, and are deleted after it.
    """

    def __init__(
        self, taxonomies: Mapping[str, Taxonomy], repository: PlatformIdRepository, trees: PlatformTreeRepository
    ) -> None:
        self._taxonomies = taxonomies
        self._matcher = TaxonomyMatcher(taxonomies)
        self._repository = repository
        self._trees = trees

    def match(self, platform: str, files: Mapping[str, str]) -> MatchResult:
        """The matches of the entries in `files`, which has texts by file name. It writes no data.

        Raises InvalidArgument.
        """
        return self._matcher.match(entry for name, text in files.items() for entry in read_export(platform, text, name))

    def publish(
        self,
        platform: str,
        files: Mapping[str, str],
        matches: MatchResult,
        deadline: Deadline,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Replace the platform's earlier import, and return the number of nodes.

        `on_progress` gets the number of entries that were written, again and again.

        Raises InvalidArgument if the files have no entry, and the errors of PlatformIdRepository.publish.
        """
        builders = build_trees(platform, matches, self._taxonomies, f"{platform}, imported from {', '.join(files)}")
        if not builders:
            raise InvalidArgument.at("files", "have no entries; check --platform and the files")
        version = uuid.uuid4().hex
        current = self._trees.current(platform, deadline)
        trees = {name: builder.info for name, builder in builders.items()}
        imported = ImportedIds(platform, version, now(), tuple(files), matches.ids, len(matches.unmatched), trees=trees)
        try:
            written = 0
            for name, builder in builders.items():
                documents = builder.documents()
                while batch := list(islice(documents, _BATCH_SIZE)):
                    self._trees.write(TreeKey(platform, version, name), batch, deadline)
                    written += len(batch)
                    on_progress(sum(key.startswith("node/") for key, _ in batch))
            obsolete = [other for other in self._trees.versions(platform, deadline) if other != version]
            if self._trees.count(platform, version, deadline) != written:
                raise InvalidArgument.at("files", "were overtaken by another import; import them again")
        except BaseException:
            self._discard(platform, version)
            raise
        try:
            self._repository.publish(imported, current.version if current else None, deadline)
        except InvalidArgument:  # After other errors, the version may be published.
            self._discard(platform, version)
            raise
        for other in obsolete:
            self._trees.delete(platform, other, deadline)
        return sum(info.size for info in trees.values())

    def _discard(self, platform: str, version: str) -> None:
        """Delete an unpublished version. If that fails, the next import does it."""
        with suppress(AudienceError):
            self._trees.delete(platform, version, Deadline.after(_CLEANUP_TIMEOUT_SECONDS))

    def remove(self, platform: str, deadline: Deadline) -> bool:
        """Remove the import of a platform. Returns whether there was one. Raises StoreUnavailable, OutOfTime."""
        versions = self._trees.versions(platform, deadline)
        removed = self._repository.remove(platform, deadline)
        for version in versions if removed else ():
            self._trees.delete(platform, version, deadline)
        return removed
