"""The operator $geoWithin: stored coordinates are inside a shape.

    {"location": {"$geoWithin": {"$centerSphere": [[11.57549, 48.13743], 0.00392]}}}      25 km around Munich

Coordinates are [longitude, latitude] in degrees, or a GeoJSON point. The radius of $centerSphere is in radians:
kilometers divided by 6,378.1, as MongoDB computes distances. Source: MongoDB manual, $geoWithin.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from audience_service.domain.core.error_path import at_index, at_key
from audience_service.domain.core.errors import FilterTooLarge, InvalidFilter
from audience_service.domain.filters.polygon_edges import check_edges
from audience_service.domain.filters.values import ValueReader

EARTH_RADIUS = 6378.1
"""MongoDB's radius of the earth, in kilometers."""
_MAX_POINTS = 1_000
_CORNERS = 2
_MIN_POLYGON, _MIN_RING = 3, 4
_RINGS = "takes rings of four or more points [longitude, latitude], of which the last is the first"

Shape = Mapping[str, Any]
_Read = Callable[[Any, str, ValueReader], Any]


def read_shape(operand: Any, field_path: str, reader: ValueReader) -> Shape:
    """The operand of $geoWithin. Raises InvalidFilter, FilterTooLarge."""
    if not isinstance(operand, Mapping) or len(operand) != 1 or next(iter(operand)) not in _SHAPES:
        names = ", ".join(_SHAPES)
        raise InvalidFilter.at(
            field_path, f'takes one of {names}, like {{"$centerSphere": [[11.57549, 48.13743], 0.00392]}}'
        )
    [(name, argument)] = operand.items()
    here = at_key(field_path, name)
    shape = {name: _SHAPES[name](argument, here, reader)}
    if (count := count_points(shape)) > _MAX_POINTS:
        limit = f"{_MAX_POINTS:,}"
        raise FilterTooLarge.at(here, f"has {count:,} points; the limit is {limit}", limit=str(_MAX_POINTS))
    return shape


def count_points(shape: Any) -> int:
    """The number of points in a shape."""
    if isinstance(shape, Mapping):
        return sum(map(count_points, shape.values()))
    if not isinstance(shape, list):
        return 0
    return 1 if shape and isinstance(shape[0], int | float) else sum(map(count_points, shape))


def _circle(value: Any, field_path: str, reader: ValueReader) -> list[Any]:
    if not isinstance(value, list) or len(value) != _CORNERS:
        raise InvalidFilter.at(field_path, "takes [[longitude, latitude], radius]; the radius is kilometers / 6378.1")
    center, radius = value
    here = at_index(field_path, 1)
    number = _number(radius, here, reader)
    if not 0 <= number <= math.pi:
        text = f"is a radius in radians, from 0 to 3.14; for 25 km write {25 / EARTH_RADIUS:.5f}, kilometers / 6378.1"
        raise InvalidFilter.at(here, text)
    return [_point(center, at_index(field_path, 0), reader), number]


def _box(value: Any, field_path: str, reader: ValueReader) -> list[Any]:
    return _points(
        value, field_path, reader, "takes the two corners [[west, south], [east, north]]", _CORNERS, _CORNERS
    )


def _polygon(value: Any, field_path: str, reader: ValueReader) -> list[Any]:
    return _points(value, field_path, reader, "takes three or more points [longitude, latitude]", _MIN_POLYGON)


def _geometry(value: Any, field_path: str, reader: ValueReader) -> dict[str, Any]:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind not in ("Polygon", "MultiPolygon") or set(value) != {"type", "coordinates"}:
        raise InvalidFilter.at(field_path, 'takes {"type": "Polygon" or "MultiPolygon", "coordinates": [...]}')
    here = at_key(field_path, "coordinates")
    polygons = value["coordinates"] if kind == "MultiPolygon" else [value["coordinates"]]
    if not isinstance(polygons, list) or not polygons or any(not isinstance(one, list) or not one for one in polygons):
        raise InvalidFilter.at(here, _RINGS)
    places = [at_index(here, number) if kind == "MultiPolygon" else here for number in range(len(polygons))]
    found = [
        [_ring(ring, at_index(place, index), reader) for index, ring in enumerate(polygon)]
        for polygon, place in zip(polygons, places, strict=True)
    ]
    if (count := count_points(found)) <= _MAX_POINTS:
        reader.count_points(count, here)
        for rings, place in zip(found, places, strict=True):
            check_edges(rings, place)
    return {"type": kind, "coordinates": found if kind == "MultiPolygon" else found[0]}


def _ring(value: Any, field_path: str, reader: ValueReader) -> list[Any]:
    """The points of a ring, of which only neighbours may be equal, as for the database."""
    points = _points(value, field_path, reader, _RINGS, _MIN_RING)
    if points[0] != points[-1]:
        raise InvalidFilter.at(field_path, _RINGS)
    corners = [(index, point) for index, point in enumerate(points[:-1]) if point != points[index + 1]]
    if len(corners) < _MIN_POLYGON:
        raise InvalidFilter.at(field_path, "has no area; write three or more different points")
    places: dict[tuple[float, ...], int] = {}
    for index, point in corners:
        first = places.setdefault(tuple(point), index)
        if first != index:
            text = f"is also the point at index {first}; a ring visits each point once"
            raise InvalidFilter.at(at_index(field_path, index), text)
    return points


def _points(
    value: Any, field_path: str, reader: ValueReader, problem: str, minimum: int, maximum: int | None = None
) -> list[Any]:
    if not isinstance(value, list) or not minimum <= len(value) <= (maximum or len(value)):
        raise InvalidFilter.at(field_path, problem)
    return [_point(point, at_index(field_path, index), reader) for index, point in enumerate(value)]


def _point(value: Any, field_path: str, reader: ValueReader) -> list[float]:
    if not isinstance(value, list) or len(value) != _CORNERS:
        raise InvalidFilter.at(field_path, "takes [longitude, latitude], like [11.57549, 48.13743]")
    longitude, latitude = (_number(item, at_index(field_path, index), reader) for index, item in enumerate(value))
    if not -180 <= longitude <= 180 or not -90 <= latitude <= 90:
        raise InvalidFilter.at(field_path, "is outside the earth; write the longitude first, then the latitude")
    return [longitude, latitude]


def _number(value: Any, field_path: str, reader: ValueReader) -> float:
    number = reader.scalar(value, field_path)
    if isinstance(number, bool) or not isinstance(number, int | float) or math.isnan(number):
        raise InvalidFilter.at(field_path, "takes a number")
    return float(number)


_SHAPES: dict[str, _Read] = {
    "$centerSphere": _circle,
    "$box": _box,
    "$polygon": _polygon,
    "$geometry": _geometry,
}
"""The shapes, each with the reader of its argument."""
