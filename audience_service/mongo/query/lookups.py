"""Lookups of records in other collections by the values that a record has at a path."""

from typing import Any

from audience_service.domain.filters.filter import Document

Stages = list[Document]

_NO_MATCH = [{"__no_match": True}]


def lookup_stages(name: str, values: Document, lookup: Document) -> Stages:
    """A $lookup whose local field is a list of values, computed into the field `name` and removed again.

    $lookup takes a missing value for null, and finds records without the foreign field by it; the record's values are
    therefore put into a list without nulls first. By an empty one nothing is found, but some engines read all of those
    records for it, and again for each record that has no values: in its place stands a value that is nowhere.
    """
    is_empty = {"$eq": [f"${name}", _NO_MATCH]}
    return [
        {"$set": {name: values}},
        {"$set": {name: {"$cond": [{"$eq": [f"${name}", []]}, _NO_MATCH, f"${name}"]}}},
        {"$lookup": lookup},
        {"$set": {lookup["as"]: {"$cond": [is_empty, [], f"${lookup['as']}"]}}},
        {"$unset": name},
    ]


def values_at(path: str) -> Document:
    """The values at a path as a flat list without nulls, as conditions on the path find them.

    The elements of a list that stands there, and through a list of objects those of each. A list inside a list is no
    value, and a number in the path names a field, not a place in a list.
    """
    head, *steps = _steps(path)
    values = _as_list(head)
    for step in steps:
        inner = {"$cond": [{"$eq": [{"$type": "$$this"}, "object"]}, _as_list(f"$$this.{step}"), []]}
        values = {"$reduce": {"input": values, "initialValue": [], "in": {"$concatArrays": ["$$value", inner]}}}
    is_value = {"$and": [{"$gt": ["$$this", None]}, {"$not": [{"$isArray": "$$this"}]}]}
    return {"$filter": {"input": values, "cond": is_value}}


def _steps(path: str) -> list[str]:
    """The payload is an object: what is looked at first lies in it."""
    if not path.startswith("$data."):
        return path.split(".")
    first, *steps = path.removeprefix("$data.").split(".")
    return [f"$data.{first}", *steps]


def _as_list(value: str) -> Document:
    return {"$cond": [{"$isArray": value}, value, [value]]}


def text_values(values: Any) -> Document:
    """Those of a list's values that are text."""
    return {"$filter": {"input": values, "cond": {"$eq": [{"$type": "$$this"}, "string"]}}}
