"""Finds subdivisions by name, with or without the word for their type."""

from collections import defaultdict

import pycountry

from audience_service.domain.core.normalisation import normalise
from audience_service.domain.targeting.taxonomy import Taxonomy

_TYPE_WORDS = frozenset(
    normalise(
        "province provincia region oblast oblasts county department departement prefecture governorate district state "
        "municipality voivodeship republic autonomous okrug krai kray of the parish emirate canton kraj"
    ).split(" ")
)
"""Words for types that names of subdivisions can include or omit."""

_TOWN_TYPES = ("city", "capital", "municipality", "town", "borough", "urban", "metropolitan administration")
"""Words in ISO's types of subdivisions that are towns."""


def without_type_words(name: str) -> str:
    """The normalised name without the words for a type of subdivision: "State of Bahia" is "bahia"."""
    words = normalise(name).split()
    return " ".join(word for word in words if word not in _TYPE_WORDS) or " ".join(words)


class Subdivisions:
    """The subdivisions of the taxonomy of locations, by country and name."""

    def __init__(self, locations: Taxonomy) -> None:
        self._locations = locations
        self._by_bare_name: dict[tuple[str, str], set[int]] = defaultdict(set)
        self.countries: set[str] = set()
        """The countries with subdivisions."""
        types = {f"subdivision-{listed.code}": listed.type.lower() for listed in pycountry.subdivisions}
        for number, kind in enumerate(locations.kind_of):
            if kind != "subdivision":
                continue
            node = locations.node(number)
            self.countries.add(node.country)
            if node.id in types and not any(town in types[node.id] for town in _TOWN_TYPES):
                for name in (node.name, *node.localized.values()):
                    self._by_bare_name[node.country, without_type_words(name)].add(number)

    def find(self, name: str, country: str) -> set[int]:
        """The numbers of the subdivisions with a name, in a country if one is given.

        If none has the name, words for a type are removed: "State of Bahia" finds Bahia. The result is empty if more
        than one subdivision has the rest. Towns do not count: "Kyiv Oblast" surrounds the town of Kyiv.
        """
        taxonomy = self._locations
        found = {
            number for number in taxonomy.names.find_exact(normalise(name)) if taxonomy.kind_of[number] == "subdivision"
        }
        found = {number for number in found if country in ("", taxonomy.country_of[number])}
        by_bare_name = (
            self._by_bare_name.get((country, without_type_words(name)), set())
            if without_type_words(name) != normalise(name)
            else set()
        )
        return found or (by_bare_name if len(by_bare_name) == 1 else set())
