"""What a sample shows of fields, and what a collection's schema adds."""

from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Binary, DatetimeMS, Decimal128, Int64, ObjectId

from audience_service.domain.filters.field_profile import FieldProfile
from audience_service.domain.filters.operators import OPERATORS, TEXT_OPERATORS
from audience_service.domain.schema.field_stats import MAX_DEPTH, collect, type_name
from audience_service.domain.schema.json_schema import schema_profiles
from audience_service.domain.schema.service import operators_for
from tests.support.odd_values import ODD_VALUES


def profiles(*data: dict[str, Any]) -> dict[str, FieldProfile]:
    return dict(collect([{"pk": f"contact-{n}", "data": one} for n, one in enumerate(data)]).profiles)


def test_types_are_bson_types() -> None:
    values: list[Any] = [
        None,
        True,
        1,
        2**40,
        Int64(1),
        1.5,
        "x",
        datetime.now(UTC),
        DatetimeMS(2**60),
        {},
        [],
        ObjectId(),
    ]
    names = ["null", "bool", "int", "long", "long", "double", "string", "date", "date", "object", "array", "objectId"]
    assert [type_name(value) for value in [*values, Decimal128("1"), Binary(b"x")]] == [*names, "decimal", "binData"]


def test_shares_are_of_records() -> None:
    found = profiles({"a": 1, "t": ["x", "y", 3]}, {"a": "1"}, {"a": None, "t": []}, {})
    assert found["data.a"] == FieldProfile(
        "data.a",
        {"int": 0.25, "string": 0.25, "null": 0.25},
        0.5,
        number_texts=0.25,
        other_texts=0.25,
        empty_values=0.25,
    )
    assert found["data.t"].types == {"array": 0.5, "string": 0.25, "int": 0.25}
    assert found["data.t"].fill_rate == 0.25


def test_objects_and_lists_of_them_give_paths_into_them() -> None:
    found = profiles({"address": {"city": "Lyon"}}, {"address": [{"city": "Nice"}, {"city": "Metz", "geo": {"x": 1}}]})
    assert found["data.address"].types == {"object": 1.0, "array": 0.5}
    assert found["data.address.city"].types == {"string": 1.0}
    assert found["data.address.geo.x"].fill_rate == 0.5


def test_paths_that_a_filter_can_name_are_fields() -> None:
    record = {
        "_id": 1,
        "pk": "p",
        "subschema": "x",
        "owner": {"id": "ann"},
        "data": {"a.b": 1, "$c": 2, "": 3, "ok": 4},
    }
    assert set(collect([record]).profiles) == {"pk", "owner", "owner.id", "data.ok", "data.$c", 'data["a.b"]'}
    assert set(collect([{"data": "no object", "version": 1}]).profiles) == {"version"}


def test_paths_beyond_the_depth_limit_are_counted() -> None:
    value: dict[str, Any] = {"leaf": 1}
    for _ in range(MAX_DEPTH):
        value = {"n": value}
    found = collect([{"data": value}] * 2)
    assert max(path.count(".") + 1 for path in found.profiles) == MAX_DEPTH
    assert found.too_deep_count == 1


def test_repeated_values_are_listed_by_frequency() -> None:
    people = [{"country": "US", "score": n, "vip": n > 2} for n in range(5)] + [{"country": "FR"}, {"country": "FR"}]
    found = profiles(*people)
    assert found["data.country"].top_values == (("US", 5 / 7), ("FR", 2 / 7))
    assert found["data.score"].top_values == ()
    assert found["data.vip"].top_values == ()  # unknown to be harmless, and on fewer than 5 records each
    assert profiles(*[{"vip": True, "one": 1}] * 5)["data.vip"].top_values == ((True, 1.0),)
    assert profiles(*[{"tags": ["a", "b", "a"]}, {"tags": ["a"]}, {"tags": ["a", "b"]}, {"tags": ["a"]}])[
        "data.tags"
    ].top_values == (("a", 1.0), ("b", 0.5))


def test_personal_values_dates_and_long_texts_are_not_shown() -> None:
    person = {
        "firstName": "Ann",
        "email": "a@x.org",
        "zip": "1",
        "company": {"owner": {"phone": "+49"}},
        "address": [{"street1": "Main St"}],
        "createdAt": datetime(2026, 1, 1, tzinfo=UTC),
        "title": "2026-01-01",
        "source": "x" * 101,
        "custom": "y" * 101,
    }
    found = collect([{"pk": "same", "sk": "same", "name": "Ann", "data": person}] * 10).profiles
    assert {path for path, profile in found.items() if profile.top_values} == set()
    assert found["data.title"].date_texts == 1.0


def test_operators_fit_the_types() -> None:
    def fitting(**types: float) -> set[str]:
        return set(operators_for(FieldProfile("x", types, 1.0)))

    every = {"$eq", "$ne", "$in", "$nin", "$exists", "$type"}
    order = {"$gt", "$gte", "$lt", "$lte"}
    dates = {*order, "$onDay", "$anniversary"}
    assert fitting(bool=1) == fitting() == every
    assert fitting(object=1) == {*every, "$geoWithin"}
    assert fitting(string=1) == {*every, "$regex", *TEXT_OPERATORS, "$nearCity"}
    assert fitting(date=1, null=0.5) == every | dates
    assert fitting(double=1) == {*every, *order, "$mod"}
    assert fitting(int=1) > fitting(double=1)
    assert fitting(array=1, string=1) == {
        *every,
        "$regex",
        *TEXT_OPERATORS,
        "$nearCity",
        "$geoWithin",
        "$all",
        "$size",
        "$elemMatch",
    }
    assert set(operators_for(FieldProfile("x", {"string": 1}, 1.0, (), 0.2))) == {
        *every,
        "$regex",
        *TEXT_OPERATORS,
        "$nearCity",
        *dates,
    }


def test_every_operator_fits_some_type() -> None:
    types = dict.fromkeys(("string", "date", "double", "int", "binData", "array"), 1.0)
    assert set(operators_for(FieldProfile("x", types, 1.0))) == {*OPERATORS, "$elemMatch"}


def test_a_schema_states_fields_with_types_and_enums() -> None:
    schema = {
        "bsonType": "object",
        "properties": {
            "state": {"enum": ["active", "archived"]},
            "subschema": {"bsonType": "string"},
            "data": {
                "bsonType": "object",
                "properties": {
                    "leadStage": {"bsonType": ["string", "null"], "enum": ["new", "lead", None]},
                    "vip": {"type": "boolean"},
                    "tags": {"bsonType": "array", "items": {"bsonType": "string", "enum": ["a"]}},
                    "address": {"bsonType": "array", "items": {"properties": {"city": {"bsonType": "string"}}}},
                    "broken": 5,
                },
                "anyOf": [{"properties": {"email": {"bsonType": "string"}}}, {"required": ["phone"]}],
            },
        },
    }
    found = schema_profiles(schema)
    assert found["data.leadStage"] == FieldProfile(
        "data.leadStage", {"string": 0, "null": 0}, 0.0, (("new", 0), ("lead", 0))
    )
    assert found["data.vip"].types == {"bool": 0}
    assert found["data.tags"] == FieldProfile("data.tags", {"array": 0, "string": 0}, 0.0, (("a", 0),))
    assert set(found) == {
        "state", "data.leadStage", "data.vip", "data.tags", "data.address", "data.address.city", "data.email",
    }  # fmt: skip
    assert schema_profiles({}) == {}


@pytest.mark.parametrize("name", ODD_VALUES)
def test_every_value_has_a_type(name: str) -> None:
    """A field that holds nothing but this value has a profile; a Code is no text, although it is a str."""
    profiles = collect([{"data": {"odd": ODD_VALUES[name]}}]).profiles
    assert "unknown" not in profiles["data.odd"].types
    assert ("string" in profiles["data.odd"].types) == (name == "nul_in_text")
