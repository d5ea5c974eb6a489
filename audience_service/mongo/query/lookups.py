"""Lookups in other collections by the values at a path of a record."""

from collections.abc import Sequence
from typing import Any

from pymongo import ReadPreference
from pymongo.collection import Collection
from pymongo.database import Database

from audience_service.domain.filters.filter import Document
from audience_service.mongo.core.collections import LISTS
from audience_service.mongo.core.scope import TenantScope

Stages = list[Document]


def source(database: Database[dict[str, Any]], collection: str, *, reads_lists: bool) -> Collection[dict[str, Any]]:
    """Return a collection to run stages on: on the primary if they read rows of lists, whatever the URI says.

    A secondary may lack rows of a list that has just been published, so that its audience would look too small.
    """
    found = database[collection]
    return found.with_options(read_preference=ReadPreference.PRIMARY) if reads_lists else found


LISTS_FIELD = "__lists"
"""The field with the lists that contain a record."""

_NO_MATCH = [{"__no_match": True}]


def lookup_stages(name: str, values: Document | str, lookup: Document) -> Stages:
    """Return a $lookup by a list of values, which the stages compute into the field `name` and remove afterwards.

    $lookup treats a missing value as null, which matches records without the foreign field. `values` must therefore be
    a list without nulls. An empty list matches no record, but some engines read all records without the foreign field
    for it, for each such record. The stages replace it by a value that occurs in no record.
    """
    is_empty = {"$eq": [f"${name}", _NO_MATCH]}
    return [
        {"$set": {name: values}},
        {"$set": {name: {"$cond": [{"$eq": [f"${name}", []]}, _NO_MATCH, f"${name}"]}}},
        {"$lookup": lookup},
        {"$set": {lookup["as"]: {"$cond": [is_empty, [], f"${lookup['as']}"]}}},
        {"$unset": name},
    ]


def lists_lookup(scope: TenantScope, org: str, audience_ids: Sequence[str]) -> Document:
    """Return the stage that joins a record with all of these lists that contain it."""
    match = scope.match(org, {"audience": {"$in": list(audience_ids)}})
    stages: Stages = [{"$match": match}, {"$project": {"_id": 0, "audience": 1}}]
    return {"$lookup": {"from": LISTS, "localField": "sk", "foreignField": "sk", "pipeline": stages, "as": LISTS_FIELD}}


def values_at(path: str) -> Document:
    """Return the values at a path as a flat list without nulls, as conditions on the path find them.

    A list at the path yields its elements, and a list of objects on the way yields the values of each object. A list
    inside a list is not a value. A number in the path names a field, not an index of a list.
    """
    head, *steps = _steps(path)
    values = _as_list(head)
    for step in steps:
        inner = {"$cond": [{"$eq": [{"$type": "$$this"}, "object"]}, _as_list(f"$$this.{step}"), []]}
        values = {"$reduce": {"input": values, "initialValue": [], "in": {"$concatArrays": ["$$value", inner]}}}
    is_value = {"$and": [{"$gt": ["$$this", None]}, {"$not": [{"$isArray": "$$this"}]}]}
    return {"$filter": {"input": values, "cond": is_value}}


def _steps(path: str) -> list[str]:
    """Return the steps of a path. The payload `data` is always an object, so it needs no step of its own."""
    if not path.startswith("$data."):
        return path.split(".")
    first, *steps = path.removeprefix("$data.").split(".")
    return [f"$data.{first}", *steps]


def _as_list(value: str) -> Document:
    return {"$cond": [{"$isArray": value}, value, [value]]}
