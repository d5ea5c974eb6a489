"""Edges of polygons that cross."""

import random
from itertools import pairwise

from audience_service.domain.core.errors import InvalidFilter
from audience_service.domain.filters.polygon_edges import check_edges

Ring = list[list[float]]


def crosses_in_the_plane(ring: Ring) -> bool:
    def side(a: list[float], b: list[float], c: list[float]) -> float:
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    edges = list(pairwise(ring))
    return any(
        side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
        for index, (a, b) in enumerate(edges)
        for c, d in edges[:index]
    )


def is_refused(ring: Ring) -> bool:
    try:
        check_edges([ring], "coordinates")
    except InvalidFilter:
        return True
    return False


def test_small_polygons_are_refused_as_in_the_plane() -> None:
    rng = random.Random(8)
    found = set()
    for _ in range(500):
        ring = [[rng.uniform(100, 100.01), rng.uniform(40, 40.01)] for _ in range(rng.choice((3, 4, 5)))]
        ring.append(ring[0])
        assert is_refused(ring) == crosses_in_the_plane(ring), ring
        found.add(is_refused(ring))
    assert found == {True, False}


def test_an_edge_is_the_shortest_line_on_the_globe() -> None:
    """Across the Pacific, and towards the pole: the line from west to east along 60 degrees passes 70 degrees."""
    assert not is_refused([[170, 0], [-170, 0], [-170, 10], [170, 10], [170, 0]])
    assert is_refused([[170, 0], [-170, 10], [-170, 0], [170, 10], [170, 0]])
    assert is_refused([[-60, 60], [60, 60], [0, 50], [0, 65], [-60, 60]]) is False
    assert is_refused([[-60, 60], [60, 60], [0, 80], [0, 65], [-60, 60]])
