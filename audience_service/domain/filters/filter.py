"""A filter as a caller writes it, the limits it is held to, and how places in it are named."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]
"""A MongoDB document: a match, a stage, or a value in one."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records of one datatype are meant.

    `where` is a JSON object whose leaves may be bson value types; None where a static segment names a datatype alone.
    `exact` says that key order and integers are as the caller wrote them; a protobuf Struct keeps neither.
    """

    datatype: str
    where: Mapping[str, Any] | None
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Limits:
    """What a filter may cost before anything is compiled."""

    depth: int = 32
    """Levels of conditions and values inside one another. MongoDB itself stops at 100 levels of BSON; one of ours can
    take three."""
    conditions: int = 1_000
    list_length: int = 10_000
    size_bytes: int = 1024 * 1024
    pattern_length: int = 1_000
    pattern_characters: int = 20_000
    """Of all patterns of a filter together."""
    nesting: int = 150
    """Levels of BSON in what is emitted, audiences included. MongoDB takes commands of 200."""
    audiences: int = 50
    """Audiences that a filter may refer to, those that they refer to included."""
    audience_depth: int = 5
    """Audiences inside one another."""
    related: int = 3
    """Joins with related records, each of which may look them up for every record that the plain conditions leave."""
    related_count: int = 1_000
