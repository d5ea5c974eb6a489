"""The use case on taxonomies: search one, or a platform's own tree, page by page.

With a query `parent_id` means all descendants, without one the children: search and navigation need different results.
Languages are listed by kind only, because a picker of locations must not offer "French" for the input "fren".
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from operator import and_

from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import AudienceError, InvalidArgument, PlatformNotImported
from audience_service.domain.core.normalisation import normalise
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.pages import ListedPage, Page, PageKey, PageRequest
from audience_service.domain.identifiers.countries import find_country
from audience_service.domain.targeting.bitmap import Bitmap, members
from audience_service.domain.targeting.model import Node
from audience_service.domain.targeting.own_names import with_own_name
from audience_service.domain.targeting.platform_ids import PlatformIds
from audience_service.domain.targeting.platform_tree import (
    PlatformTree,
    PlatformTreeRepository,
    TreeKey,
    TreeSets,
    TreeVersion,
)
from audience_service.domain.targeting.platforms import resolve_platform
from audience_service.domain.targeting.qualified_names import SEPARATOR, find_qualified, with_directions
from audience_service.domain.targeting.taxonomy import Taxonomy
from audience_service.domain.targeting.tree import Tree

MAX_QUERY_LENGTH = 200


@dataclass(frozen=True, slots=True)
class NodeQuery:
    """The conditions of a search; an empty field is no condition."""

    query: str = ""
    platform: str = ""
    parent_id: str = ""
    country: str = ""
    kind: str = ""
    top_level: bool = False


NodeWithIds = tuple[Node, Mapping[str, str]]
"""A node, and its ids by platform."""


_CONTENTS = {"interests": "interests", "places": "locations", "options": "targeting options"}
"""What a taxonomy contains, in errors."""


class Targeting:
    """Searches the taxonomies, which are in memory, and the platforms' own trees, which are in the store.

    Both are the same for every org. Only a call with a platform reads the store.
    """

    def __init__(
        self,
        taxonomies: Mapping[str, Taxonomy],
        ids: PlatformIds,
        trees: PlatformTreeRepository,
        tokens: TokenCodec,
    ) -> None:
        self._taxonomies = taxonomies
        self._ids = ids
        self._trees = trees
        self._tokens = tokens
        self._sets = TreeSets()
        self._latest: dict[str, TreeVersion | None] = {}
        """The trees of each platform when they were last read. A search begins with these, and then checks them."""

    def list(self, ctx: RequestContext, name: str, query: NodeQuery, request: PageRequest) -> ListedPage[NodeWithIds]:
        """A page of the taxonomy with this name. With a platform, a page of the platform's own tree.

        Raises InvalidArgument, InvalidPageToken, PlatformNotImported; with a platform also StoreUnavailable, OutOfTime.
        """
        query = dataclasses.replace(
            query, platform=resolve_platform(query.platform), country=self._country_code(query.country)
        )
        if not query.platform:
            return self._page(ctx, name, self._taxonomies[name], query, request)
        while True:
            current = self._latest.get(query.platform)
            try:
                page = self._page(ctx, name, self._tree(ctx, name, query.platform, current), query, request)
            except AudienceError:
                if not self._is_replaced(ctx, query.platform, current):
                    raise
            else:
                if not self._is_replaced(ctx, query.platform, current):
                    return page

    def _page(
        self, ctx: RequestContext, name: str, tree: Tree, query: NodeQuery, request: PageRequest
    ) -> ListedPage[NodeWithIds]:
        ids = self._ids.current()
        binding = ("targeting", name, tree.version, ctx.org, *dataclasses.astuple(query))

        def read(after: PageKey | None) -> Page[NodeWithIds]:
            classes = _match_classes(tree, query)
            ranks = [*islice(_ranks(classes, len(tree), after[0] if after else -1), request.size + 1)]
            page = Page.cut(ranks, request.size, lambda rank: rank, sum(found.bit_count() for found in classes))
            nodes = tree.nodes([rank % len(tree) for rank in page.items])
            return Page([(node, _platform_ids(node, ids)) for node in nodes], page.last_key, page.total)

        return self._tokens.page(request, binding, read, (int,))

    def _tree(self, ctx: RequestContext, name: str, platform: str, current: TreeVersion | None) -> Tree:
        """The platform's own tree, or the packaged options. Raises PlatformNotImported."""
        packaged = self._taxonomies[name]
        if current and name in current.trees:
            key = TreeKey(platform, current.version, name)
            return PlatformTree(self._trees, key, current.trees[name], packaged, ctx.deadline, self._sets)
        if platform in packaged.of_platform:
            return packaged
        raise PlatformNotImported.of(platform, _CONTENTS[name])

    def _is_replaced(self, ctx: RequestContext, platform: str, current: TreeVersion | None) -> bool:
        """Whether another version is published, so that the tree is outdated, and may be deleted."""
        self._latest[platform] = latest = self._trees.current(platform, ctx.deadline)
        return latest != current

    def _country_code(self, text: str) -> str:
        """The two letters of a country from its code or any of its names; empty for "". Raises InvalidArgument."""
        code = find_country(text) or text.upper()
        if code and code not in self._taxonomies["places"].in_country:
            raise InvalidArgument.at("country", "is not a country; give its name or its ISO 3166-1 code of two letters")
        return code


def _platform_ids(node: Node, ids: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    """The ids of a node by platform: of a packaged one the imported ids, of a platform's own node its own id."""
    if node.platform:
        return {node.platform: node.platform_id} if node.platform_id else {}
    return {platform: known[node.id] for platform, known in ids.items() if node.id in known}


def _ranks(classes: Sequence[Bitmap], size: int, after: int) -> Iterator[int]:
    """The ranks of the matches after rank `after`, in order.

    For example, node 3 of 100 has rank 3 as an exact match, and rank 203 in the third class.

    1. A rank is the node's number, plus the taxonomy's size for each better class of matches.
    2. Numbers are the order within a class, so a rank never depends on other matches or on imports.
    """
    for class_index, numbers in enumerate(classes):
        first = class_index * size
        yield from (first + number for number in members(numbers, max(after - first, -1)))


def _match_classes(tree: Tree, query: NodeQuery) -> list[Bitmap]:
    """The matching nodes in classes, the best class first. Raises InvalidArgument."""
    parent = _parent(tree, query)
    allowed = reduce(and_, _conditions(tree, query, parent))
    if not query.query.strip():
        return [allowed if parent is None else allowed & tree.child_set(parent)]
    if len(query.query) > MAX_QUERY_LENGTH:
        raise InvalidArgument.at("query", f"is longer than {MAX_QUERY_LENGTH} characters; shorten it")
    if parent is not None:
        allowed &= tree.descendants(parent)
    normalised = normalise(query.query)
    found = tree.find(normalised)
    own = with_own_name(tree, found.exact, normalised)
    classes = [own, found.exact, found.prefix, found.word_prefix]
    if SEPARATOR.search(query.query):
        exact, prefix = find_qualified(tree, query.query)
        classes = [own, found.exact, exact, found.prefix, found.word_prefix, prefix]
    elif not any(classes):
        classes += find_qualified(tree, query.query)
    if not any(classes):
        found = tree.find(with_directions(normalised))
        classes = [found.exact, found.prefix, found.word_prefix]
    shown: Bitmap = 0
    for index, numbers in enumerate(classes):
        classes[index] = numbers & ~shown & allowed
        shown |= numbers
    return classes


def _parent(tree: Tree, query: NodeQuery) -> int | None:
    if not query.parent_id:
        return None
    number = tree.number(query.parent_id)
    if number is None:
        raise InvalidArgument.at(
            "parent_id", "is the id of no node of this taxonomy; give the id of a node that the same platform lists"
        )
    return number


def _conditions(tree: Tree, query: NodeQuery, parent: int | None) -> Iterator[Bitmap]:
    """The nodes that meet each condition except the query; at least one set. Raises InvalidArgument."""
    if query.kind:
        if query.kind not in tree.kinds:
            raise InvalidArgument.at("kind", f"is not a kind of this taxonomy; give one of {', '.join(tree.kinds)}")
        yield tree.kind_set(query.kind)
    else:
        yield tree.default_nodes
    if query.country:
        yield tree.country_set(query.country)
    if query.top_level:
        if parent is not None:
            raise InvalidArgument.at(
                "top_level", "cannot be combined with parent_id, because top-level nodes have no parent"
            )
        yield tree.child_set(-1)
    if query.platform and isinstance(tree, Taxonomy):
        yield tree.of_platform[query.platform]
