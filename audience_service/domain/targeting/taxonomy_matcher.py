"""Matches a platform's entries with nodes, by codes and names.

For example, the entry "Munich, Bavaria, Germany" matches the city Munich, because that node is below Bavaria.

1. An entry matches at most one node. An ambiguous entry is unmatched, with the reason.
2. A node has at most one id of each platform.
3. Codes come before names, and a name is compared in its normalised form.

A wrong match costs more than a missing one: an ad in the wrong Springfield costs money. So an entry with an
unverifiable region, or in a region finer than those here, is unmatched. Interests match interests only, not
demographics or purchase intents.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from audience_service.domain.core.normalisation import normalise
from audience_service.domain.targeting.model import KINDS
from audience_service.domain.targeting.platform_exports import PlatformEntry
from audience_service.domain.targeting.subdivisions import Subdivisions
from audience_service.domain.targeting.taxonomy import Taxonomy


@dataclass(frozen=True, slots=True)
class UnmatchedEntry:
    """An entry without a node, and the reason."""

    entry: PlatformEntry
    reason: str
    """One of a few fixed texts, so that reasons can be counted."""
    detail: str = ""
    """The type, names or ids that the reason concerns; empty if there are none."""


@dataclass(frozen=True, slots=True)
class MatchResult:
    """The platform ids of an export, and its unmatched entries."""

    ids: Mapping[str, str]
    """The platform's ids, by node id."""
    unmatched: tuple[UnmatchedEntry, ...]
    entries: Sequence[PlatformEntry] = field(default=(), compare=False)
    """All entries, in the order of the files."""
    matched: Mapping[str, PlatformEntry] = field(default_factory=dict, compare=False)
    """The matched entries, by node id."""


class _NoMatch(Exception):
    """Raised for an unmatched entry, with the reason and the detail of UnmatchedEntry."""


class TaxonomyMatcher:
    """Finds the node of each entry, or the reason why there is none."""

    def __init__(self, taxonomies: Mapping[str, Taxonomy]) -> None:
        self._locations, self._interests = taxonomies["places"], taxonomies["interests"]
        self._subdivisions = Subdivisions(self._locations)

    def match(self, entries: Iterable[PlatformEntry]) -> MatchResult:
        """The matches of all entries.

        If more than one entry matches a node, the node gets the best one, unless that is ambiguous.
        """
        entries_by_node: dict[tuple[Taxonomy, int], list[PlatformEntry]] = defaultdict(list)
        unmatched = []
        distinct = list(dict.fromkeys(entries))
        for entry in distinct:
            try:
                entries_by_node[self._match(entry)].append(entry)
            except _NoMatch as error:
                unmatched.append(UnmatchedEntry(entry, *error.args))
        ids: dict[str, str] = {}
        matched: dict[str, PlatformEntry] = {}
        for (taxonomy, number), entries_of_node in entries_by_node.items():
            node_id = taxonomy.ids[number]
            best = _best_entries(taxonomy, number, entries_of_node)
            if len({entry.platform_id for entry in best}) == 1:
                ids[node_id], matched[node_id] = best[0].platform_id, best[0]
            others = [entry for entry in entries_of_node if entry.platform_id != ids.get(node_id)]
            unmatched += [UnmatchedEntry(entry, "another entry matches its node as well", node_id) for entry in others]
        return MatchResult(ids, tuple(unmatched), distinct, matched)

    def _match(self, entry: PlatformEntry) -> tuple[Taxonomy, int]:
        """The taxonomy and number of an entry's node. Raises _NoMatch."""
        if not entry.kinds:
            raise _NoMatch("no kind of node has its type", entry.type)
        if entry.kinds[0] in KINDS["interests"]:
            return self._interests, self._match_interest(entry)
        by_code = self._find_by_code(entry) if entry.code else None
        return self._locations, self._match_location(entry) if by_code is None else by_code

    def _find_by_code(self, entry: PlatformEntry) -> int | None:
        kind = entry.kinds[0]
        return self._locations.number(f"{kind}-{entry.code.upper() if kind == 'country' else entry.code.lower()}")

    def _match_interest(self, entry: PlatformEntry) -> int:
        """The interest with the entry's name; if there are more, the one with a common ancestor. Raises _NoMatch."""
        named = self._interests.names.find_exact(normalise(entry.name))
        found, ancestors = _of_kind(self._interests, entry, named), {normalise(name) for name in entry.ancestors}
        if len(found) > 1:
            name, above = self._interests.name, self._interests.ancestors
            found = {number for number in found if ancestors & {normalise(name(up)) for up in above(number)}} or found
        return _single(self._interests, found)

    def _match_location(self, entry: PlatformEntry) -> int:
        """The location or language with the entry's name, inside the entry's ancestors. Raises _NoMatch."""
        country = entry.country or self._country(entry.country_name)
        named = {
            n
            for n in self._locations.names.find_exact(normalise(entry.name))
            if country in ("", self._locations.country_of[n])
        }
        found = _of_kind(self._locations, entry, named | self._subdivisions.find(entry.name, country))
        if (by_geoname := self._locations.number(f"city-{entry.geoname_id}")) in found:
            found = {by_geoname}
        else:
            found = self._filter_by_ancestors(entry, country, found)
        exact = {number for number in found if normalise(self._locations.name(number)) == normalise(entry.name)}
        # If only the largest city has the name as its main one, it wins. Cities are numbered by population.
        if self._locations.kind_of[min(found)] == "city" and exact == {min(found)}:
            return min(found)
        return _single(self._locations, found)

    def _country(self, name: str) -> str:
        """The code of the country with this name; empty for an empty name. Raises _NoMatch."""
        if not name:
            return ""
        found = [
            number
            for number in self._locations.names.find_exact(normalise(name))
            if self._locations.kind_of[number] == "country"
        ]
        if len(found) != 1:
            raise _NoMatch("no country has its country name", name)
        return self._locations.country_of[found[0]]

    def _filter_by_ancestors(self, entry: PlatformEntry, country: str, found: set[int]) -> set[int]:
        """The nodes inside the entry's ancestors. Raises _NoMatch if none is known to be inside them."""
        regions = set[int]().union(*(self._subdivisions.find(name, country) for name in entry.ancestors))
        unknown = [name for name in entry.ancestors if not self._is_country(name, country)]
        if not regions and (not unknown or (country and country not in self._subdivisions.countries)):
            return found
        inside = {number for number in found if not regions.isdisjoint(self._locations.ancestors(number))}
        if not inside:
            raise _NoMatch("no node of its name is known to be inside its ancestors", ", ".join(entry.ancestors))
        return inside

    def _is_country(self, name: str, country: str) -> bool:
        named = self._locations.names.find_exact(normalise(name))
        return self._locations.number(f"country-{country}") in named


def _of_kind(taxonomy: Taxonomy, entry: PlatformEntry, named: set[int]) -> set[int]:
    """The nodes of the entry's likeliest kind that any of `named` has. Raises _NoMatch if there are none."""
    for kind in entry.kinds:
        if of_kind := {number for number in named if taxonomy.kind_of[number] == kind}:
            return of_kind
    raise _NoMatch("no node of its type and country has its name")


def _single(taxonomy: Taxonomy, found: set[int]) -> int:
    """The only number in `found`. Raises _NoMatch if there are more."""
    if len(found) > 1:
        raise _NoMatch(
            "more than one node has its name", ", ".join(taxonomy.ids[number] for number in sorted(found)[:5])
        )
    [number] = found
    return number


def _best_entries(taxonomy: Taxonomy, number: int, entries: list[PlatformEntry]) -> list[PlatformEntry]:
    """The entries whose type suits the node's kind best; for a city, preferably those with its main name.

    A subdivision's name decides no match: "Buenos Aires" is the province in ISO, and the city in Google's export.
    """
    kind, name = taxonomy.kind_of[number], normalise(taxonomy.name(number))
    ranks = [entry.kinds.index(kind) for entry in entries]
    best = [entry for entry, rank in zip(entries, ranks, strict=True) if rank == min(ranks)]
    return [entry for entry in best if kind == "city" and normalise(entry.name) == name] or best
