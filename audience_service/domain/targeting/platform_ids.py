"""Platform ids: the ad platforms' own ids of nodes.

An operator imports them into the database. They are the same for every org.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.targeting.platform_tree import TreeInfo


@dataclass(frozen=True, slots=True)
class ImportedIds:
    """All ids of one platform, from one import. The next import replaces all of them."""

    platform: str
    version: str
    """A random id; each import has a new one."""
    imported_at: datetime
    files: tuple[str, ...]
    """The names of the imported files."""
    ids: Mapping[str, str]
    """The platform's ids, by node id."""
    unmatched_count: int
    """How many entries of the files match no node."""
    trees: Mapping[str, TreeInfo] = field(default_factory=dict)
    """The platform's own trees of this version, by taxonomy."""


class PlatformIdRepository(Protocol):
    """The stored imports. No method takes an org: taxonomies belong to no tenant, and no request writes them."""

    def versions(self, deadline: Deadline) -> Mapping[str, str]:
        """The version of each imported platform. Raises StoreUnavailable, OutOfTime."""

    def load(self, platform: str, deadline: Deadline) -> ImportedIds | None:
        """The import of a platform; None if there is none. Raises StoreUnavailable, OutOfTime."""

    def publish(self, imported: ImportedIds, replaced_version: str | None, deadline: Deadline) -> None:
        """Replace the platform's import in one step: readers see either the old or the new one, complete.

        Raises InvalidArgument if the current import is not `replaced_version` (None for no import), or if this one is
        larger than a document of the store; StoreUnavailable, OutOfTime.
        """

    def remove(self, platform: str, deadline: Deadline) -> bool:
        """Remove the import of a platform. Returns whether there was one. Raises StoreUnavailable, OutOfTime."""


class PlatformIds:
    """The imports in a process's memory. A refresh replaces all of them in one step."""

    def __init__(self, repository: PlatformIdRepository) -> None:
        self._repository = repository
        self._imports: Mapping[str, ImportedIds] = {}

    def refresh(self, deadline: Deadline) -> None:
        """Load the imports whose versions changed. Needs one query if all are current.

        Raises StoreUnavailable, OutOfTime.
        """
        imports = {}
        for platform, version in self._repository.versions(deadline).items():
            known = self._imports.get(platform)
            current = known if known and known.version == version else self._repository.load(platform, deadline)
            if current:
                imports[platform] = current
        self._imports = imports

    def current(self) -> Mapping[str, Mapping[str, str]]:
        """The platform ids by platform, then by node id. A returned mapping never changes."""
        return {platform: imported.ids for platform, imported in self._imports.items()}
