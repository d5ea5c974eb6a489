"""Finds locations by their name and the name of what surrounds them: "Springfield, IL", "Paris France".

Springfield, IL   the nodes named Springfield below a country or subdivision named IL: Illinois, Israel
springfield o     those below one whose name begins with O: Ohio, Oregon
Camden, London    those named Camden within 50 km of a city named London, in its country
"""

import re
from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import islice
from operator import or_

from audience_service.domain.core.normalisation import normalise
from audience_service.domain.targeting.bitmap import Bitmap, bitmap, members
from audience_service.domain.targeting.nearby_cities import distance
from audience_service.domain.targeting.tree import Tree

SEPARATOR = re.compile(r"[,;/，、]")
_POSTAL_CODE = re.compile(r"^\s*\d{4,6}\s|\s\d{4,6}(?:-\d{4})?\s*$")
"""The digits of "Springfield, IL 62701" and of "80331 Munich"."""
_DIRECTIONS = {"n": "north", "s": "south", "e": "east", "w": "west"}
_MAX_WORDS = 8
_MAX_CITIES, _MAX_NODES, _MAX_KILOMETERS = 5, 100, 50
_SURROUNDING = ("country", "subdivision")


def find_qualified(tree: Tree, query: str) -> tuple[Bitmap, Bitmap]:
    """The nodes that a query names exactly, or by the beginning of a name, inside the rest of the query.

    Separators divide the query. The first part is also divided before each of its words.
    """
    exact: Bitmap = 0
    prefix: Bitmap = 0
    for name, *surroundings in _divisions(query):
        found = tree.find(name)
        if not (found.exact or found.prefix):
            continue
        above = [_surrounding(tree, one, is_last=one is surroundings[-1]) for one in surroundings]
        if all(above):
            exact |= _inside(tree, found.exact, above)
            prefix |= _inside(tree, found.prefix, above) if len(name) > 1 else 0
        if found.exact and len(surroundings) == 1 and SEPARATOR.search(query):
            exact |= _around(tree, found.exact, surroundings[0])
    return exact, prefix & ~exact


def with_directions(normalised: str) -> str:
    """The normalised query with its directions completed: "n carolina" is "north carolina"."""
    return " ".join(_DIRECTIONS.get(word, word) for word in normalised.split())


def _divisions(query: str) -> Iterator[Sequence[str]]:
    """The name and the names of its surroundings, in each way of dividing the query."""
    bare = _POSTAL_CODE.sub(" ", query)
    name, *surroundings = [part for part in map(normalise, SEPARATOR.split(bare)) if part] or [""]
    if surroundings or bare != query:
        yield (name, *surroundings)
    words = name.split()[:_MAX_WORDS]
    yield from ((" ".join(words[:index]), " ".join(words[index:]), *surroundings) for index in range(1, len(words)))


def _surrounding(tree: Tree, name: str, *, is_last: bool) -> Bitmap:
    """The countries and subdivisions with a name. The last name of a query can be the beginning of a main name.

    Names in other languages must be complete, because every country has one that begins with any letter.
    """
    found = tree.find(name)
    surrounding = reduce(or_, map(tree.kind_set, _SURROUNDING))
    if (exact := found.exact & surrounding) or not is_last:
        return exact
    names = tree.main_names(found.prefix & surrounding)
    return bitmap(number for number, main in names.items() if normalise(main).startswith(name))


def _around(tree: Tree, numbers: Bitmap, city_name: str) -> Bitmap:
    """The nodes within some kilometers of the largest cities with a name, in their country."""
    named = list(islice(members(tree.find(city_name).exact & tree.kind_set("city")), _MAX_CITIES))
    cities, found = tree.nodes(named), list(islice(members(numbers & ~bitmap(named)), _MAX_NODES))
    return bitmap(
        number
        for number, node in zip(found, tree.nodes(found), strict=True)
        for city in cities
        if node.coordinates and city.coordinates and node.country == city.country
        if distance(*node.coordinates, *city.coordinates) <= _MAX_KILOMETERS
    )


def _inside(tree: Tree, numbers: Bitmap, above: Sequence[Bitmap]) -> Bitmap:
    """The nodes that have an ancestor in each of the sets."""
    return reduce(tree.inside, above, numbers)
