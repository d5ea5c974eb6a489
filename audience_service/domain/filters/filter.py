"""A filter as a caller writes it, and the limits of filters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]
"""A MongoDB document: a match, a stage, or a value in one."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A selection of records of one datatype.

    `where` is a JSON object whose leaves may be bson value types. It is None if a static segment names only a datatype.
    `exact`: key order and integers are as the caller wrote them. A protobuf Struct keeps neither.
    """

    datatype: str
    where: Mapping[str, Any] | None
    exact: bool = True


@dataclass(frozen=True, slots=True)
class FilterLimits:
    """The limits of a filter. The parser checks most of them before the compiler runs."""

    depth: int = 32
    """Levels of nested conditions and values. MongoDB stops at 100 levels of BSON; one level here can take three."""
    conditions: int = 1_000
    list_length: int = 10_000
    size_bytes: int = 1024 * 1024
    pattern_length: int = 1_000
    pattern_characters: int = 20_000
    """Characters of all patterns of a filter together."""
    points: int = 2_000
    """Points of all shapes of a filter together. All edges of a shape may have to be compared with each other."""
    nesting: int = 150
    """Levels of BSON in the compiled filter, audiences included. MongoDB takes commands of 200 levels."""
    audiences: int = 50
    """Audiences that a filter refers to, directly or through others."""
    audience_depth: int = 5
    """Levels of nested audiences."""
    related: int = 8
    """$related joins. Each may do a lookup for every record that meets the plain conditions."""
    related_count: int = 1_000
