"""The use case on taxonomies: search one, page by page.

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
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.core.normalisation import normalise
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.pages import ListedPage, Page, PageKey, PageRequest
from audience_service.domain.identifiers.countries import find_country
from audience_service.domain.targeting.bitmap import Bitmap, bitmap, members
from audience_service.domain.targeting.model import Node
from audience_service.domain.targeting.platform_ids import PlatformIds
from audience_service.domain.targeting.platforms import WITHOUT_OPTIONS, resolve_platform
from audience_service.domain.targeting.qualified_names import SEPARATOR, find_qualified
from audience_service.domain.targeting.taxonomy import Taxonomy

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


class Targeting:
    """Searches the taxonomies. They are the same for every org, and in memory, so no call reads the database."""

    def __init__(self, taxonomies: Mapping[str, Taxonomy], ids: PlatformIds, tokens: TokenCodec) -> None:
        self._taxonomies = taxonomies
        self._ids = ids
        self._tokens = tokens
        self._nodes_with_ids: dict[tuple[str, str], tuple[Mapping[str, str], Bitmap]] = {}

    def list(self, ctx: RequestContext, name: str, query: NodeQuery, request: PageRequest) -> ListedPage[NodeWithIds]:
        """A page of the taxonomy with this name. Raises InvalidArgument, InvalidPageToken."""
        taxonomy, ids = self._taxonomies[name], self._ids.current()
        query = dataclasses.replace(
            query, platform=resolve_platform(query.platform), country=_country_code(query.country)
        )
        binding = ("targeting", name, taxonomy.version, ctx.org, *dataclasses.astuple(query))

        def read(after: PageKey | None) -> Page[NodeWithIds]:
            classes = _match_classes(taxonomy, query, self._with_ids(name, query.platform, ids))
            ranks = [*islice(_ranks(classes, len(taxonomy), after[0] if after else -1), request.size + 1)]
            page = Page.cut(ranks, request.size, lambda rank: rank, sum(found.bit_count() for found in classes))
            return page.map(lambda rank: _node_with_ids(taxonomy, rank % len(taxonomy), ids))

        return self._tokens.page(request, binding, read, (int,))

    def _with_ids(self, name: str, platform: str, ids: Mapping[str, Mapping[str, str]]) -> Bitmap:
        """The nodes with ids of a platform, computed once for each import."""
        known = ids.get(platform, {})
        imported, nodes = self._nodes_with_ids.get((name, platform), ({}, 0))
        if imported is not known:
            numbers = map(self._taxonomies[name].number, known)
            nodes = bitmap(number for number in numbers if number is not None)
            self._nodes_with_ids[name, platform] = known, nodes
        return nodes


def _node_with_ids(
    taxonomy: Taxonomy, number: int, ids: Mapping[str, Mapping[str, str]]
) -> tuple[Node, Mapping[str, str]]:
    node = taxonomy.node(number)
    return node, {platform: known[node.id] for platform, known in ids.items() if node.id in known}


def _ranks(classes: Sequence[Bitmap], size: int, after: int) -> Iterator[int]:
    """The ranks of the matches after rank `after`, in order.

    For example, node 3 of 100 has rank 3 as an exact match, and rank 203 in the third class.

    1. A rank is the node's number, plus the taxonomy's size for each better class of matches.
    2. Numbers are the order within a class, so a rank never depends on other matches or on imports.
    """
    for class_index, numbers in enumerate(classes):
        first = class_index * size
        yield from (first + number for number in members(numbers, max(after - first, -1)))


def _match_classes(taxonomy: Taxonomy, query: NodeQuery, with_ids: Bitmap) -> list[Bitmap]:
    """The matching nodes in classes, the best class first. Raises InvalidArgument."""
    parent = _parent(taxonomy, query)
    allowed = reduce(and_, _conditions(taxonomy, query, parent, with_ids))
    if not query.query.strip():
        return [allowed if parent is None else allowed & bitmap(taxonomy.children.get(parent, ()))]
    if len(query.query) > MAX_QUERY_LENGTH:
        raise InvalidArgument.at("query", f"is longer than {MAX_QUERY_LENGTH} characters; shorten it")
    if parent is not None:
        allowed &= taxonomy.descendants(parent)
    found = taxonomy.names.find(normalise(query.query))
    classes = [found.exact, found.prefix, found.word_prefix]
    if any(classes) and not SEPARATOR.search(query.query):
        return [numbers & allowed for numbers in classes]
    known, shown = found.exact | found.prefix | found.word_prefix, 0
    for numbers in find_qualified(taxonomy, query.query):
        classes.append(numbers & ~known & ~shown)
        shown |= numbers
    return [numbers & allowed for numbers in classes]


def _parent(taxonomy: Taxonomy, query: NodeQuery) -> int | None:
    if not query.parent_id:
        return None
    number = taxonomy.number(query.parent_id)
    if number is None:
        raise InvalidArgument.at("parent_id", "is the id of no node of this taxonomy; give the id of a listed node")
    return number


def _country_code(text: str) -> str:
    """The two letters of a country from its code or any of its names; other text in upper case."""
    return find_country(text) or text.upper()


def _conditions(taxonomy: Taxonomy, query: NodeQuery, parent: int | None, with_ids: Bitmap) -> Iterator[Bitmap]:
    """The nodes that meet each condition except the query; at least one set. Raises InvalidArgument."""
    if query.kind:
        if query.kind not in taxonomy.kinds:
            raise InvalidArgument.at("kind", f"is not a kind of this taxonomy; give one of {', '.join(taxonomy.kinds)}")
        yield taxonomy.of_kind[query.kind]
    else:
        yield taxonomy.default_nodes
    if query.country:
        if query.country not in taxonomy.in_country:
            raise InvalidArgument.at("country", "is not a country; give its name or its ISO 3166-1 code of two letters")
        yield taxonomy.in_country[query.country]
    if query.top_level:
        if parent is not None:
            raise InvalidArgument.at(
                "top_level", "cannot be combined with parent_id, because top-level nodes have no parent"
            )
        yield bitmap(taxonomy.children[-1])
    if query.platform and "option" in taxonomy.kinds:
        if query.platform in WITHOUT_OPTIONS:
            raise InvalidArgument.at("platform", WITHOUT_OPTIONS[query.platform])
        yield taxonomy.of_platform[query.platform]
    elif query.platform:
        yield with_ids
