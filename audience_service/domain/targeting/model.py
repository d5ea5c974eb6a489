"""One value that a campaign can be aimed at."""

from collections.abc import Mapping
from dataclasses import dataclass

KINDS = {
    "interests": ("demographic", "interest", "purchase_intent"),
    "places": ("country", "subdivision", "city", "language"),
    "options": ("facet", "option"),
}
"""The taxonomies, and the kinds of the nodes of each."""

ON_REQUEST = "language"
"""The kind that is listed only where it is asked for: a picker of places has no use for it."""

LOCALES = (
    "ar", "cs", "de", "el", "en", "es", "fr", "hi", "id", "it", "ja",
    "ko", "nl", "pl", "pt", "ru", "sv", "tr", "uk", "zh",
)  # fmt: skip
"""The languages in which CLDR's names are carried."""


@dataclass(frozen=True, slots=True)
class NodeName:
    """A node as one below it shows it."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Node:
    """A node with those above it in `path`, from the top down. What its source does not say is None or empty."""

    id: str
    name: str
    kind: str
    source: str
    ancestors: tuple[NodeName, ...]
    country: str
    population: int | None
    coordinates: tuple[float, float] | None
    """Latitude and longitude in degrees."""
    platform: str
    value: str
    localized: Mapping[str, str]
    child_count: int
