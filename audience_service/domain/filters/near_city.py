"""The operator $nearCity: the contact's city is one of those within some distance of a city.

    {"address.city": {"$nearCity": {"id": "city-2867714", "kilometers": 25, "country": "address.country"}}}

becomes, for Munich, the names of 21 cities and those of their country, in any language:

    address.city is one of Munich, munich, MUNICH, München, Munchen, Dachau, Garching bei München, ...
    address.country is one of Germany, Deutschland, Allemagne, DE, DEU, ...

1. The cities are those of the packaged places. Smaller ones have no node, so a warning says that they are left out.
2. A distance is that between the centers.
3. A name counts as its source writes it, in lower case, in capitals and with each word capitalised; each of these also
   without accents and with spaces for hyphens (`name_forms`). An index on the field serves such a list.
4. Without `country` the name alone decides, also if another city has it.
"""

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from audience_service.domain.core.error_path import at_key
from audience_service.domain.core.errors import FilterTooLarge, InvalidFilter
from audience_service.domain.core.punctuation import DASHES
from audience_service.domain.filters.fields import plain_path
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.values import ValueReader

MAX_KILOMETERS, MAX_CITIES = 200, 500
_FORM = 'takes {"id": "city-2867714", "kilometers": 25, "country": "address.country"}; country may be omitted'
_SPACES = str.maketrans(dict.fromkeys(DASHES, " "))


@dataclass(frozen=True, slots=True)
class CityNames:
    """The names of cities in a country, and those of the country, as sources write them."""

    country: str
    names: tuple[str, ...]
    country_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NearbyCities:
    """The cities around one with this `name`. `shared_count` of their names are also names of cities elsewhere."""

    name: str
    city_count: int
    by_country: tuple[CityNames, ...]
    shared_count: int


FindCities = Callable[[str, float], NearbyCities | None]
"""The cities within a distance of a city, by its id and in kilometers; None if the id is unknown."""


@dataclass(frozen=True, slots=True)
class NearCity:
    """The operand. `country` is the path of the contact's country, empty if it does not matter."""

    city_id: str
    kilometers: float
    country: str
    cities: NearbyCities

    @classmethod
    def read(cls, operand: Any, field_path: str, reader: ValueReader) -> Self:
        """The operand of $nearCity. Raises InvalidFilter, FilterTooLarge."""
        names = ("id", "kilometers", "country")
        if not isinstance(operand, Mapping) or not {"id", "kilometers"} <= set(operand) <= set(names):
            raise InvalidFilter.at(field_path, _FORM)
        kilometers = operand["kilometers"]
        is_number = isinstance(kilometers, int | float) and not isinstance(kilometers, bool)
        if not is_number or not 0 <= kilometers <= MAX_KILOMETERS:
            raise InvalidFilter.at(at_key(field_path, "kilometers"), f"takes a number from 0 to {MAX_KILOMETERS}")
        id_path, country_path = at_key(field_path, "id"), at_key(field_path, "country")
        city_id = reader.text(operand["id"], id_path)
        found = reader.cities(city_id, float(kilometers))
        if found is None:
            raise InvalidFilter.at(id_path, 'is not a city; take an id of ListLocations, like "city-2867714"')
        if found.city_count > MAX_CITIES:
            problem = f"reaches {found.city_count} cities; the limit is {MAX_CITIES}; reduce the distance"
            raise FilterTooLarge.at(at_key(field_path, "kilometers"), problem, limit=str(MAX_CITIES))
        country = ""
        if "country" in operand:
            country = plain_path(reader.text(operand["country"], country_path), country_path)
        return cls(city_id, float(kilometers), country, found)


def near_city_conditions(operand: NearCity) -> list[Document]:
    """The condition on one text: it is a name of one of the cities."""
    return [{"$in": list(_forms_of(tuple(name for each in operand.cities.by_country for name in each.names)))}]


def near_city_match(path: str, operand: NearCity, _in_element: bool) -> Document:
    """The match of a field that names one of the cities, in the country of the city."""
    if not operand.country:
        [condition] = near_city_conditions(operand)
        return {path: condition}
    alternatives: list[Document] = [
        {
            "$and": [
                {operand.country: {"$in": list(_forms_of(each.country_names))}},
                {path: {"$in": list(_forms_of(each.names))}},
            ]
        }
        for each in operand.cities.by_country
    ]
    return alternatives[0] if len(alternatives) == 1 else {"$or": alternatives}


def missing_country(path: str, operand: NearCity) -> Document:
    """The match of the records that name one of the cities, but have no country."""
    [condition] = near_city_conditions(operand)
    return {"$and": [{path: condition}, {"$nor": [{operand.country: {"$regex": "[^ ]"}}]}]}


def name_forms(name: str) -> Iterator[str]:
    """The texts that count as a name."""
    for spelled in {name, _without_accents(name)}:
        for text in {spelled, spelled.translate(_SPACES)}:
            yield from (text, text.lower(), text.upper(), text.title())


@lru_cache(maxsize=256)
def _forms_of(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({form for name in names for form in name_forms(name)}))


def _without_accents(name: str) -> str:
    decomposed = unicodedata.normalize("NFD", name)
    plain = "".join(letter for letter in decomposed if not 0x300 <= ord(letter) < 0x370)
    return unicodedata.normalize("NFC", plain)
