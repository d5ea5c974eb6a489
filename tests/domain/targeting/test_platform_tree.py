"""A platform's own tree ranks as the packaged taxonomies do, and keeps every entry."""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.pages import PageRequest
from audience_service.domain.targeting.bitmap import bitmap, pack, unpack
from audience_service.domain.targeting.platform_exports import read_export
from audience_service.domain.targeting.platform_ids import PlatformIds
from audience_service.domain.targeting.platform_tree import Content, PlatformTree, TreeKey, TreeSets, TreeVersion
from audience_service.domain.targeting.qualified_names import find_qualified
from audience_service.domain.targeting.service import NodeQuery, Targeting
from audience_service.domain.targeting.taxonomy import Taxonomy, packaged_taxonomies
from audience_service.domain.targeting.tree_builder import TreeBuilder, TreeNode, packaged_nodes
from tests.domain.targeting.test_service import Repository
from tests.support.memory_trees import MemoryTrees

QUERIES = json.loads((Path(__file__).parents[2] / "data/targeting_queries.json").read_text())
CTX = RequestContext(Caller("ann", "acme", frozenset()), Deadline(None))


def stored(trees: MemoryTrees, taxonomy_name: str, nodes: list[TreeNode]) -> PlatformTree:
    """The nodes as the tree of a platform in the store."""
    builder, key = TreeBuilder(nodes), TreeKey("google", "1", taxonomy_name)
    documents = builder.documents()
    while batch := list(islice(documents, 1_000)):
        trees.write(key, batch, Deadline(None))
    trees.published["google"] = TreeVersion("1", {taxonomy_name: builder.info})
    return PlatformTree(trees, key, builder.info, packaged_taxonomies()[taxonomy_name], Deadline(None), TreeSets())


def copied(trees: MemoryTrees, taxonomy_name: str) -> tuple[PlatformTree, Taxonomy]:
    """A packaged taxonomy as a tree in the store."""
    taxonomy = packaged_taxonomies()[taxonomy_name]
    return stored(trees, taxonomy_name, packaged_nodes(taxonomy, range(len(taxonomy)))), taxonomy


@pytest.mark.parametrize("taxonomy_name", ["interests", "options"])
@pytest.mark.slow
def test_a_stored_tree_finds_what_the_packaged_one_finds(taxonomy_name: str) -> None:
    """Every beginning of every name, and every subtree."""
    tree, taxonomy = copied(MemoryTrees(), taxonomy_name)
    queries = {name[:length] for name, _ in taxonomy.names.names() for length in range(1, len(name) + 1)}
    for query in [*sorted(queries)[::7], "zzz", "sportsx", ""]:
        assert tree.find(query) == taxonomy.find(query), query
    for number in range(-1, len(taxonomy)):
        assert tree.child_set(number) == taxonomy.child_set(number)
        assert number < 0 or tree.descendants(number) == taxonomy.descendants(number)
    assert all(tree.number(node_id) == number for number, node_id in enumerate(taxonomy.ids))
    assert tree.default_nodes == taxonomy.default_nodes
    assert [tree.kind_set(kind) for kind in taxonomy.kinds] == [taxonomy.kind_set(kind) for kind in taxonomy.kinds]


class CountedTrees(MemoryTrees):
    """Counts its reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def current(self, platform: str, deadline: Deadline) -> TreeVersion | None:
        """The published version."""
        self.reads += 1
        return super().current(platform, deadline)

    def find(self, tree: TreeKey, keys: Collection[str], deadline: Deadline) -> Mapping[str, Content]:
        """The documents with these keys."""
        self.reads += 1
        return super().find(tree, keys, deadline)


def test_a_search_is_three_reads() -> None:
    """The matches, the nodes and the version, which shows another import at once."""
    trees = CountedTrees()
    _, taxonomy = copied(trees, "interests")
    targeting = Targeting(packaged_taxonomies(), PlatformIds(Repository()), trees, TokenCodec(b"k" * 32))

    def search() -> list[str]:
        page = targeting.list(CTX, "interests", NodeQuery("sport", "google"), PageRequest(5))
        return [node.name for node, _ in page.items]

    found = search()
    trees.reads = 0
    assert search() == found
    assert trees.reads == 3
    trees.documents.clear()
    stored(trees, "interests", packaged_nodes(taxonomy, range(3)))
    trees.published["google"] = TreeVersion("2", trees.published["google"].trees)
    trees.documents = {replace(key, version="2"): documents for key, documents in trees.documents.items()}
    assert len(search()) < len(found)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_places_rank_as_the_packaged_ones_do() -> None:
    """The queries that the packaged taxonomy is tested with, and single letters."""
    trees = MemoryTrees()
    tree, taxonomy = copied(trees, "places")
    for query in [*(case["query"].casefold() for case in QUERIES), *"abcdefghijklmnopqrstuvwxyz"]:
        assert tree.find(query) == taxonomy.find(query), query
    for query in ("springfield o", "springfield, il", "paris france", "london, uk", "san c"):
        assert find_qualified(tree, query) == find_qualified(taxonomy, query), query
    targeting = Targeting(packaged_taxonomies(), PlatformIds(Repository()), trees, TokenCodec(b"k" * 32))
    all_conditions: list[dict[str, Any]] = [{}, {"country": "DE"}, {"parent_id": "country-US"}, {"kind": "city"}]
    for conditions in all_conditions:
        for query in ("", "san", "new york", "s"):
            own, packaged = (
                targeting.list(CTX, "places", NodeQuery(query, platform, **conditions), PageRequest(50))
                for platform in ("google", "")
            )
            assert [node.id for node, _ in own.items] == [node.id for node, _ in packaged.items]
            assert own.total == packaged.total


@given(st.sets(st.integers(0, 250_000), max_size=40), st.booleans())
def test_a_packed_set_is_unpacked_to_itself(numbers: set[int], is_dense: bool) -> None:
    """Both forms: numbers and bitmaps."""
    numbers = numbers | set(range(1_000)) if is_dense else numbers
    assert unpack(pack(numbers)) == bitmap(numbers)


def test_a_cycle_of_parents_is_cut() -> None:
    """A node that the file puts below itself is a top-level node."""
    nodes = [
        TreeNode(id=name, platform_id=name, name=name, kind="interest", source="f", parent_id=parent)
        for name, parent in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "d"), ("e", "a"))
    ]
    tree = stored(MemoryTrees(), "interests", nodes)
    assert tree.child_set(-1).bit_count() == 2
    assert all(node.ancestors for node in tree.nodes([0, 1, 4]))


@pytest.mark.parametrize(
    ("text", "location", "what"),
    [
        ("facet,value,name\nage_groups,AGE_18_24\n", "f, line 2", "must have the 3 columns"),
        ("facet,value,name\nage_groups,AGE_18_24,18 to 24\nage_groups,,x\n", "f, line 3", "all filled"),
    ],
)
def test_a_wrong_line_of_options_is_refused(text: str, location: str, what: str) -> None:
    """The error names the line."""
    with pytest.raises(InvalidArgument) as caught:
        read_export("tiktok", text, "f")
    [violation] = caught.value.violations
    assert (violation.field, what in violation.description) == (location, True)


@pytest.mark.parametrize(
    ("row", "size"),
    [
        ({"audience_size_lower_bound": 5, "audience_size_upper_bound": 7}, (5, 7)),
        ({"audience_size": 6}, (6, 6)),
        ({"audience_size_lower_bound": -1, "audience_size_upper_bound": -1}, None),
        ({}, None),
    ],
)
def test_an_audience_size_is_what_meta_states(row: dict[str, Any], size: tuple[int, int] | None) -> None:
    """Meta states bounds, one number or none."""
    [entry] = read_export("meta", json.dumps({"data": [{"id": "1", "name": "x", **row}]}), "f")
    assert entry.audience_size == size
