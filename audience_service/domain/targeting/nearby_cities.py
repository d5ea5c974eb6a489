"""The cities around a city, with their names, for the filter operator $nearCity."""

import gzip
import math
from array import array
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from importlib.resources import files

from audience_service.domain.core.normalisation import normalise
from audience_service.domain.filters.near_city import CityNames, NearbyCities
from audience_service.domain.targeting.bitmap import members
from audience_service.domain.targeting.taxonomy import Taxonomy

EARTH_RADIUS = 6371.0088
"""The mean radius of the earth, in kilometers."""
_KILOMETERS_PER_DEGREE = 111.0
"""Slightly less than a degree of latitude has."""


class CityFinder:
    """Finds cities by distance. The first search reads the names of all cities, in a tenth of a second."""

    def __init__(self, load: Callable[[], Taxonomy]) -> None:
        """`load` returns the taxonomy of places."""
        self._load = load
        self.near = lru_cache(maxsize=256)(self._near)

    def _near(self, city_id: str, kilometers: float) -> NearbyCities | None:
        """The cities within a distance of a city, which is one of them; None if no city has the id."""
        places = self._places
        center = places.number(city_id)
        if center is None or places.kind_of[center] != "city":
            return None
        found = self._within(center, kilometers)
        numbers_by_country = defaultdict[str, list[int]](list)
        for number in found:
            numbers_by_country[places.country_of[number]].append(number)
        by_country = tuple(
            CityNames(country, self._names_of(numbers), self._country_names(country))
            for country, numbers in sorted(numbers_by_country.items())
        )
        return NearbyCities(places.name(center), len(found), by_country, self._count_shared(set(found), by_country))

    def _within(self, center: int, kilometers: float) -> list[int]:
        numbers, latitudes, longitudes = self._coordinates
        index = numbers.index(center)
        latitude, longitude = latitudes[index], longitudes[index]
        reach = kilometers / _KILOMETERS_PER_DEGREE
        return [
            number
            for number, north, east in zip(numbers, latitudes, longitudes, strict=True)
            if abs(north - latitude) <= reach and distance(latitude, longitude, north, east) <= kilometers
        ]

    def _names_of(self, numbers: list[int]) -> tuple[str, ...]:
        return tuple(sorted({name for number in numbers for name in self._spellings[number].decode().split("\t")[1:]}))

    def _country_names(self, country: str) -> tuple[str, ...]:
        node = self._places.number(f"country-{country}")
        return (country,) if node is None else self._names_of([node])

    def _count_shared(self, near: set[int], by_country: tuple[CityNames, ...]) -> int:
        """How many of the names are also names of cities elsewhere."""
        places, cities = self._places, self._places.of_kind["city"]
        names = {normalise(name) for each in by_country for name in each.names}
        return sum(
            any(number not in near and cities >> number & 1 for number in places.names.find_exact(name))
            for name in names
        )

    @cached_property
    def _places(self) -> Taxonomy:
        return self._load()

    @cached_property
    def _coordinates(self) -> "tuple[array[int], array[float], array[float]]":
        """The numbers, latitudes and longitudes of all cities."""
        numbers, latitudes, longitudes = array("i"), array("d"), array("d")
        for number in members(self._places.of_kind["city"]):
            if (found := self._places.coordinates(number)) is not None:
                numbers.append(number)
                latitudes.append(found[0])
                longitudes.append(found[1])
        return numbers, latitudes, longitudes

    @cached_property
    def _spellings(self) -> Mapping[int, bytes]:
        """The line of each city and country: its number and its names, as the sources write them."""
        path = files("audience_service.domain.targeting") / "data/places.spellings.gz"
        lines = gzip.decompress(path.read_bytes()).splitlines()
        return {int(line.partition(b"\t")[0]): line for line in lines}


def distance(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """The kilometers between two points in degrees, by the haversine formula."""
    first, second = math.radians(latitude), math.radians(other_latitude)
    half_north, half_east = (second - first) / 2, math.radians(other_longitude - longitude) / 2
    chord = math.sin(half_north) ** 2 + math.cos(first) * math.cos(second) * math.sin(half_east) ** 2
    return 2 * EARTH_RADIUS * math.asin(min(1.0, math.sqrt(chord)))
