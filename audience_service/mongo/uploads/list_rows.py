"""Rows of uploaded lists: those of static segments, with the line of the file that added the contact."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from pymongo import UpdateOne
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters.filter import Document
from audience_service.domain.uploads.repository import Contact, ListedRow
from audience_service.mongo.core.collections import LISTS
from audience_service.mongo.core.errors import raise_unless_duplicate, with_deadline
from audience_service.mongo.core.scope import TenantScope

_CHUNK_SIZE = 5_000
_EARLIEST = datetime(1, 1, 1, tzinfo=UTC)

Item = TypeVar("Item")


class MongoListRows:
    """The ListRowRepository on MongoDB; domain/uploads/repository.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope
        self._collection = database[LISTS]

    def add(self, org: str, list_version_id: str, rows: Sequence[ListedRow], deadline: Deadline) -> Collection[str]:
        """Read first, then insert the missing rows: a refused insert costs many times as much as a successful one.

        A concurrent stream, such as one that lost the upload, may insert in between. Then the rows are read again.
        """
        lines = self._lines(org, list_version_id, [row.contact.sk for row in rows], deadline)
        documents = [
            {
                "_id": f"{list_version_id}/{row.contact.sk}",
                "audience": list_version_id,
                "pk": row.contact.pk,
                "sk": row.contact.sk,
                "line": row.line,
            }
            for row in rows
            if row.contact.sk not in lines
        ]
        try:
            if documents:
                with with_deadline(self._database, deadline):
                    self._collection.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            raise_unless_duplicate(error)
            lines = self._lines(org, list_version_id, [row.contact.sk for row in rows], deadline)
        return {row.contact.sk for row in rows if lines.get(row.contact.sk, row.line) != row.line}

    def filter_existing(
        self, org: str, list_version_id: str, keys: Sequence[str], deadline: Deadline
    ) -> Collection[str]:
        """Find the rows by key."""
        return self._lines(org, list_version_id, keys, deadline).keys()

    def upsert(
        self,
        org: str,  # noqa: ARG002 - each sk contains it
        list_version_id: str,
        contacts: Sequence[Contact],
        as_of: datetime,
        deadline: Deadline,
    ) -> None:
        """Upsert the rows by key."""
        for chunk in _chunks(contacts):
            writes = [
                UpdateOne(
                    {"_id": f"{list_version_id}/{contact.sk}"},
                    {
                        "$max": {"since": as_of},
                        "$setOnInsert": {"audience": list_version_id, "pk": contact.pk, "sk": contact.sk},
                    },
                    upsert=True,
                )
                for contact in chunk
            ]
            with with_deadline(self._database, deadline):
                self._collection.bulk_write(writes, ordered=False)

    def truncate_after(self, org: str, list_version_id: str, after: int, deadline: Deadline) -> None:
        """Delete the rows of the list after a line."""
        with with_deadline(self._database, deadline):
            self._collection.delete_many(self._scope.match(org, {"audience": list_version_id, "line": {"$gt": after}}))

    def count(self, org: str, list_version_id: str, deadline: Deadline) -> int:
        """Count by the index on the list."""
        with with_deadline(self._database, deadline):
            return self._collection.count_documents(self._scope.match(org, {"audience": list_version_id}))

    def merge(
        self,
        org: str,
        target_id: str,
        included: Mapping[str, datetime],
        excluded: Mapping[str, datetime],
        deadline: Deadline,
    ) -> None:
        """Run pipelines that end in $merge, so that no row leaves the database.

        Without exclusions, merge list by list, which takes two thirds of the time of grouping.
        """
        since: Any = "$since"
        for name, published_at in (*included.items(), *excluded.items()):
            since = {"$cond": [{"$eq": ["$audience", name]}, {"$ifNull": ["$since", published_at]}, since]}
        if not excluded:
            for name in included:
                own: list[Document] = [{"$match": self._scope.match(org, {"audience": name})}]
                self._merge_into_list(target_id, [*own, {"$project": {"pk": 1, "sk": 1, "since": since}}], deadline)
            return
        is_on = {"$in": ["$audience", list(included)]}
        stages: list[Document] = [
            {"$match": self._scope.match(org, {"audience": {"$in": [*included, *excluded]}})},
            {"$project": {
                "pk": 1,
                "sk": 1,
                "on": {"$cond": [is_on, since, _EARLIEST]},
                "off": {"$cond": [is_on, _EARLIEST, since]},
            }},
            {"$group": {"_id": "$sk", "pk": {"$first": "$pk"}, "on": {"$max": "$on"}, "off": {"$max": "$off"}}},
            {"$match": {"$expr": {"$gt": ["$on", "$off"]}}},
            {"$project": {"_id": 0, "pk": 1, "sk": "$_id", "since": "$on"}},
        ]  # fmt: skip
        self._merge_into_list(target_id, stages, deadline)

    def _merge_into_list(self, into: str, stages: Sequence[Document], deadline: Deadline) -> None:
        """Merge the stages' rows (pk, sk, since) into a list. Existing rows do not change."""
        row = {
            "_id": {"$concat": [{"$literal": f"{into}/"}, "$sk"]},
            "audience": {"$literal": into},
            "pk": 1,
            "sk": 1,
            "since": 1,
        }
        merge = {"into": LISTS, "on": "_id", "whenMatched": "keepExisting", "whenNotMatched": "insert"}
        with with_deadline(self._database, deadline):
            self._collection.aggregate([*stages, {"$project": row}, {"$merge": merge}], allowDiskUse=True)

    def _lines(self, org: str, list_version_id: str, keys: Sequence[str], deadline: Deadline) -> Mapping[str, int]:
        """Return the line of each of these contacts that is on the list, or 0 if its row has no line."""
        found: dict[str, int] = {}
        for chunk in _chunks(keys):
            match = self._scope.match(org, {"_id": {"$in": [f"{list_version_id}/{sk}" for sk in chunk]}})
            with with_deadline(self._database, deadline):
                rows = self._collection.find(match, {"_id": 0, "sk": 1, "line": 1}, batch_size=_CHUNK_SIZE)
                found.update((row["sk"], row.get("line", 0)) for row in rows)
        return found


def _chunks(items: Sequence[Item]) -> Sequence[Sequence[Item]]:
    return [items[start : start + _CHUNK_SIZE] for start in range(0, len(items), _CHUNK_SIZE)]
