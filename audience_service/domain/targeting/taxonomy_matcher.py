"""Linking a platform's entries to nodes: by codes and names alone, and never by a guess."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from audience_service.domain.targeting.model import KINDS
from audience_service.domain.targeting.normalisation import normalise
from audience_service.domain.targeting.platform_exports import PlatformEntry
from audience_service.domain.targeting.subdivisions import Subdivisions
from audience_service.domain.targeting.taxonomy import Taxonomy


@dataclass(frozen=True, slots=True)
class UnmatchedEntry:
    """An entry that is linked to no node, and why."""

    entry: PlatformEntry
    reason: str
    """One of a handful, for counting."""
    detail: str = ""
    """What it is about in this case."""


@dataclass(frozen=True, slots=True)
class MatchResult:
    """What an export says of the nodes."""

    ids: Mapping[str, str]
    """The platform's id by that of the node."""
    unmatched: tuple[UnmatchedEntry, ...]


class _NoMatch(Exception):
    """Why an entry is linked to nothing: the reason, and what it is about."""


class TaxonomyMatcher:
    """Finds the one node that an entry stands for, or says why there is none."""

    def __init__(self, taxonomies: Mapping[str, Taxonomy]) -> None:
        self._places, self._interests = taxonomies["places"], taxonomies["interests"]
        self._subdivisions = Subdivisions(self._places)

    def match(self, entries: Iterable[PlatformEntry]) -> MatchResult:
        """The links of all entries. A node that several stand for has one where it is clear which of them is meant."""
        entries_by_node: dict[tuple[Taxonomy, int], list[PlatformEntry]] = defaultdict(list)
        unmatched = []
        for entry in dict.fromkeys(entries):
            try:
                entries_by_node[self._match(entry)].append(entry)
            except _NoMatch as error:
                unmatched.append(UnmatchedEntry(entry, *error.args))
        ids: dict[str, str] = {}
        for (taxonomy, number), entries_of_node in entries_by_node.items():
            node_id = taxonomy.ids[number]
            platform_ids = {entry.platform_id for entry in _best_entries(taxonomy, number, entries_of_node)}
            if len(platform_ids) == 1:
                [ids[node_id]] = platform_ids
            others = [entry for entry in entries_of_node if entry.platform_id != ids.get(node_id)]
            unmatched += [
                UnmatchedEntry(entry, "another entry stands for its node as well", node_id) for entry in others
            ]
        return MatchResult(ids, tuple(unmatched))

    def _match(self, entry: PlatformEntry) -> tuple[Taxonomy, int]:
        """The node that an entry stands for. Raises _NotLinked."""
        if not entry.kinds:
            raise _NoMatch("no node is of its type", entry.type)
        if entry.kinds[0] in KINDS["interests"]:
            return self._interests, self._match_interest(entry)
        by_code = self._find_by_code(entry) if entry.code else None
        return self._places, self._match_place(entry) if by_code is None else by_code

    def _find_by_code(self, entry: PlatformEntry) -> int | None:
        kind = entry.kinds[0]
        return self._places.number(f"{kind}-{entry.code.upper() if kind == 'country' else entry.code.lower()}")

    def _match_interest(self, entry: PlatformEntry) -> int:
        """The interest of its name; of several the one below what is above the entry. Raises _NotLinked."""
        named = self._interests.names.find_exact(normalise(entry.name))
        found, ancestors = _of_kind(self._interests, entry, named), {normalise(name) for name in entry.ancestors}
        if len(found) > 1:
            name, above = self._interests.name, self._interests.ancestors
            found = {number for number in found if ancestors & {normalise(name(up)) for up in above(number)}} or found
        return _single(self._interests, found)

    def _match_place(self, entry: PlatformEntry) -> int:
        """The place or language of its name, where it lies in what is above the entry. Raises _NotLinked."""
        country = entry.country or self._country(entry.country_name)
        named = {
            n
            for n in self._places.names.find_exact(normalise(entry.name))
            if country in ("", self._places.country_of[n])
        }
        found = _of_kind(self._places, entry, named | self._subdivisions.find(entry.name, country))
        if (by_geoname := self._places.number(f"city-{entry.geoname_id}")) in found:
            found = {by_geoname}
        else:
            found = self._filter_by_ancestors(entry, country, found)
        exact = {number for number in found if normalise(self._places.name(number)) == normalise(entry.name)}
        # Of several cities the largest, where the name is its main one and no other's: they are numbered by population.
        if self._places.kind_of[min(found)] == "city" and exact == {min(found)}:
            return min(found)
        return _single(self._places, found)

    def _country(self, name: str) -> str:
        """The code of the country of this name; empty where no name is given. Raises _NotLinked."""
        if not name:
            return ""
        found = [
            number
            for number in self._places.names.find_exact(normalise(name))
            if self._places.kind_of[number] == "country"
        ]
        if len(found) != 1:
            raise _NoMatch("no country has the name that it gives", name)
        return self._places.country_of[found[0]]

    def _filter_by_ancestors(self, entry: PlatformEntry, country: str, found: set[int]) -> set[int]:
        """Those that lie in what the platform has above the entry. Raises _NotLinked where that is not sure of any."""
        regions = set[int]().union(*(self._subdivisions.find(name, country) for name in entry.ancestors))
        unknown = [name for name in entry.ancestors if not self._is_country(name, country)]
        if not regions and (not unknown or (country and country not in self._subdivisions.countries)):
            return found
        inside = {number for number in found if not regions.isdisjoint(self._places.ancestors(number))}
        if not inside:
            raise _NoMatch("it is not known to lie in what is above it", ", ".join(entry.ancestors))
        return inside

    def _is_country(self, name: str, country: str) -> bool:
        named = self._places.names.find_exact(normalise(name))
        return self._places.number(f"country-{country}") in named


def _of_kind(taxonomy: Taxonomy, entry: PlatformEntry, named: set[int]) -> set[int]:
    """Those of the first of an entry's kinds that any of them is of. Raises _NotLinked."""
    for kind in entry.kinds:
        if of_kind := {number for number in named if taxonomy.kind_of[number] == kind}:
            return of_kind
    raise _NoMatch("no node of its type has its name there")


def _single(taxonomy: Taxonomy, found: set[int]) -> int:
    """The one that is found. Raises _NotLinked where there are several."""
    if len(found) > 1:
        raise _NoMatch("several nodes have its name", ", ".join(taxonomy.ids[number] for number in sorted(found)[:5]))
    [number] = found
    return number


def _best_entries(taxonomy: Taxonomy, number: int, entries: list[PlatformEntry]) -> list[PlatformEntry]:
    """Those whose type means the node's kind before another, and for a city those of them who have its main name.

    For a subdivision its name decides nothing: "Buenos Aires" is ISO's of the province, and Google's of the city in it.
    """
    kind, name = taxonomy.kind_of[number], normalise(taxonomy.name(number))
    ranks = [entry.kinds.index(kind) for entry in entries]
    best = [entry for entry, rank in zip(entries, ranks, strict=True) if rank == min(ranks)]
    return [entry for entry in best if kind == "city" and normalise(entry.name) == name] or best
