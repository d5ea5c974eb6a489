"""Platforms' own trees in memory, for unit tests."""

from collections.abc import Collection, Mapping, Sequence

from audience_service.domain.core.context import Deadline
from audience_service.domain.targeting.platform_tree import Content, TreeKey, TreeVersion


class MemoryTrees:
    """A PlatformTreeRepository in memory."""

    def __init__(self) -> None:
        self.published: dict[str, TreeVersion] = {}
        self.documents: dict[TreeKey, dict[str, Content]] = {}

    def current(self, platform: str, deadline: Deadline) -> TreeVersion | None:
        """The published version."""
        return self.published.get(platform)

    def find(self, tree: TreeKey, keys: Collection[str], deadline: Deadline) -> Mapping[str, Content]:
        """The documents with these keys."""
        known = self.documents.get(tree, {})
        return {key: known[key] for key in keys if key in known}

    def find_longest(self, tree: TreeKey, keys: Collection[str], deadline: Deadline) -> tuple[str, Content] | None:
        """The last of the documents with these keys."""
        return max(self.find(tree, keys, deadline).items(), default=None, key=lambda item: item[0])

    def write(self, tree: TreeKey, documents: Sequence[tuple[str, Content]], deadline: Deadline) -> None:
        """Add documents."""
        self.documents.setdefault(tree, {}).update(documents)

    def count(self, platform: str, version: str, deadline: Deadline) -> int:
        """The number of documents of a version."""
        return sum(len(found) for key, found in self.documents.items() if key.version == version)

    def versions(self, platform: str, deadline: Deadline) -> Sequence[str]:
        """The versions with documents."""
        return sorted({key.version for key in self.documents if key.platform == platform})

    def delete(self, platform: str, version: str, deadline: Deadline) -> None:
        """Delete the documents of a version."""
        self.documents = {key: found for key, found in self.documents.items() if key.version != version}
