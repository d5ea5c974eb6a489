"""Lookups of records in other collections by the values that a record has at a path."""

from typing import Any

from audience_service.domain.filters.filter import Document

Stages = list[Document]

_NOWHERE = [{"__nowhere": True}]


def looked_up_by(name: str, values: Document, lookup: Document) -> Stages:
    """A $lookup whose local field is a list of values, computed into the field `name` and removed again.

    $lookup takes a missing value for null, and finds records without the foreign field by it; the record's values are
    therefore put into a list without nulls first. By an empty one nothing is found, but some engines read all of those
    records for it, and again for each record that has no values: in its place stands a value that is nowhere.
    """
    nobody = {"$eq": [f"${name}", _NOWHERE]}
    return [
        {"$set": {name: values}},
        {"$set": {name: {"$cond": [{"$eq": [f"${name}", []]}, _NOWHERE, f"${name}"]}}},
        {"$lookup": lookup},
        {"$set": {lookup["as"]: {"$cond": [nobody, [], f"${lookup['as']}"]}}},
        {"$unset": name},
    ]


def values_at(path: str) -> Document:
    """The values at a path as a flat list without nulls: of a path through a list of objects, those of each."""

    def listed(value: str) -> Document:
        return {"$cond": [{"$isArray": value}, value, [value]]}

    flat = {
        "$reduce": {
            "input": listed(path),
            "initialValue": [],
            "in": {"$concatArrays": ["$$value", listed("$$this")]},
        }
    }
    return {"$filter": {"input": flat, "cond": {"$gt": ["$$this", None]}}}


def texts_of(values: Any) -> Document:
    """Those of a list's values that are text."""
    return {"$filter": {"input": values, "cond": {"$eq": [{"$type": "$$this"}, "string"]}}}
