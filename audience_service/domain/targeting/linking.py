"""Linking a platform's entries to nodes: by codes and names alone, and never by a guess."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from audience_service.domain.targeting.exports import Entry
from audience_service.domain.targeting.folding import fold
from audience_service.domain.targeting.node import KINDS
from audience_service.domain.targeting.taxonomy import Taxonomy


@dataclass(frozen=True, slots=True)
class Unlinked:
    """An entry that stands for no node, and why."""

    entry: Entry
    reason: str


@dataclass(frozen=True, slots=True)
class Links:
    """What an export says of the nodes."""

    ids: Mapping[str, str]
    """The platform's id by that of the node."""
    unlinked: tuple[Unlinked, ...]


class _NotLinked(Exception):
    """Why an entry is linked to nothing."""


class Linker:
    """Finds the one node that an entry stands for, or says why there is none."""

    def __init__(self, taxonomies: Mapping[str, Taxonomy]) -> None:
        self._places, self._interests = taxonomies["places"], taxonomies["interests"]

    def link(self, entries: Iterable[Entry]) -> Links:
        """The links of all entries. A node that several stand for goes to the one with its very name, or to none."""
        claims: dict[str, list[Entry]] = defaultdict(list)
        unlinked = []
        for entry in dict.fromkeys(entries):
            try:
                claims[self._node(entry)].append(entry)
            except _NotLinked as why:
                unlinked.append(Unlinked(entry, str(why)))
        ids: dict[str, str] = {}
        for node_id, claimants in claims.items():
            by_name = [entry for entry in claimants if fold(entry.name) == fold(self._name(node_id))]
            chosen = (claimants if len(claimants) == 1 else by_name) if len(by_name) < 2 else []
            ids.update((node_id, entry.platform_id) for entry in chosen)
            others = [entry for entry in claimants if entry not in chosen]
            unlinked += [Unlinked(entry, f"another entry stands for {node_id} as well") for entry in others]
        return Links(ids, tuple(unlinked))

    def _name(self, node_id: str) -> str:
        taxonomy = self._interests if node_id.startswith("interest-") else self._places
        number = taxonomy.number(node_id)
        return "" if number is None else taxonomy.name(number)

    def _node(self, entry: Entry) -> str:
        """The id of the node that an entry stands for. Raises _NotLinked."""
        if not entry.kinds:
            raise _NotLinked(f"no node is of its type ({entry.type})")
        if entry.code and (node_id := self._coded(entry)):
            return node_id
        if entry.kinds[0] in KINDS["interests"]:
            return self._interests.ids[self._chosen(self._interests, entry, self._named(self._interests, entry))]
        country = entry.country or self._country(entry.country_name)
        found = self._named(self._places, entry)
        if country:
            found = {number for number in found if self._places.country_of[number] == country}
        return self._places.ids[self._chosen(self._places, entry, self._within(entry, country, found))]

    def _coded(self, entry: Entry) -> str | None:
        kind = entry.kinds[0]
        code = entry.code.upper() if kind == "country" else entry.code.lower()
        node_id = f"{kind}-{code}"
        return node_id if self._places.number(node_id) is not None else None

    def _country(self, name: str) -> str:
        """The code of the country of this name; empty where no name is given. Raises _NotLinked."""
        if not name:
            return ""
        found = [number for number in self._places.names.named(fold(name)) if self._places.kind_of[number] == "country"]
        if len(found) != 1:
            raise _NotLinked(f"no country is called {name}")
        return self._places.country_of[found[0]]

    @staticmethod
    def _named(taxonomy: Taxonomy, entry: Entry) -> set[int]:
        """The nodes of its first kind of which any has its name."""
        found = taxonomy.names.named(fold(entry.name))
        for kind in entry.kinds:
            if of_kind := {number for number in found if taxonomy.kind_of[number] == kind}:
                return of_kind
        return set()

    def _within(self, entry: Entry, country: str, found: set[int]) -> set[int]:
        """Those that lie in what the platform has above the entry. Raises _NotLinked where that is not sure of any."""
        if not entry.above or not found:
            return found
        named = set().union(*(self._places.names.named(fold(name)) for name in entry.above))
        around = {
            number
            for number in named
            if self._places.kind_of[number] == "subdivision" and self._places.country_of[number] == country
        }
        if inside := {number for number in found if self._lies_in(number, around)}:
            return inside
        on_country = {number for number in found if self._hangs_on_country(number)}
        if around or not on_country:
            raise _NotLinked(f"it is not known to lie in {', '.join(entry.above)}")
        return on_country

    def _lies_in(self, number: int, around: set[int]) -> bool:
        """Whether a node is below one of these, or beside: a platform may place a city finer than its parent does."""
        parent = self._places.parent_of[number]
        beside = not self._hangs_on_country(number) and any(parent in self._places.above(place) for place in around)
        return beside or not around.isdisjoint(self._places.above(number))

    def _hangs_on_country(self, number: int) -> bool:
        parent = self._places.parent_of[number]
        return parent < 0 or self._places.kind_of[parent] == "country"

    @staticmethod
    def _chosen(taxonomy: Taxonomy, entry: Entry, found: set[int]) -> int:
        """The one node: where several are found, the one whose main name it is, or that lies below what is above it."""
        if not found:
            raise _NotLinked("no node of its type has its name there")
        if len(found) > 1:
            around = {fold(name) for name in entry.above}
            below = {n for n in found if around & {fold(taxonomy.name(up)) for up in taxonomy.above(n)}}
            found = below or found
        if len(found) > 1:
            main = {number for number in found if fold(taxonomy.name(number)) == fold(entry.name)}
            found = main or found
        if len(found) > 1:
            raise _NotLinked(
                f"{len(found)} nodes have its name: {', '.join(taxonomy.ids[n] for n in sorted(found)[:3])}"
            )
        return found.pop()
