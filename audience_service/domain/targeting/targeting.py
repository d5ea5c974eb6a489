"""The use case: search a taxonomy, page by page."""

import dataclasses
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import reduce
from operator import and_

from audience_service.domain.caller import Call
from audience_service.domain.errors import InvalidArgument
from audience_service.domain.targeting.folding import fold
from audience_service.domain.targeting.node import Node
from audience_service.domain.targeting.platform_ids import PlatformIds
from audience_service.domain.targeting.platforms import WITHOUT_OPTIONS, platform_named
from audience_service.domain.targeting.taxonomy import Taxonomy
from audience_service.domain.tokens import TokenSealer

MAX_QUERY_LENGTH = 200


@dataclass(frozen=True, slots=True)
class NodeQuery:
    """What nodes are wanted; an empty field is no condition."""

    query: str = ""
    platform: str = ""
    parent_id: str = ""
    country: str = ""
    kind: str = ""
    top_level: bool = False


@dataclass(frozen=True, slots=True)
class ListedNodes:
    """A page of nodes, each with its ids by platform; the token is empty on the last page."""

    nodes: tuple[tuple[Node, Mapping[str, str]], ...]
    next_page_token: str
    total: int


class Targeting:
    """Searches the taxonomies. They are the same for every org, and in memory: no call waits for the database."""

    def __init__(self, taxonomies: Mapping[str, Taxonomy], ids: PlatformIds, sealer: TokenSealer) -> None:
        self._taxonomies = taxonomies
        self._ids = ids
        self._sealer = sealer

    def list(self, call: Call, name: str, query: NodeQuery, page_size: int, page_token: str) -> ListedNodes:
        """A page of the taxonomy of this name. Raises InvalidArgument, InvalidPageToken."""
        taxonomy, ids = self._taxonomies[name], self._ids.current()
        query = dataclasses.replace(query, platform=platform_named(query.platform), country=query.country.upper())
        binding = ("targeting", name, taxonomy.version, call.org, *dataclasses.astuple(query))
        after = self._sealer.open(page_token, binding, "page_token") if page_token else None
        ranks = _ranked(taxonomy, query, ids)
        start = bisect_right(ranks, after[0]) if after else 0
        shown = ranks[start : start + page_size]
        more = start + page_size < len(ranks)
        token = self._sealer.seal(binding, [shown[-1]]) if more else ""
        numbers = (rank % len(taxonomy) for rank in shown)
        return ListedNodes(tuple(_shown(taxonomy, number, ids) for number in numbers), token, len(ranks))


def _shown(taxonomy: Taxonomy, number: int, ids: Mapping[str, Mapping[str, str]]) -> tuple[Node, Mapping[str, str]]:
    node = taxonomy.node(number)
    return node, {platform: known[node.id] for platform, known in ids.items() if node.id in known}


def _ranked(taxonomy: Taxonomy, query: NodeQuery, ids: Mapping[str, Mapping[str, str]]) -> list[int]:
    """The ranks of what is wanted: a node's number, and the size of the taxonomy for each class of match before it.

    Numbers are in the order of equals, so a rank says where a node stands, whatever else is found or has been imported.
    """
    parent = _parent(taxonomy, query)
    kept = reduce(and_, _conditions(taxonomy, query, parent, ids))
    classes: Sequence[AbstractSet[int]]
    if query.query.strip():
        if len(query.query) > MAX_QUERY_LENGTH:
            raise InvalidArgument.at("query", f"is longer than {MAX_QUERY_LENGTH} characters")
        found = taxonomy.names.find(fold(query.query))
        classes = [numbers & kept for numbers in (found.exact, found.beginning, found.within)]
        if parent is not None:
            classes = [{number for number in numbers if parent in taxonomy.above(number)} for numbers in classes]
    else:
        classes = [kept if parent is None else kept.intersection(taxonomy.children.get(parent, ()))]
    size = len(taxonomy)
    return [place * size + number for place, numbers in enumerate(classes) for number in sorted(numbers)]


def _parent(taxonomy: Taxonomy, query: NodeQuery) -> int | None:
    if not query.parent_id:
        return None
    number = taxonomy.number(query.parent_id)
    if number is None:
        raise InvalidArgument.at("parent_id", "is the id of no node of this taxonomy")
    return number


def _conditions(
    taxonomy: Taxonomy, query: NodeQuery, parent: int | None, ids: Mapping[str, Mapping[str, str]]
) -> Iterator[frozenset[int]]:
    """The nodes that each condition besides the name keeps; one at least. Raises InvalidArgument."""
    if query.kind:
        if query.kind not in taxonomy.kinds:
            raise InvalidArgument.at("kind", f"is none of {', '.join(taxonomy.kinds)}")
        yield taxonomy.of_kind[query.kind]
    else:
        yield taxonomy.unasked
    if query.country:
        if query.country not in taxonomy.in_country:
            raise InvalidArgument.at("country", "is no country's ISO 3166-1 code of two letters")
        yield taxonomy.in_country[query.country]
    if query.top_level:
        if parent is not None:
            raise InvalidArgument.at("top_level", "goes with no parent_id: what is at the top has no parent")
        yield frozenset(taxonomy.children[-1])
    if query.platform and "option" in taxonomy.kinds:
        if query.platform in WITHOUT_OPTIONS:
            raise InvalidArgument.at("platform", WITHOUT_OPTIONS[query.platform])
        yield taxonomy.of_platform[query.platform]
    elif query.platform:
        known = (taxonomy.number(node_id) for node_id in ids.get(query.platform, ()))
        yield frozenset(number for number in known if number is not None)
