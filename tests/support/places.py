"""The packaged cities, for compilers of the tests."""

from audience_service.domain.targeting.nearby_cities import CityFinder
from audience_service.domain.targeting.taxonomy import packaged_taxonomies

find_cities = CityFinder(lambda: packaged_taxonomies()["places"]).near
"""The cities within a distance of a city, by its id and in kilometers."""
