"""Member lists of static segments, one document for each record on a list."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import ContactNotFound, Violation
from audience_service.domain.filters.compiler import NOT_ARCHIVED_MATCH
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.population import Population
from audience_service.mongo.core.collections import LISTS
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.query.joins import list_sizes
from audience_service.mongo.query.pipeline import build_pipeline, run

CHUNK_SIZE = 5_000
"""Ids per command. This is far below MongoDB's limits of 100,000 writes and 16 MB."""

_MAX_VIOLATIONS = 20
_DELETE_TIMEOUT_SECONDS = 30.0

Item = TypeVar("Item")


class MongoLists:
    """The ListRepository on MongoDB; the protocol states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope
        self._collection: Collection[dict[str, Any]] = database[LISTS]

    def add(self, org: str, member_list: MemberList, ids: Sequence[str], deadline: Deadline) -> int:
        """Insert the missing rows. `_id` consists of list and record, so a list contains each record once."""
        found = self._find_keys(org, member_list.datatype, ids, deadline)
        rows = [{"audience": member_list.list_id, "pk": pk, "sk": sk} for pk, sk in found.items()]
        added = 0
        for chunk in _chunks(rows):
            inserts = [UpdateOne({"_id": _row_id(row)}, {"$setOnInsert": row}, upsert=True) for row in chunk]
            with with_deadline(self._database, deadline):
                added += self._collection.bulk_write(inserts, ordered=False).upserted_count
        return added

    def check(self, org: str, datatype: str, ids: Sequence[str], deadline: Deadline) -> None:
        """Raise ContactNotFound in the same cases as `add`."""
        self._find_keys(org, datatype, ids, deadline)

    def remove(self, org: str, member_list: MemberList, ids: Sequence[str], deadline: Deadline) -> int:
        """Delete the rows by id."""
        removed = 0
        for chunk in _chunks(ids):
            with with_deadline(self._database, deadline):
                match = self._scope.match(org, {"audience": member_list.list_id, "pk": {"$in": list(chunk)}})
                removed += self._collection.delete_many(match).deleted_count
        return removed

    def add_members(self, org: str, member_list: MemberList, population: Population, deadline: Deadline) -> None:
        """Run one pipeline that ends in $merge, so that no record leaves the database."""
        pipeline = build_pipeline(self._database, self._scope, org, population, deadline)
        row = {
            "_id": {"$concat": [{"$literal": f"{member_list.list_id}/"}, "$sk"]},
            "audience": {"$literal": member_list.list_id},
            "pk": 1,
            "sk": 1,
        }
        merge = {"into": LISTS, "on": "_id", "whenMatched": "keepExisting", "whenNotMatched": "insert"}
        with run(self._database, pipeline, deadline) as collection:
            collection.aggregate([*pipeline.stages(), {"$project": row}, {"$merge": merge}])

    def clear(self, org: str, member_list: MemberList) -> None:
        """Delete all rows."""
        with with_deadline(self._database, Deadline.after(_DELETE_TIMEOUT_SECONDS)):
            self._collection.delete_many(self._scope.match(org, {"audience": member_list.list_id}))

    def sizes(self, org: str, audience_ids: Sequence[str], deadline: Deadline) -> Mapping[str, int]:
        """Count the rows of all lists in one query."""
        return list_sizes(self._database, self._scope, org, audience_ids, deadline)

    def page(
        self, org: str, member_list: MemberList, size: int, after: str, deadline: Deadline
    ) -> Sequence[tuple[str, str]]:
        """Read the rows after a key."""
        match = self._scope.match(org, {"audience": member_list.list_id}, {"sk": {"$gt": after}})
        with with_deadline(self._database, deadline):
            rows = self._collection.find(match, {"_id": 0, "pk": 1, "sk": 1}, sort=[("sk", 1)], limit=size)
            return [(row["pk"], row["sk"]) for row in rows]

    def _find_keys(self, org: str, datatype: str, ids: Sequence[str], deadline: Deadline) -> dict[str, str]:
        """Return the sk of each id. Raises ContactNotFound unless every id names a record that is not archived."""
        found: dict[str, str] = {}
        for chunk in _chunks(list(dict.fromkeys(ids))):
            with with_deadline(self._database, deadline):
                records = self._database[datatype].find(
                    self._scope.match(org, {"pk": {"$in": list(chunk)}}, NOT_ARCHIVED_MATCH),
                    {"_id": 0, "pk": 1, "sk": 1},
                )
                found.update((record["pk"], record["sk"]) for record in records)
        absent = [index for index, contact_id in enumerate(ids) if contact_id not in found]
        if absent:
            raise ContactNotFound(
                f"{len(absent):,} of the ids name no {datatype} of the org, or one that is archived or deleted",
                violations=tuple(
                    Violation(
                        f"contact_ids[{index}]", f"names no {datatype} of the org, or one that is archived or deleted"
                    )
                    for index in absent[:_MAX_VIOLATIONS]
                ),
                metadata={"count": str(len(absent))},
            )
        return found


def _row_id(row: Mapping[str, str]) -> str:
    return f"{row['audience']}/{row['sk']}"


def _chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), CHUNK_SIZE):
        yield items[start : start + CHUNK_SIZE]
