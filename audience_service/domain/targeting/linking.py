"""Linking a platform's entries to nodes: by codes and names alone, and never by a guess."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from audience_service.domain.targeting.divisions import Divisions
from audience_service.domain.targeting.exports import Entry
from audience_service.domain.targeting.folding import fold
from audience_service.domain.targeting.node import KINDS
from audience_service.domain.targeting.taxonomy import Taxonomy


@dataclass(frozen=True, slots=True)
class Unlinked:
    """An entry that is linked to no node, and why."""

    entry: Entry
    reason: str
    """One of a handful, for counting."""
    detail: str = ""
    """What it is about in this case."""


@dataclass(frozen=True, slots=True)
class Links:
    """What an export says of the nodes."""

    ids: Mapping[str, str]
    """The platform's id by that of the node."""
    unlinked: tuple[Unlinked, ...]


class _NotLinked(Exception):
    """Why an entry is linked to nothing: the reason, and what it is about."""


class Linker:
    """Finds the one node that an entry stands for, or says why there is none."""

    def __init__(self, taxonomies: Mapping[str, Taxonomy]) -> None:
        self._places, self._interests = taxonomies["places"], taxonomies["interests"]
        self._divisions = Divisions(self._places)

    def link(self, entries: Iterable[Entry]) -> Links:
        """The links of all entries. A node that several stand for has one where it is clear which of them is meant."""
        claims: dict[tuple[Taxonomy, int], list[Entry]] = defaultdict(list)
        unlinked = []
        for entry in dict.fromkeys(entries):
            try:
                claims[self._node(entry)].append(entry)
            except _NotLinked as why:
                unlinked.append(Unlinked(entry, *why.args))
        ids: dict[str, str] = {}
        for (taxonomy, number), claimants in claims.items():
            node_id = taxonomy.ids[number]
            meant = {entry.platform_id for entry in _nearest(taxonomy, number, claimants)}
            if len(meant) == 1:
                [ids[node_id]] = meant
            others = [entry for entry in claimants if entry.platform_id != ids.get(node_id)]
            unlinked += [Unlinked(entry, "another entry stands for its node as well", node_id) for entry in others]
        return Links(ids, tuple(unlinked))

    def _node(self, entry: Entry) -> tuple[Taxonomy, int]:
        """The node that an entry stands for. Raises _NotLinked."""
        if not entry.kinds:
            raise _NotLinked("no node is of its type", entry.type)
        if entry.kinds[0] in KINDS["interests"]:
            return self._interests, self._interest(entry)
        coded = self._coded(entry) if entry.code else None
        return self._places, self._place(entry) if coded is None else coded

    def _coded(self, entry: Entry) -> int | None:
        kind = entry.kinds[0]
        return self._places.number(f"{kind}-{entry.code.upper() if kind == 'country' else entry.code.lower()}")

    def _interest(self, entry: Entry) -> int:
        """The interest of its name; of several the one below what is above the entry. Raises _NotLinked."""
        named = self._interests.names.named(fold(entry.name))
        found, over = _of_kind(self._interests, entry, named), {fold(name) for name in entry.above}
        if len(found) > 1:
            name, above = self._interests.name, self._interests.above
            found = {number for number in found if over & {fold(name(up)) for up in above(number)}} or found
        return _only(self._interests, found)

    def _place(self, entry: Entry) -> int:
        """The place or language of its name, where it lies in what is above the entry. Raises _NotLinked."""
        country = entry.country or self._country(entry.country_name)
        named = {n for n in self._places.names.named(fold(entry.name)) if country in ("", self._places.country_of[n])}
        found = _of_kind(self._places, entry, named | self._divisions.named(entry.name, country))
        if (own := self._places.number(f"city-{entry.geoname_id}")) in found:
            found = {own}
        else:
            found = self._within(entry, country, found)
        main = {number for number in found if fold(self._places.name(number)) == fold(entry.name)}
        # Of several cities the largest, where the name is its main one and no other's: they are numbered by population.
        if self._places.kind_of[min(found)] == "city" and main == {min(found)}:
            return min(found)
        return _only(self._places, found)

    def _country(self, name: str) -> str:
        """The code of the country of this name; empty where no name is given. Raises _NotLinked."""
        if not name:
            return ""
        found = [number for number in self._places.names.named(fold(name)) if self._places.kind_of[number] == "country"]
        if len(found) != 1:
            raise _NotLinked("no country has the name that it gives", name)
        return self._places.country_of[found[0]]

    def _within(self, entry: Entry, country: str, found: set[int]) -> set[int]:
        """Those that lie in what the platform has above the entry. Raises _NotLinked where that is not sure of any."""
        around = set[int]().union(*(self._divisions.named(name, country) for name in entry.above))
        unknown = [name for name in entry.above if not self._is_country(name, country)]
        if not around and (not unknown or (country and country not in self._divisions.countries)):
            return found
        inside = {number for number in found if not around.isdisjoint(self._places.above(number))}
        if not inside:
            raise _NotLinked("it is not known to lie in what is above it", ", ".join(entry.above))
        return inside

    def _is_country(self, name: str, country: str) -> bool:
        named = self._places.names.named(fold(name))
        return self._places.number(f"country-{country}") in named


def _of_kind(taxonomy: Taxonomy, entry: Entry, named: set[int]) -> set[int]:
    """Those of the first of an entry's kinds that any of them is of. Raises _NotLinked."""
    for kind in entry.kinds:
        if of_kind := {number for number in named if taxonomy.kind_of[number] == kind}:
            return of_kind
    raise _NotLinked("no node of its type has its name there")


def _only(taxonomy: Taxonomy, found: set[int]) -> int:
    """The one that is found. Raises _NotLinked where there are several."""
    if len(found) > 1:
        raise _NotLinked("several nodes have its name", ", ".join(taxonomy.ids[number] for number in sorted(found)[:5]))
    [number] = found
    return number


def _nearest(taxonomy: Taxonomy, number: int, claimants: list[Entry]) -> list[Entry]:
    """Those whose type means the node's kind before another, and for a city those of them who have its main name.

    For a subdivision its name decides nothing: "Buenos Aires" is ISO's of the province, and Google's of the city in it.
    """
    kind, name = taxonomy.kind_of[number], fold(taxonomy.name(number))
    places = [entry.kinds.index(kind) for entry in claimants]
    near = [entry for entry, place in zip(claimants, places, strict=True) if place == min(places)]
    return [entry for entry in near if kind == "city" and fold(entry.name) == name] or near
