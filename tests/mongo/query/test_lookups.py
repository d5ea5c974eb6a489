"""Lookups by the values of a record: which records they find, also for a record without values."""

import pytest

from audience_service.mongo.query.lookups import lookup_stages, values_at
from tests.conftest import Service

ORDERS = {"from": "order", "localField": "values", "foreignField": "data.buyer", "pipeline": [], "as": "found"}


@pytest.mark.parametrize("absent", [{}, {"a": None}, {"a": []}, {"a": [None, [None]]}])
def test_a_record_without_values_is_looked_up_by_a_value_that_matches_none(
    real_service: Service, absent: dict[str, object]
) -> None:
    """With an empty list an engine may read all records that lack the foreign field, once for each record."""
    org = f"lookups{next(real_service.names)}"
    none, some = real_service.insert(org, [{"data": absent}, {"data": {"a": ["x", None, ["y"], org]}}])
    [bought] = real_service.insert(org, [{"data": {"buyer": org}}, {}, {"data": {"buyer": []}}], "order")[:1]
    stages = lookup_stages("values", values_at("$data.a"), ORDERS)
    before = next(number for number, stage in enumerate(stages) if "$lookup" in stage)
    contacts, match = real_service.store.database["contact"], {"$match": {"sk": {"$regex": f"^{org}/"}}}
    by = {row["pk"]: row["values"] for row in contacts.aggregate([match, *stages[:before]])}
    assert by[some] == ["x", org]
    assert by[none]
    assert None not in by[none]
    found = {row["pk"]: [order["pk"] for order in row["found"]] for row in contacts.aggregate([match, *stages])}
    assert found == {none: [], some: [bought]}


@pytest.mark.parametrize(
    ("path", "data", "values"),
    [
        ("a", {"a": "x"}, ["x"]),
        ("a", {"a": ["x", 1, "x"]}, ["x", 1, "x"]),
        ("a", {"a": [["x"], "y"]}, ["y"]),
        ("a.b", {"a": {"b": "x"}}, ["x"]),
        ("a.b", {"a": [{"b": "x"}, {"b": ["y", ["z"]]}, {}, "b", [{"b": "w"}]]}, ["x", "y"]),
        ("a.b.c", {"a": [{"b": [{"c": ["x", "y"]}, {"c": "z"}]}, {"b": {"c": "w"}}]}, ["x", "y", "z", "w"]),
        ("a.b", {"a": "x"}, []),
    ],
)
def test_the_values_at_a_path_are_those_that_conditions_on_it_find(
    real_service: Service, path: str, data: dict[str, object], values: list[object]
) -> None:
    [made] = real_service.insert(f"values{next(real_service.names)}", [{"data": data}])
    contacts, match = real_service.store.database["contact"], {"$match": {"pk": made}}
    [row] = contacts.aggregate([match, {"$project": {"values": values_at(f"$data.{path}")}}])
    assert row["values"] == values
    assert all(contacts.count_documents({"pk": made, f"data.{path}": value}) for value in values)
