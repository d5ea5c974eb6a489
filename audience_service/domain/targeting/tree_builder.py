"""Builds the documents of a platform's own trees from the entries of an import. platform_tree.py explains them."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from audience_service.domain.core.normalisation import normalise
from audience_service.domain.targeting.bitmap import members, pack
from audience_service.domain.targeting.model import KINDS, ON_REQUEST
from audience_service.domain.targeting.platform_exports import PlatformEntry
from audience_service.domain.targeting.platform_tree import Content, TreeInfo, id_key, inner_key, node_key
from audience_service.domain.targeting.taxonomy import Taxonomy
from audience_service.domain.targeting.taxonomy_matcher import MatchResult

_MAX_LINE_NUMBERS = 256
"""The most node numbers in a document with lines. A prefix with more has a document with sets."""

_UNLINKED = 2**53


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A node of a platform's tree, before it has a number."""

    id: str
    platform_id: str
    name: str
    kind: str
    source: str
    country: str = ""
    parent_id: str = ""
    path: tuple[str, ...] = ()
    value: str = ""
    same_as: str = ""
    audience_size: tuple[int, int] | None = None
    names: frozenset[str] = frozenset()
    """The normalised names that find it."""


def build_trees(
    platform: str, result: MatchResult, taxonomies: Mapping[str, Taxonomy], source: str
) -> Mapping[str, "TreeBuilder"]:
    """The trees of an import, by taxonomy; only those with nodes. `source` is the source of its nodes."""
    same_as = {entry.node_id: node_id for node_id, entry in result.matched.items()}
    trees = {}
    for name in KINDS:
        entries = {entry.node_id: entry for entry in reversed(result.entries) if entry.taxonomy == name}
        if entries:
            in_order = list(reversed(entries.values()))
            nodes = _option_nodes(platform, in_order, taxonomies[name], source) if name == "options" else []
            nodes = nodes or _nodes(in_order, same_as, taxonomies[name], source, by_link=name == "places")
            trees[name] = TreeBuilder(nodes)
    return trees


def packaged_nodes(taxonomy: Taxonomy, numbers: Sequence[int]) -> list[TreeNode]:
    """Packaged nodes as nodes of a platform's tree, with all names that find them."""
    names = _names(taxonomy, set(numbers))
    return [
        TreeNode(
            id=node.id,
            platform_id="",
            name=node.name,
            kind=node.kind,
            source=node.source,
            country=node.country,
            parent_id=node.ancestors[-1].id if node.ancestors else "",
            path=tuple(above.name for above in node.ancestors),
            value=node.value,
            same_as=node.id,
            names=names[number],
        )
        for number, node in zip(numbers, taxonomy.nodes(numbers), strict=True)
    ]


def _nodes(
    entries: Sequence[PlatformEntry],
    same_as: Mapping[str, str],
    taxonomy: Taxonomy,
    source: str,
    *,
    by_link: bool,
) -> list[TreeNode]:
    """The nodes of entries, in order of rank.

    Locations that are linked have the order of the packaged ones, and come before others. Then larger audiences come
    first, then earlier entries.
    """
    numbers = {node_id: taxonomy.number(linked) for node_id, linked in same_as.items()}
    names = _names(taxonomy, {number for number in numbers.values() if number is not None})
    paths = defaultdict(list)
    for entry in entries:
        paths[(*entry.path, entry.name)].append(entry.node_id)

    def rank(entry: PlatformEntry) -> tuple[int, int]:
        number = numbers.get(entry.node_id) if by_link else None
        return _UNLINKED if number is None else number, -entry.audience_size[1] if entry.audience_size else 0

    nodes = []
    for entry in sorted(entries, key=rank):
        number, above = numbers.get(entry.node_id), paths.get(entry.path, [])
        by_path = above[0] if len(above) == 1 and above[0] != entry.node_id else ""
        nodes.append(
            TreeNode(
                id=entry.node_id,
                platform_id=entry.platform_id,
                name=entry.name,
                kind=entry.kind if number is None else taxonomy.kind_of[number],
                source=source,
                country=entry.country if number is None else taxonomy.country_of[number],
                parent_id=entry.parent_id or by_path,
                path=entry.path,
                same_as=same_as.get(entry.node_id, ""),
                audience_size=entry.audience_size,
                names=frozenset((normalise(entry.name), *(names.get(number, ()) if number is not None else ()))),
            )
        )
    return nodes


def _option_nodes(platform: str, entries: Sequence[PlatformEntry], packaged: Taxonomy, source: str) -> list[TreeNode]:
    """The packaged options of the platform, and the imported ones below their facets."""
    numbers = [*members(packaged.of_platform.get(platform, 0))]
    nodes = {node.id: node for node in packaged_nodes(packaged, numbers)}
    for entry in entries:
        facet = TreeNode(
            id=entry.parent_id,
            platform_id=entry.facet_id,
            name=entry.facet,
            kind="facet",
            source=source,
            value=entry.facet_id or entry.facet,
            names=frozenset([normalise(entry.facet)]),
        )
        option = TreeNode(
            id=entry.node_id,
            platform_id=entry.platform_id,
            name=entry.name,
            kind=entry.kind,
            source=source,
            parent_id=entry.parent_id,
            path=(nodes.setdefault(facet.id, facet).name,),
            value=entry.platform_id,
            names=frozenset((normalise(entry.name), normalise(entry.platform_id))),
        )
        nodes.setdefault(option.id, option)
    return list(nodes.values())


def _names(taxonomy: Taxonomy, numbers: set[int]) -> Mapping[int, frozenset[str]]:
    """All normalised names of these nodes."""
    names: dict[int, set[str]] = {number: set() for number in numbers}
    if numbers:
        for name, named in taxonomy.names.names():
            for number in named & numbers:
                names[number].add(name)
    return {number: frozenset(found) for number, found in names.items()}


class TreeBuilder:
    """The documents of one tree."""

    def __init__(self, nodes: Sequence[TreeNode]) -> None:
        self._nodes = nodes
        self._numbers = {node.id: number for number, node in enumerate(nodes)}
        self._parents = [self._numbers.get(node.parent_id, -1) for node in nodes]
        self._cut_cycles()
        self.info = TreeInfo(len(nodes), tuple(sorted({node.kind for node in nodes})))

    def documents(self) -> Iterator[tuple[str, Content]]:
        """Every document, by key. Nodes come last."""
        yield from self._sets()
        yield from self._ids()
        yield from self._names()
        yield from self._inner()
        children = Counter(self._parents)
        for number, node in enumerate(self._nodes):
            ancestors = [self._nodes[above] for above in self._ancestors(number)]
            yield (
                node_key(number),
                {
                    "id": node.id,
                    "platform_id": node.platform_id,
                    "name": node.name,
                    "kind": node.kind,
                    "source": node.source,
                    "country": node.country,
                    "ancestors": [[above.id, above.name] for above in reversed(ancestors)],
                    "path": list(node.path),
                    "value": node.value,
                    "same_as": node.same_as,
                    "audience_size": list(node.audience_size) if node.audience_size else None,
                    "child_count": children[number],
                },
            )

    def _cut_cycles(self) -> None:
        """Make a node that is its own ancestor a top-level node."""
        is_acyclic = [False] * len(self._parents)
        for number in range(len(self._parents)):
            chain: dict[int, None] = {}
            while number >= 0 and not is_acyclic[number]:
                chain[number] = None
                parent = self._parents[number]
                if parent in chain:
                    self._parents[number] = -1
                    break
                number = parent
            for seen in chain:
                is_acyclic[seen] = True

    def _ancestors(self, number: int) -> Iterator[int]:
        while (number := self._parents[number]) >= 0:
            yield number

    def _sets(self) -> Iterator[tuple[str, Content]]:
        sets = defaultdict(list)
        for number, node in enumerate(self._nodes):
            sets[f"kind/{node.kind}"].append(number)
            if node.kind != ON_REQUEST:
                sets["default"].append(number)
            if node.country:
                sets[f"country/{node.country}"].append(number)
            if self._parents[number] < 0:
                sets["top"].append(number)
        for name, numbers in sets.items():
            yield f"set/{name}", {"numbers": pack(numbers)}

    def _ids(self) -> Iterator[tuple[str, Content]]:
        groups = defaultdict(list)
        for number, node in enumerate(self._nodes):
            groups[id_key(node.id)].append([node.id, number])
        for key, numbers in groups.items():
            yield key, {"numbers": numbers}

    def _inner(self) -> Iterator[tuple[str, Content]]:
        children, descendants = defaultdict(list), defaultdict(list)
        for number, parent in enumerate(self._parents):
            if parent >= 0:
                children[parent].append(number)
            for above in self._ancestors(number):
                descendants[above].append(number)
        for number, below in children.items():
            yield inner_key(number), {"children": pack(below), "descendants": pack(descendants[number])}

    def _names(self) -> Iterator[tuple[str, Content]]:
        lines: dict[str, tuple[set[int], set[int]]] = defaultdict(lambda: (set(), set()))
        for number, node in enumerate(self._nodes):
            for name in node.names - {""}:
                lines[name][0].add(number)
                at = name.find(" ")
                while at >= 0:
                    lines[name[at + 1 :]][1].add(number)
                    at = name.find(" ", at + 1)
        ordered = [(text, *numbers) for text, numbers in sorted(lines.items())]
        for _, group in groupby(ordered, lambda line: line[0][0]):
            yield from _prefix_documents([*group], 1)


_Line = tuple[str, set[int], set[int]]
"""A text, the nodes with it as a name, and the nodes with it as the later words of a name."""


def _prefix_documents(lines: Sequence[_Line], length: int) -> Iterator[tuple[str, Content]]:
    """The documents for the sorted lines that share a prefix of this length."""
    key = f"name/{lines[0][0][:length]}"
    if sum(len(names) + len(words) for _, names, words in lines) <= _MAX_LINE_NUMBERS:
        yield (
            key,
            {
                "lines": b"".join(_line(text, names) for text, names, _ in lines if names),
                "word_lines": b"".join(_line(text, words) for text, _, words in lines if words),
            },
        )
        return
    is_exact = len(lines[0][0]) == length
    yield (
        key,
        {
            "exact": pack(lines[0][1] if is_exact else ()),
            "names": pack(set().union(*(names for _, names, _ in lines))),
            "words": pack(set().union(*(words for _, _, words in lines))),
        },
    )
    for _, group in groupby(lines[is_exact:], lambda line: line[0][: length + 1]):
        yield from _prefix_documents([*group], length + 1)


def _line(text: str, numbers: set[int]) -> bytes:
    return f"{text}\t{' '.join(map(str, sorted(numbers)))}\n".encode()
