"""The reference implementations: the best hand-written pymongo code for each result.

This module imports nothing from the service. It spells out which records count and which path each field has.
"""

import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.database import Database

Document = dict[str, Any]
Contacts = Database[Document]
Counts = list[list[int]]
"""The counts of each dimension, in order."""

_BATCH_SIZE = 10_000
_MAX_IDS = 200_000
"""The most ids in a command: together they take less than 16 MB."""


def in_org(org: str, where: Document) -> Document:
    """The match for the contacts of an org that meet a condition and are not archived."""
    return {"sk": {"$gte": f"{org}/", "$lt": f"{org}0"}, **where, "state": {"$nin": ["archived", "deleted"]}}


def segment(database: Contacts, org: str, segment_id: str) -> Document | None:
    """One segment by its id."""
    scope = {"$gte": f"{org}/", "$lt": f"{org}0"}
    return database["segment"].find_one({"pk": segment_id, "sk": scope, "state": {"$ne": "deleted"}})


def reach(database: Contacts, org: str, where: Document) -> int:
    """The number of contacts that meet a condition. Also reads one of them, as the service does."""
    match = in_org(org, where)
    count = database["contact"].count_documents(match)
    if count:
        database["contact"].find_one(match)
    return count


def reach_outside_list(database: Contacts, org: str, audience_id: str) -> int:
    """The number of contacts that are not on a list. Reads the list and excludes it with $nor."""
    rows = database["audience_member"].find({"audience": audience_id}, {"_id": 0, "sk": 1}, batch_size=50_000)
    # $nor instead of $nin, which took ten times as long on the engine of the measurements.
    return reach(database, org, {"$nor": [{"sk": {"$in": [row["sk"] for row in rows]}}]})


def related_ids(database: Contacts, org: str, visits: Document, min_visits: int) -> list[str]:
    """The ids of contacts with at least this many visits that meet a condition."""
    group: list[Document] = [{"$match": in_org(org, visits)}, {"$group": {"_id": "$data.contactId", "n": {"$sum": 1}}}]
    stages = [*group, {"$match": {"n": {"$gte": min_visits}}}]
    return [row["_id"] for row in database["event"].aggregate(stages, batchSize=50_000, allowDiskUse=True)]


def reach_of_visitors(database: Contacts, org: str, visits: Document, min_visits: int) -> int:
    """The number of contacts with at least this many visits that meet a condition. Also reads one of them."""
    ids = related_ids(database, org, visits, min_visits)
    # A plain $in of tens of thousands of ids took ten times as long as a full scan on the engine of the measurements.
    return reach(database, org, {"$nor": [{"$nor": [{"pk": {"$in": ids}}]}]})


def reach_of_groups(database: Contacts, org: str, events: Document, stages: Sequence[Document]) -> int:
    """The number of contacts whose ids the stages after the match of the events leave. Also reads one of them.

    More ids than a command can have are counted in parts.
    """
    pipeline = [{"$match": in_org(org, events)}, *stages]
    ids = [row["_id"] for row in database["event"].aggregate(pipeline, batchSize=50_000, allowDiskUse=True)]
    parts = (ids[start : start + _MAX_IDS] for start in range(0, len(ids), _MAX_IDS))
    return sum(reach(database, org, {"$nor": [{"$nor": [{"pk": {"$in": part}}]}]}) for part in parts)


def spent_stages(amount: int) -> list[Document]:
    """The stages from events to the ids of contacts whose amounts add up to more."""
    group = {"_id": "$data.contactId", "total": {"$sum": "$data.amount"}}
    return [{"$group": group}, {"$match": {"total": {"$gt": amount}}}, {"$project": {"_id": 1}}]


def last_stages(url: str) -> list[Document]:
    """The stages from events to the ids of contacts whose last event has the URL."""
    top = {"$top": {"sortBy": {"createdate": -1, "sk": -1}, "output": "$data.url"}}
    return [{"$group": {"_id": "$data.contactId", "url": top}}, {"$match": {"url": url}}, {"$project": {"_id": 1}}]


def sequence_stages(first: str, second: str, within: timedelta, *, is_followed: bool, now: datetime) -> list[Document]:
    """The stages from events of two types to the ids of contacts who did the first, and then the second or not.

    All dates of a contact are collected by one group. No two of them are equal.
    """
    milliseconds = within // timedelta(milliseconds=1)

    def dates(kind: str) -> Document:
        return {"$push": {"$cond": [{"$eq": ["$data.type", kind]}, "$createdate", "$$REMOVE"]}}

    is_later = {"$and": [{"$gt": ["$$b", "$$a"]}, {"$lte": ["$$b", {"$add": ["$$a", milliseconds]}]}]}
    followed = {"$anyElementTrue": [{"$map": {"input": "$b", "as": "b", "in": is_later}}]}
    is_over = {"$lt": [{"$add": ["$$a", milliseconds]}, now]}
    decided = followed if is_followed else {"$and": [is_over, {"$not": [followed]}]}
    return [
        {"$group": {"_id": "$data.contactId", "a": dates(first), "b": dates(second)}},
        {"$match": {"$expr": {"$anyElementTrue": [{"$map": {"input": "$a", "as": "a", "in": decided}}]}}},
        {"$project": {"_id": 1}},
    ]


def reach_of_others(database: Contacts, org: str, visits: Document) -> int:
    """The number of contacts without a visit that meets a condition. Also reads one of them."""
    return reach(database, org, {"$nor": [{"pk": {"$in": related_ids(database, org, visits, 1)}}]})


def visitors_raw(database: Contacts, org: str, visits: Document, min_visits: int) -> int:
    """The number of contacts with at least this many visits, from undecoded batches in sk order."""
    ids = related_ids(database, org, visits, min_visits)
    return members_raw(database, org, {"$nor": [{"$nor": [{"pk": {"$in": ids}}]}]})


def overlap_by_counts(database: Contacts, org: str, first: Document, second: Document) -> tuple[int, int, int]:
    """The numbers of contacts that meet both conditions, the first, and the second, by three separate counts."""
    count = database["contact"].count_documents
    both = {"$and": [first, second]}
    return count(in_org(org, both)), count(in_org(org, first)), count(in_org(org, second))


def overlap(database: Contacts, org: str, first: Document, second: Document) -> tuple[int, int, int]:
    """The same numbers by one command that reads every contact once."""
    facets = {
        "both": [{"$match": {"$and": [first, second]}}, {"$count": "n"}],
        "first": [{"$match": first}, {"$count": "n"}],
        "second": [{"$match": second}, {"$count": "n"}],
    }
    [found] = database["contact"].aggregate([{"$match": in_org(org, {"$or": [first, second]})}, {"$facet": facets}])
    both, first_count, second_count = (
        found[name][0]["n"] if found[name] else 0 for name in ("both", "first", "second")
    )
    return both, first_count, second_count


def regions(database: Contacts, org: str, conditions: Sequence[Document]) -> dict[int, int]:
    """The number of contacts by the bit mask of the conditions that they meet, by one command."""
    stages: list[Document] = []
    for index, condition in enumerate(conditions):
        keys = [
            {"$match": in_org(org, condition)},
            {"$project": {"_id": 0, "sk": 1, "bit": {"$literal": 1 << index}}},
        ]
        stages += [{"$unionWith": {"coll": "contact", "pipeline": keys}}] if stages else keys
    by_mask: list[Document] = [
        {"$group": {"_id": "$sk", "mask": {"$sum": "$bit"}}},
        {"$group": {"_id": "$mask", "n": {"$sum": 1}}},
    ]
    rows = database["contact"].aggregate(stages + by_mask, allowDiskUse=True)
    return {row["_id"]: row["n"] for row in rows}


def memberships(
    database: Contacts, org: str, conditions: Sequence[Document], ids: Sequence[str]
) -> dict[str, list[int]]:
    """The numbers of the conditions that each contact meets, by one find per condition."""
    found: dict[str, list[int]] = {name: [] for name in ids}
    for number, condition in enumerate(conditions):
        where = in_org(org, {"pk": {"$in": list(ids)}, **condition})
        for record in database["contact"].find(where, {"_id": 0, "pk": 1}):
            found[record["pk"]].append(number)
    return found


_SNAPSHOT_COLLECTION = "bench_member"
"""The collection of the hand-written rows, with the same indexes as the service's."""


def prepare_snapshot_collection(database: Contacts) -> None:
    """Create the empty collection with its indexes."""
    database.drop_collection(_SNAPSHOT_COLLECTION)
    for info in database["audience_member"].index_information().values():
        options = {name: info[name] for name in ("expireAfterSeconds", "sparse") if name in info}
        if info["key"] != [("_id", 1)]:
            database[_SNAPSHOT_COLLECTION].create_index(info["key"], **options)


def clear_snapshot_collection(database: Contacts) -> None:
    """Delete the rows, as the service deletes its own."""
    database[_SNAPSHOT_COLLECTION].delete_many({})


def drop_snapshot_collection(database: Contacts) -> None:
    """Drop the collection."""
    database.drop_collection(_SNAPSHOT_COLLECTION)


def write_snapshot(database: Contacts, org: str) -> int:
    """Write all contacts of an org as rows of a list, by one command that ends in $merge. Returns their number."""
    audience = f"by-hand-{uuid.uuid4().hex}.1"
    row = {
        "_id": {"$concat": [f"{audience}/", "$sk"]},
        "audience": {"$literal": audience},
        "pk": 1,
        "sk": 1,
        "expire_at": {"$literal": datetime.now(UTC) + timedelta(days=30)},
    }
    merge = {"into": _SNAPSHOT_COLLECTION, "on": "_id", "whenMatched": "fail", "whenNotMatched": "insert"}
    database["contact"].aggregate([{"$match": in_org(org, {})}, {"$project": row}, {"$merge": merge}])
    return database[_SNAPSHOT_COLLECTION].count_documents({"audience": audience})


def diff_snapshots(database: Contacts, org: str, first: str, second: str) -> tuple[int, int]:
    """The numbers of contacts only in the second and only in the first of two lists. Reads their ids in sk order."""
    scope = {"$gte": f"{org}/", "$lt": f"{org}0"}

    def bit_rows(audience: str, bit: int) -> list[Document]:
        keys = {"_id": 0, "pk": 1, "sk": 1, "bit": {"$literal": bit}}
        return [{"$match": {"audience": audience, "sk": scope}}, {"$project": keys}]

    stages: list[Document] = [
        *bit_rows(first, 1),
        {"$unionWith": {"coll": "audience_member", "pipeline": bit_rows(second, 2)}},
        {"$group": {"_id": "$sk", "pk": {"$first": "$pk"}, "bits": {"$sum": "$bit"}}},
        {"$match": {"bits": {"$in": [1, 2]}}},
        {"$sort": {"_id": 1}},
    ]
    rows = database["audience_member"].aggregate(stages, allowDiskUse=True, batchSize=_BATCH_SIZE)
    found = Counter((row["bits"], bool(row["pk"])) for row in rows)
    return found[2, True], found[1, True]


def members_raw(database: Contacts, org: str, where: Document, fields: Sequence[str] = ()) -> int:
    """The number of contacts that meet a condition, from undecoded batches in sk order: ids and some fields.

    This is the fastest read of the driver.
    """
    projection = {"_id": 0, "pk": 1, "sk": 1, **{f"data.{field}": 1 for field in fields}}
    raw: Any = database["contact"].find_raw_batches(
        in_org(org, where), projection, sort=[("sk", 1)], batch_size=_BATCH_SIZE
    )
    return sum(batch.count(b"\x02pk\x00") for batch in raw)  # the element name of pk, once per document


def values(database: Contacts, org: str, where: Document, fields: Sequence[str]) -> int:
    """The number of contacts that meet a condition, read in sk order with some fields as Python values.

    Dates become ISO 8601 text. Missing fields are left out.
    """
    projection = {"_id": 0, "pk": 1, "sk": 1, **{f"data.{field}": 1 for field in fields}}
    cursor = database["contact"].find(in_org(org, where), projection, sort=[("sk", 1)], batch_size=_BATCH_SIZE)
    count = 0
    for record in cursor:
        data = record["data"]
        member = {"id": record["pk"], "fields": {f: _to_json(data[f]) for f in fields if f in data}}
        count += bool(member)
    return count


def _to_json(value: Any) -> Any:
    return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else value


def insights(
    database: Contacts, org: str, conditions: Sequence[Document], now: datetime, max_values: int
) -> list[Counts]:
    """The counts of each dimension's values for each group, by one aggregation per group with a $group per dimension.

    It reads the same field paths as the service, and relies on the types in the samples. Dates are BSON dates, except
    birthdays. Scores are numbers. No value is blank, and only tags are lists.
    """
    paths = ["birthday", "company", "jobTitle", "leadStage", "lastEmailOpenedAt", "lastEmailClickedAt", "createdAt"]
    paths += [
        "country",
        "region",
        "city",
        "address",
        "language",
        "sex",
        "gender",
        "score",
        "leadScore",
        "source",
        "tags",
    ]
    address_fields = {
        name: {"$ifNull": [f"$data.{name}", f"$data.address.{name}"]} for name in ("country", "region", "city")
    }
    plain_fields = ["language", "company", "jobTitle", "leadStage", "source"]
    days = [now + timedelta(seconds=1), *(now - timedelta(days=number) for number in (7, 30, 90, 180, 365))]
    dates = {name: _band(f"$data.{name}", days) for name in ("lastEmailOpenedAt", "lastEmailClickedAt")}
    dates["createdAt"] = _band({"$ifNull": ["$data.createdAt", "$createdate"]}, days)
    day = now.strftime("-%m-%dT")
    age_bands = _band("$data.birthday", [f"{now.year - years}{day}" for years in (0, 18, 25, 35, 45, 55, 65)])
    sex = {"$ifNull": ["$data.sex", "$data.gender"]}
    values = {
        **address_fields,
        "sex": sex,
        **{name: f"$data.{name}" for name in plain_fields},
        **dates,
        "birthday": age_bands,
    }
    one: Document = {"$sum": 1}
    top: list[Document] = [{"$sort": {"n": -1}}, {"$limit": max_values + 1}]
    facets: dict[str, list[Document]] = {
        name: [{"$group": {"_id": value, "n": one}}, *top] for name, value in values.items()
    }
    # There are few scores and few sets of tags, so the work per group is negligible.
    facets["score"] = [{"$group": {"_id": {"$ifNull": ["$data.score", "$data.leadScore"]}, "n": one}}]
    facets["tags"] = [{"$group": {"_id": "$data.tags", "n": one}}]
    project = {"_id": 0, "createdate": 1, **{f"data.{path}": 1 for path in paths}}
    found = []
    for where in conditions:
        stages = [{"$match": in_org(org, where)}, {"$project": project}, {"$facet": facets}]
        [answer] = database["contact"].aggregate(stages, allowDiskUse=True)
        scores: Counter[int] = Counter()
        for row in answer["score"]:
            scores[min(row["_id"] // 20, 4)] += row["n"]
        tags: Counter[str] = Counter()
        for row in answer["tags"]:
            tags.update(dict.fromkeys(row["_id"] or ["(missing)"], row["n"]))
        counts = [sorted(row["n"] for row in answer[name]) for name in values]
        found.append([*(numbers[-max_values:] for numbers in counts), sorted(scores.values()), sorted(tags.values())])
    return found


def _band(value: Any, starts: Sequence[Any]) -> Document:
    branches = [{"case": {"$gte": [value, start]}, "then": number} for number, start in enumerate(starts)]
    missing = {"case": {"$lte": [value, None]}, "then": None}
    return {"$switch": {"branches": [*branches, missing], "default": len(starts)}}
