"""A platform's own tree, which an import writes to the store. A search reads a few small documents of it.

For example, these documents of a tree serve the query "mun":

    name/mu            more than 256 lines begin with "mu": the set of their nodes
    name/mun           fewer begin with "mun": the lines themselves, sorted
    node/00000012      what a response shows of node 12

1. The document of a query is the one with the longest prefix of it. A query below a set without lines finds nothing.
2. `names` and `words` are the lines of NameIndex, so the ranking is that of the packaged taxonomies.
3. Sets are bitmaps, so a search reads a bounded amount for any number of matches.
4. A published tree never changes. The next import writes another version.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import StoreUnavailable
from audience_service.domain.targeting.bitmap import Bitmap, bitmap, members, unpack
from audience_service.domain.targeting.model import Node, NodeName
from audience_service.domain.targeting.name_index import Matches, SortedLines
from audience_service.domain.targeting.taxonomy import Taxonomy

Content = Mapping[str, Any]
"""The fields of a document of a tree."""

ID_DIGITS = 3
"""The hexadecimal digits of a hash that divide ids into groups."""


_MAX_SETS = 64


@dataclass(frozen=True, slots=True)
class TreeInfo:
    """The size and the kinds of a tree."""

    size: int
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TreeVersion:
    """The trees of a platform's current import, by taxonomy."""

    version: str
    trees: Mapping[str, TreeInfo]


@dataclass(frozen=True, slots=True)
class TreeKey:
    """Where a tree is stored."""

    platform: str
    version: str
    taxonomy: str


class PlatformTreeRepository(Protocol):
    """The stored trees of platforms. No method takes an org: like taxonomies, they belong to no tenant.

    Every method raises StoreUnavailable and OutOfTime.
    """

    def current(self, platform: str, deadline: Deadline) -> TreeVersion | None:
        """The trees of the platform's current import; None if there is none."""

    def find(self, tree: TreeKey, keys: Collection[str], deadline: Deadline) -> Mapping[str, Content]:
        """The documents with these keys, those that exist."""

    def find_longest(self, tree: TreeKey, keys: Collection[str], deadline: Deadline) -> tuple[str, Content] | None:
        """The last existing document of these keys, each of which begins with the one before."""

    def write(self, tree: TreeKey, documents: Sequence[tuple[str, Content]], deadline: Deadline) -> None:
        """Add documents to a tree that is not published."""

    def count(self, platform: str, version: str, deadline: Deadline) -> int:
        """How many documents the trees of a version have."""

    def versions(self, platform: str, deadline: Deadline) -> Sequence[str]:
        """Every version with documents, published or not."""

    def delete(self, platform: str, version: str, deadline: Deadline) -> None:
        """Delete the trees of a version."""


class TreeSets:
    """The sets of nodes that searches read last, in a process's memory: at most 64, of about 30 KB each.

    A set belongs to one version of a tree, and so never changes.
    """

    def __init__(self) -> None:
        self._sets: OrderedDict[tuple[TreeKey, str], Bitmap] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, tree: TreeKey, name: str, read: Callable[[], Bitmap]) -> Bitmap:
        """The set with this name. It is read if it is not in memory."""
        with self._lock:
            if (tree, name) in self._sets:
                self._sets.move_to_end((tree, name))
                return self._sets[tree, name]
        found = read()
        with self._lock:
            self._sets[tree, name] = found
            if len(self._sets) > _MAX_SETS:
                self._sets.popitem(last=False)
        return found


class PlatformTree:
    """A Tree that reads the store within one call's deadline."""

    def __init__(
        self,
        repository: PlatformTreeRepository,
        key: TreeKey,
        info: TreeInfo,
        packaged: Taxonomy,
        deadline: Deadline,
        sets: TreeSets,
    ) -> None:
        """`packaged` is the taxonomy that its nodes are linked to."""
        self._repository = repository
        self._key = key
        self._packaged = packaged
        self._deadline = deadline
        self._sets = sets
        self._size = info.size
        self.version = key.version
        self.kinds = info.kinds

    def __len__(self) -> int:
        return self._size

    @property
    def default_nodes(self) -> Bitmap:
        """The nodes of a list without a kind."""
        return self._read_set("default")

    def number(self, node_id: str) -> int | None:
        """The number of a node; None if the id is unknown."""
        document = self._find_one(id_key(node_id))
        return dict(document["numbers"]).get(node_id) if document else None

    def find(self, normalised: str) -> Matches:
        """The nodes that a normalised query finds."""
        if not normalised:
            return Matches(0, 0, 0)
        keys = [f"name/{normalised[:length]}" for length in range(1, len(normalised) + 1)]
        found = self._repository.find_longest(self._key, keys, self._deadline)
        if found is None:
            return Matches(0, 0, 0)
        key, document = found
        if "lines" in document:
            names, words = (SortedLines(document[field], self._size + 1) for field in ("lines", "word_lines"))
            exact = bitmap(names.find_exact(normalised))
            prefix, word_prefix = names.find_prefix(normalised), words.find_prefix(normalised)
        elif key == keys[-1]:
            exact, prefix, word_prefix = (unpack(document[field]) for field in ("exact", "names", "words"))
        else:
            return Matches(0, 0, 0)
        return Matches(exact, prefix & ~exact, word_prefix & ~prefix)

    def kind_set(self, kind: str) -> Bitmap:
        """The nodes of a kind."""
        return self._read_set(f"kind/{kind}")

    def country_set(self, country: str) -> Bitmap:
        """The nodes in a country, by its code."""
        return self._read_set(f"country/{country}")

    def child_set(self, number: int) -> Bitmap:
        """The children of a node, or the top-level nodes for -1."""
        if number < 0:
            return self._read_set("top")
        document = self._find_one(inner_key(number))
        return unpack(document["children"]) if document else 0

    def descendants(self, number: int) -> Bitmap:
        """All nodes below a node."""
        document = self._find_one(inner_key(number))
        return unpack(document["descendants"]) if document else 0

    def inside(self, numbers: Bitmap, above: Bitmap) -> Bitmap:
        """Those of `numbers` that are below any node of `above`."""
        below = 0
        if numbers:
            found = self._repository.find(self._key, [inner_key(number) for number in members(above)], self._deadline)
            for document in found.values():
                below |= unpack(document["descendants"])
        return numbers & below

    def main_names(self, numbers: Bitmap) -> Mapping[int, str]:
        """The names of nodes, by number."""
        return {number: document["name"] for number, document in self._documents([*members(numbers)])}

    def nodes(self, numbers: Sequence[int]) -> Sequence[Node]:
        """The nodes with these numbers, in this order."""
        return [self._node(document) for _, document in self._documents(numbers)]

    def _node(self, document: Content) -> Node:
        same_as = self._packaged.number(document["same_as"]) if document["same_as"] else None
        linked = None if same_as is None else self._packaged.node(same_as)
        size = document["audience_size"]
        return Node(
            id=document["id"],
            name=document["name"],
            kind=document["kind"],
            source=document["source"],
            ancestors=tuple(NodeName(node_id, name) for node_id, name in document["ancestors"]),
            country=document["country"],
            population=linked.population if linked else None,
            coordinates=linked.coordinates if linked else None,
            platform=self._key.platform,
            value=document["value"],
            localized=linked.localized if linked else {},
            child_count=document["child_count"],
            platform_id=document["platform_id"],
            path=tuple(document["path"]),
            same_as=document["same_as"],
            audience_size=(size[0], size[1]) if size else None,
        )

    def _documents(self, numbers: Sequence[int]) -> Iterator[tuple[int, Content]]:
        found = self._repository.find(self._key, [node_key(number) for number in numbers], self._deadline)
        for number in numbers:
            if node_key(number) not in found:
                raise StoreUnavailable(f"the import of {self._key.platform} is incomplete; import its export again")
            yield number, found[node_key(number)]

    def _read_set(self, name: str) -> Bitmap:
        def read() -> Bitmap:
            document = self._find_one(f"set/{name}")
            return unpack(document["numbers"]) if document else 0

        return self._sets.get(self._key, name, read)

    def _find_one(self, key: str) -> Content | None:
        return self._repository.find(self._key, [key], self._deadline).get(key)


def node_key(number: int) -> str:
    """The key of a node's document."""
    return f"node/{number:08}"


def inner_key(number: int) -> str:
    """The key of the document with a node's children and descendants."""
    return f"inner/{number:08}"


def id_key(node_id: str) -> str:
    """The key of the document with the number of a node's id."""
    return f"id/{hashlib.sha256(node_id.encode()).hexdigest()[:ID_DIGITS]}"
