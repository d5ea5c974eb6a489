"""Edges of a GeoJSON polygon that cross, which MongoDB refuses when the filter is used.

An edge is the shortest line between two points on the sphere. Edges AB and CD cross if C and D are on different sides
of the great circle through A and B, and A and B are on different sides of that through C and D. Source: S2, which
MongoDB uses (s2edge_crossings, SimpleCrossing).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from audience_service.domain.core.error_path import at_index
from audience_service.domain.core.errors import InvalidFilter

Vector = tuple[float, float, float]

_ROUNDING = 1e-13
"""Up to this, a sign is not certain: the edges may only touch."""


@dataclass(frozen=True, slots=True)
class _Edge:
    """An edge that begins at a point of a ring. `normal` is perpendicular to its great circle.

    It is between `south` and `north` along the axis of the poles, and between `west` and `east` along another.
    """

    ring: int
    index: int
    start: Vector
    end: Vector
    normal: Vector
    south: float
    north: float
    west: float
    east: float


def check_edges(rings: Sequence[Sequence[Sequence[float]]], field_path: str) -> None:
    """Raise InvalidFilter if two edges of a polygon's rings cross, or one has opposite ends. It names the later."""
    edges = sorted(_edges(rings, field_path), key=lambda edge: edge.south)
    active: list[_Edge] = []
    for edge in edges:
        active = [other for other in active if other.north >= edge.south]
        for other in active:
            if other.east >= edge.west and edge.east >= other.west and _cross(edge, other):
                first, last = sorted((edge, other), key=lambda each: (each.ring, each.index))
                where = "" if first.ring == last.ring else f" of the ring at index {first.ring}"
                text = (
                    f"begins an edge that crosses the one from the point at index {first.index}{where}; "
                    "let no edges cross"
                )
                raise InvalidFilter.at(at_index(at_index(field_path, last.ring), last.index), text)
        active.append(edge)


def _edges(rings: Sequence[Sequence[Sequence[float]]], field_path: str) -> Iterator[_Edge]:
    for number, ring in enumerate(rings):
        for index, (start, end) in enumerate(pairwise(map(_vector, ring))):
            normal = _cross_product(start, end)
            cosine = _dot(start, end)
            if cosine < -1 + _ROUNDING:
                text = "begins an edge to the opposite point of the globe; write a point between them"
                raise InvalidFilter.at(at_index(at_index(field_path, number), index), text)
            bulge = 1 - cosine  # an upper bound of how far the edge leaves the range between its ends
            south, north = sorted((start[2], end[2]))
            west, east = sorted((start[1], end[1]))
            bounds = (south - bulge, north + bulge, west - bulge, east + bulge)
            yield _Edge(number, index, start, end, normal, *bounds)


def _cross(one: _Edge, other: _Edge) -> bool:
    sides = (
        -_dot(one.normal, other.start),
        _dot(one.normal, other.end),
        -_dot(other.normal, one.end),
        _dot(other.normal, one.start),
    )
    return all(side > _ROUNDING for side in sides) or all(side < -_ROUNDING for side in sides)


def _vector(point: Sequence[float]) -> Vector:
    longitude, latitude = map(math.radians, point)
    return math.cos(latitude) * math.cos(longitude), math.cos(latitude) * math.sin(longitude), math.sin(latitude)


def _dot(one: Vector, other: Vector) -> float:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def _cross_product(one: Vector, other: Vector) -> Vector:
    return (
        one[1] * other[2] - one[2] * other[1],
        one[2] * other[0] - one[0] * other[2],
        one[0] * other[1] - one[1] * other[0],
    )
