"""$nearCity and $geoWithin on every store, compared with plain Python."""

import math
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from audience_service.domain.core.normalisation import normalise
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.targeting.model import Node
from audience_service.domain.targeting.nearby_cities import distance
from audience_service.domain.targeting.taxonomy import packaged_taxonomies
from tests.conftest import Service
from tests.contract.test_explain_membership import explain
from tests.support import oracles
from tests.support.client import Refusal
from tests.support.oracles import oracle_size
from tests.support.places import find_cities

MUNICH = "city-2867714"
PLACES = packaged_taxonomies()["places"]
CITIES = [number for number, kind in enumerate(PLACES.kind_of) if kind == "city"]
RECORDS, FILTERS = oracle_size(150, 20)


def near(kilometers: float = 25, city_id: str = MUNICH, country: str = "") -> dict[str, Any]:
    operand: dict[str, Any] = {"id": city_id, "kilometers": kilometers}
    return {"address.city": {"$nearCity": operand | ({"country": country} if country else {})}}


def node(city_id: str) -> Node:
    number = PLACES.number(city_id)
    assert number is not None
    return PLACES.node(number)


def kilometers_between(one: Node, other: Node) -> float:
    """The distance by the spherical law of cosines."""
    assert one.coordinates
    assert other.coordinates
    [north, east], [other_north, other_east] = map(math.radians, one.coordinates), map(math.radians, other.coordinates)
    cosine = math.sin(north) * math.sin(other_north)
    cosine += math.cos(north) * math.cos(other_north) * math.cos(east - other_east)
    return 6371.0088 * math.acos(min(1.0, cosine))


@cache
def all_cities() -> list[Node]:
    return [PLACES.node(number) for number in CITIES]


def nodes_around(city_id: str, kilometers: float) -> Iterator[Node]:
    center = node(city_id)
    assert center.coordinates
    for found in all_cities():
        is_near = found.coordinates is not None and abs(found.coordinates[0] - center.coordinates[0]) < 2
        if is_near and kilometers_between(center, found) <= kilometers:
            yield found


def test_the_cities_are_those_within_the_distance() -> None:
    found = find_cities(MUNICH, 30.0)
    assert found
    around = list(nodes_around(MUNICH, 30.0))
    assert (found.name, found.city_count) == ("Munich", len(around))
    names = {name for each in found.by_country for name in each.names}
    assert {each.name for each in around} <= names
    assert {"Munich", "München", "Garching bei München", "慕尼黑"} <= names
    assert "Augsburg" not in names
    assert all(PLACES.names.find_exact(normalise(name)) for name in names if normalise(name))


def test_a_distance_is_that_of_the_sphere() -> None:
    rng = random.Random(5)
    for _ in range(200):
        one, other = (PLACES.node(rng.choice(CITIES)) for _ in range(2))
        assert one.coordinates
        assert other.coordinates
        assert distance(*one.coordinates, *other.coordinates) == pytest.approx(kilometers_between(one, other), abs=0.01)


def test_every_rpc_agrees_on_the_cities_around_munich(service: Service, org: str) -> None:
    client = service.client(org)
    stored: dict[str, Any] = {
        "plain": ("Munich", "DE"), "local": ("München", "Germany"), "capitals": ("MÜNCHEN", "germany"),
        "accents": ("Munchen", "Deutschland"), "lower": ("garching bei münchen", "de"), "hyphen": ("Dachau", "DEU"),
        "far": ("Augsburg", "DE"), "abroad": ("Munich", "US"), "missing": ("Munich", None), "small": ("Haar", "DE"),
        "number": (80331, "DE"),
    }  # fmt: skip
    service.insert(
        org,
        [
            {"id": name, "data": {"address": {"city": city, "country": country}}}
            for name, (city, country) in stored.items()
        ],
    )
    where = near(country="address.country")
    written = {"datatype": "contact", "where": where}
    expected = sorted(f"contact-{name}" for name in ("plain", "local", "capitals", "accents", "lower", "hyphen"))
    haar = "Haar" in {found.name for found in nodes_around(MUNICH, 25)}
    expected = sorted([*expected, *(["contact-small"] if haar else [])])
    assert client.members(filter=written) == expected
    segment = client.create(name="around Munich", filter=written)
    assert MessageToDict(segment.filter)["where"] == where
    assert client.count(audienceId=segment.id) == len(expected)
    elsewhere = client.create(name="elsewhere", filter={"datatype": "contact", "where": {"$nor": [where]}})
    for made in (segment, elsewhere):  # what a warning says of the condition also holds inside a negation
        warnings = {warning.reason: warning.description for warning in made.warnings}
        assert warnings["UNKNOWN_COUNTRY"].startswith("is not met by 1 record that names one of the cities")
        assert "contacts in smaller places within 25 km do not meet it" in warnings["SMALL_PLACES"]
    assert client.members(filter={"datatype": "contact", "where": near()}) == sorted(
        [*expected, "contact-abroad", "contact-missing"]
    )
    others = client.members(audience_id=elsewhere.id)
    assert sorted([*others, *expected]) == sorted(f"contact-{name}" for name in stored)
    answer = explain(client, "contact-local", where)
    [condition, _] = answer.condition.conditions
    assert (answer.member, condition.value.string_value) == (True, "München")
    assert "km of Munich (" in condition.description


@pytest.mark.slow
@pytest.mark.timeout(oracles.TIMEOUT)
def test_random_filters_agree_with_python(service: Service) -> None:
    rng = random.Random(3)
    org, compiler = f"cities{next(service.names)}", FilterCompiler(["contact"], find_cities=find_cities)
    centers = [PLACES.ids[number] for number in rng.sample(CITIES[:2_000], FILTERS)]
    nearby = [found for center in centers for found in nodes_around(center, 60)]
    records: dict[str, Any] = {}
    for number in range(RECORDS):
        city = rng.choice(nearby) if rng.random() < 0.8 else PLACES.node(rng.choice(CITIES))
        form = rng.choice((str, str.lower, str.upper))
        country = rng.choice((city.country, city.country.lower(), "", None, "FR"))
        records[f"r{number}"] = {"address": {"city": form(city.name), "country": country}}
    ids = service.insert(org, [{"id": name, "data": data} for name, data in records.items()])
    matched = 0
    for center in centers:
        kilometers = rng.choice((0, 5, 25, 60))
        country = rng.choice(("", "address.country"))
        compiled = compiler.compile(Filter("contact", near(kilometers, center, country)))
        found = oracles.members(service.store, org, compiled, ids)
        around = find_cities(center, float(kilometers))
        assert around
        expected, possible = (
            {
                f"contact-{name}"
                for name, data in records.items()
                if any(
                    form(data["address"]["city"]) in map(form, each.names)
                    and (not country or (data["address"]["country"] or "").upper() == each.country)
                    for each in around.by_country
                )
            }
            for form in (str.casefold, normalise)
        )
        # Names without accents and hyphens are found as well.
        assert expected <= found <= possible, (center, kilometers, country)
        matched += len(found)
    assert matched > FILTERS


def test_coordinates_are_found_within_a_shape(real_service: Service) -> None:
    org = f"shapes{next(real_service.names)}"
    client, center = real_service.client(org), node(MUNICH)
    assert center.coordinates
    latitude, longitude = center.coordinates
    rng = random.Random(9)
    points = {f"p{n}": [longitude + rng.uniform(-0.6, 0.6), latitude + rng.uniform(-0.4, 0.4)] for n in range(150)}
    radii = {name: distance(latitude, longitude, north, east) for name, (east, north) in points.items()}
    points = {name: point for name, point in points.items() if abs(radii[name] - 25) > 0.5}  # an ellipsoid differs
    stored = {
        name: point if rng.random() < 0.5 else {"type": "Point", "coordinates": point} for name, point in points.items()
    }
    real_service.insert(org, [{"id": name, "data": {"at": value}} for name, value in stored.items()])
    circle = {"at": {"$geoWithin": {"$centerSphere": [[longitude, latitude], 25 / 6378.1]}}}
    expected = {
        f"contact-{name}"
        for name, (east, north) in points.items()
        if distance(latitude, longitude, north, east) * 6378.1 / 6371.0088 <= 25
    }
    assert set(client.members(filter={"datatype": "contact", "where": circle})) == expected
    assert 0 < len(expected) < len(points)
    corner, opposite = [longitude - 0.2, latitude - 0.1], [longitude + 0.3, latitude + 0.2]
    box = {"at": {"$geoWithin": {"$box": [corner, opposite]}}}
    inside = {
        f"contact-{name}"
        for name, point in points.items()
        if all(low <= value <= high for low, value, high in zip(corner, point, opposite, strict=True))
    }
    assert set(client.members(filter={"datatype": "contact", "where": box})) == inside
    assert client.count(filter={"datatype": "contact", "where": {"$nor": [box]}}) == len(points) - len(inside)


def test_an_expression_that_fails_next_to_a_shape_is_named(
    real_service: Service, refused: Callable[..., Refusal]
) -> None:
    """The shape is right, so the error is not about it."""
    org = f"shapes{next(real_service.names)}"
    real_service.insert(org, [{"data": {"at": [1, 2], "n": "abc"}}])
    ring = [[10, 10], [15, 10], [15, 15], [10, 10]]
    shape = {"at": {"$geoWithin": {"$geometry": {"type": "Polygon", "coordinates": [ring]}}}}
    where = {"$or": [shape, {"$expr": {"$gt": [{"$toInt": "$n"}, 1]}}]}
    refusal = refused(lambda: real_service.client(org).count(filter={"datatype": "contact", "where": where}))
    assert refusal.info.reason == "EXPRESSION_FAILED"


def test_a_shape_that_the_database_refuses_is_an_invalid_filter(
    real_service: Service, refused: Callable[..., Refusal]
) -> None:
    """Its hole is outside."""
    org = f"shapes{next(real_service.names)}"
    real_service.insert(org, [{"data": {"at": [1, 2]}}])
    rings = [[[0, 0], [5, 0], [5, 5], [0, 0]], [[20, 20], [25, 20], [25, 25], [20, 20]]]
    where = {"at": {"$geoWithin": {"$geometry": {"type": "Polygon", "coordinates": rings}}}}
    refusal = refused(lambda: real_service.client(org).count(filter={"datatype": "contact", "where": where}))
    assert (refusal.code.name, refusal.info.reason) == ("INVALID_ARGUMENT", "INVALID_FILTER")
