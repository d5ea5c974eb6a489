"""The nodes of taxonomies: values that a campaign can target."""

from collections.abc import Mapping
from dataclasses import dataclass

KINDS = {
    "interests": ("demographic", "interest", "purchase_intent"),
    "places": ("country", "subdivision", "city", "language"),
    "options": ("facet", "option"),
}
"""The kinds of nodes, by taxonomy."""

ON_REQUEST = "language"
"""The kind that a list contains only on request: pickers of locations do not need it."""

LOCALES = (
    "ar", "cs", "de", "el", "en", "es", "fr", "hi", "id", "it", "ja",
    "ko", "nl", "pl", "pt", "ru", "sv", "tr", "uk", "zh",
)  # fmt: skip
"""The languages of the localised names, which come from CLDR."""


@dataclass(frozen=True, slots=True)
class NodeName:
    """An ancestor, as its descendants show it."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Node:
    """A node, with its ancestors from the top down. Values that its source lacks are None or empty."""

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
    platform_id: str = ""
    """The platform's own id, if this is a node of a platform's tree."""
    path: tuple[str, ...] = ()
    """The names above the node at its platform, from the top down, also of those that are no nodes."""
    same_as: str = ""
    """The id of the packaged node for the same target."""
    audience_size: tuple[int, int] | None = None
    """The least and most people that the platform states for the node."""
