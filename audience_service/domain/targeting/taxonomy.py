"""A taxonomy: an immutable tree of nodes in memory."""

import gzip
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from sys import intern

from audience_service.domain.targeting.bitmap import Bitmap, bitmap, members
from audience_service.domain.targeting.model import KINDS, ON_REQUEST, Node, NodeName
from audience_service.domain.targeting.name_index import Matches, NameIndex

_ID, _PARENT, _KIND, _COUNTRY, _NAME, _SOURCE, _POPULATION, _LATITUDE, _LONGITUDE, _PLATFORM, _VALUE, _LOCALIZED = (
    range(12)
)
"""The columns of a row. The last one and all further ones have a localised name each: `de:Bayern`."""


_CACHE_THRESHOLD = 256
"""The smallest subtree, in nodes, that is cached."""


class Taxonomy:
    """Nodes, numbered from 0 in the order in which equal matches are listed, and the index of their names.

    Rows stay bytes, and become Nodes when a response shows them. The nodes of each kind, country and platform are
    bitmaps.
    """

    def __init__(self, kinds: Sequence[str], rows: bytes, names: bytes, words: bytes) -> None:
        self.kinds = tuple(kinds)
        self.version = hashlib.sha256(rows + names).hexdigest()[:16]
        """A hash of the data. Node numbers are valid only within one version."""
        self.names = NameIndex(names, words)
        self._rows = rows.splitlines()
        self.ids: list[str] = []
        self.kind_of: list[str] = []
        self.country_of: list[str] = []
        self.parent_of: list[int] = []
        """The number of each node's parent; -1 at the top."""
        self.children: dict[int, list[int]] = {}
        """The numbers of each node's children; -1 has the top-level nodes."""
        self._descendants: dict[int, Bitmap] = {}
        of_kind: dict[str, list[int]] = {kind: [] for kind in kinds}
        in_country: dict[str, list[int]] = defaultdict(list)
        of_platform: dict[str, list[int]] = defaultdict(list)
        for number, row in enumerate(self._rows):
            cells = row.split(b"\t", _LOCALIZED)
            parent, kind = int(cells[_PARENT] or b"-1"), intern(cells[_KIND].decode())
            country = intern(cells[_COUNTRY].decode())
            self.ids.append(cells[_ID].decode())
            self.kind_of.append(kind)
            self.country_of.append(country)
            self.parent_of.append(parent)
            self.children.setdefault(parent, []).append(number)
            of_kind[kind].append(number)
            if country:
                in_country[country].append(number)
            if platform := cells[_PLATFORM]:
                of_platform[platform.decode()].append(number)
        self.of_kind, self.in_country, self.of_platform = (
            {key: bitmap(numbers) for key, numbers in lists.items()} for lists in (of_kind, in_country, of_platform)
        )
        self.default_nodes = bitmap(range(len(self._rows))) & ~self.of_kind.get(ON_REQUEST, 0)
        """The nodes of a list without a kind."""
        self._numbers = {node_id: number for number, node_id in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self._rows)

    def number(self, node_id: str) -> int | None:
        """The number of a node; None if the id is unknown."""
        return self._numbers.get(node_id)

    def ancestors(self, number: int) -> Iterator[int]:
        """The numbers of a node's ancestors, from its parent up."""
        while (number := self.parent_of[number]) >= 0:
            yield number

    def descendants(self, number: int) -> Bitmap:
        """All nodes below a node. The results of a few hundred large subtrees are cached at their first use."""
        if (cached := self._descendants.get(number)) is not None:
            return cached
        found = list(self.children.get(number, ()))
        for node in found:  # The list grows during the loop, by the children of each node.
            found += self.children.get(node, ())
        descendants = bitmap(found)
        if len(found) >= _CACHE_THRESHOLD:
            self._descendants[number] = descendants
        return descendants

    def name(self, number: int) -> str:
        """The name of a node."""
        return self._rows[number].split(b"\t", _SOURCE)[_NAME].decode()

    def find(self, normalised: str) -> Matches:
        """The nodes that a normalised query finds."""
        return self.names.find(normalised)

    def kind_set(self, kind: str) -> Bitmap:
        """The nodes of a kind."""
        return self.of_kind.get(kind, 0)

    def country_set(self, country: str) -> Bitmap:
        """The nodes in a country, by its code."""
        return self.in_country.get(country, 0)

    def child_set(self, number: int) -> Bitmap:
        """The children of a node, or the top-level nodes for -1."""
        return bitmap(self.children.get(number, ()))

    def inside(self, numbers: Bitmap, above: Bitmap) -> Bitmap:
        """Those of `numbers` that are below any node of `above`."""
        surrounding = set(members(above))
        return bitmap(number for number in members(numbers) if not surrounding.isdisjoint(self.ancestors(number)))

    def main_names(self, numbers: Bitmap) -> Mapping[int, str]:
        """The names of nodes, by number."""
        return {number: self.name(number) for number in members(numbers)}

    def nodes(self, numbers: Sequence[int]) -> Sequence[Node]:
        """The nodes with these numbers, in this order."""
        return [self.node(number) for number in numbers]

    def coordinates(self, number: int) -> tuple[float, float] | None:
        """The latitude and longitude of a node in degrees, None if its source has none."""
        cells = self._rows[number].split(b"\t", _LONGITUDE + 1)
        return (float(cells[_LATITUDE]), float(cells[_LONGITUDE])) if cells[_LATITUDE] else None

    def node(self, number: int) -> Node:
        """The node with this number."""
        cells = self._rows[number].decode().split("\t")
        path = [NodeName(self.ids[ancestor], self.name(ancestor)) for ancestor in self.ancestors(number)]
        return Node(
            id=cells[_ID],
            name=cells[_NAME],
            kind=cells[_KIND],
            source=cells[_SOURCE],
            ancestors=tuple(reversed(path)),
            country=cells[_COUNTRY],
            population=int(cells[_POPULATION]) if cells[_POPULATION] else None,
            coordinates=(float(cells[_LATITUDE]), float(cells[_LONGITUDE])) if cells[_LATITUDE] else None,
            platform=cells[_PLATFORM],
            value=cells[_VALUE],
            localized=dict(cell.split(":", 1) for cell in cells[_LOCALIZED:]),
            child_count=len(self.children.get(number, ())),
        )


@cache
def packaged_taxonomies() -> Mapping[str, Taxonomy]:
    """The taxonomies in the package, by their name in KINDS. A process reads them once."""
    return {name: _read(name) for name in KINDS}


def _read(name: str) -> Taxonomy:
    folder = files("audience_service.domain.targeting") / "data"
    rows, names, words = (
        gzip.decompress((folder / f"{name}.{part}.gz").read_bytes()) for part in ("nodes", "names", "words")
    )
    return Taxonomy(KINDS[name], rows, names, words)
