"""The ids by which ad platforms know nodes: imported by an operator, the same for every org, kept in the database."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from audience_service.domain.core.context import Deadline


@dataclass(frozen=True, slots=True)
class ImportedIds:
    """All ids of one platform, as one import left them. It is replaced whole by the next one."""

    platform: str
    version: str
    """Another one with each import."""
    imported_at: datetime
    files: tuple[str, ...]
    """The names of the files that were imported."""
    ids: Mapping[str, str]
    """The platform's id by that of the node."""
    unmatched_count: int
    """How many entries of the files were linked to no node."""


class PlatformIdRepository(Protocol):
    """Where imports are kept. No method takes an org: taxonomies are no tenant's data, and no request writes them."""

    def versions(self, deadline: Deadline) -> Mapping[str, str]:
        """The version of each platform that has been imported. Raises StoreUnavailable, OutOfTime."""

    def load(self, platform: str, deadline: Deadline) -> ImportedIds | None:
        """What has been imported of a platform. Raises StoreUnavailable, OutOfTime."""

    def publish(self, imported: ImportedIds, deadline: Deadline) -> None:
        """Put it in the place of what there is of its platform: readers see the one or the other whole.

        Raises InvalidArgument where it is larger than the store holds, StoreUnavailable, OutOfTime.
        """

    def remove(self, platform: str, deadline: Deadline) -> bool:
        """Remove what was imported of a platform, and say whether there was anything. Raises as `versions` does."""


class PlatformIds:
    """What a process holds of the imports: read again where their versions change, and swapped whole."""

    def __init__(self, repository: PlatformIdRepository) -> None:
        self._repository = repository
        self._imports: Mapping[str, ImportedIds] = {}

    def refresh(self, deadline: Deadline) -> None:
        """Hold what is published now; one query where nothing has changed. Raises StoreUnavailable, OutOfTime."""
        imports = {}
        for platform, version in self._repository.versions(deadline).items():
            known = self._imports.get(platform)
            current = known if known and known.version == version else self._repository.load(platform, deadline)
            if current:
                imports[platform] = current
        self._imports = imports

    def current(self) -> Mapping[str, Mapping[str, str]]:
        """By platform, the platform's id of each node; never changed once it is handed out."""
        return {platform: imported.ids for platform, imported in self._imports.items()}
