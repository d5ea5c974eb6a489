"""The lint rule on cities: what $nearCity leaves out, and what it finds too much."""

from collections.abc import Iterator

from audience_service.domain.filters.ast import Condition
from audience_service.domain.filters.lint.linted_filter import LintedFilter
from audience_service.domain.filters.lint.warning import FilterWarning, LintRule
from audience_service.domain.filters.near_city import NearCity


def find_small_places(linted: LintedFilter) -> Iterator[FilterWarning]:
    """The conditions on the cities around one: only cities that have a node count."""
    for node in linted.nodes:
        if not isinstance(node, Condition) or not isinstance(node.operand, NearCity):
            continue
        cities = node.operand.cities
        count = "1 city" if cities.city_count == 1 else f"{cities.city_count:,} cities"
        text = (
            f"finds {count} of 15,000 people or more, or with an administration; contacts in smaller places within "
            f"{node.operand.kilometers:g} km do not meet it"
        )
        if cities.shared_count and not node.operand.country:
            text += (
                f"; {cities.shared_count:,} of their names are also those of cities elsewhere, so write the "
                "field of the country in country"
            )
        yield FilterWarning(node.field_path, LintRule.SMALL_PLACES, text)
