"""The rows of lists that uploads write: as those of static segments, with the line that put the contact on."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from pymongo import UpdateOne
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from audience_service.domain.caller import Deadline
from audience_service.domain.filters.filter import Document
from audience_service.domain.uploads.ports import Contact, ListedRow
from audience_service.mongo.collections import LISTS
from audience_service.mongo.failures import limited, unless_duplicates
from audience_service.mongo.scope import scoped

_AT_ONCE = 5_000
_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)

Item = TypeVar("Item")


class MongoListRows:
    """The ListRowRepository on MongoDB; domain/uploads/ports.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._collection = database[LISTS]

    def add(self, org: str, rows_id: str, rows: Sequence[ListedRow], deadline: Deadline) -> Collection[str]:
        """Looked for first and inserted then: an insert that is refused costs many times what one that succeeds does.

        Others may insert in between, as a stream that was overtaken does; then it is looked once more.
        """
        lines = self._lines(org, rows_id, [row.contact.sk for row in rows], deadline)
        documents = [
            {
                "_id": f"{rows_id}/{row.contact.sk}",
                "audience": rows_id,
                "pk": row.contact.pk,
                "sk": row.contact.sk,
                "line": row.line,
            }
            for row in rows
            if row.contact.sk not in lines
        ]
        try:
            if documents:
                with limited(self._database, deadline):
                    self._collection.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            unless_duplicates(error)
            lines = self._lines(org, rows_id, [row.contact.sk for row in rows], deadline)
        return {row.contact.sk for row in rows if lines.get(row.contact.sk, row.line) != row.line}

    def known(self, org: str, rows_id: str, keys: Sequence[str], deadline: Deadline) -> Collection[str]:
        """By key."""
        return self._lines(org, rows_id, keys, deadline).keys()

    def put(
        self,
        org: str,  # noqa: ARG002 - each sk holds it
        rows_id: str,
        contacts: Sequence[Contact],
        since: datetime,
        deadline: Deadline,
    ) -> None:
        """By key."""
        for chunk in _chunks(contacts):
            writes = [
                UpdateOne(
                    {"_id": f"{rows_id}/{contact.sk}"},
                    {
                        "$max": {"since": since},
                        "$setOnInsert": {"audience": rows_id, "pk": contact.pk, "sk": contact.sk},
                    },
                    upsert=True,
                )
                for contact in chunk
            ]
            with limited(self._database, deadline):
                self._collection.bulk_write(writes, ordered=False)

    def cut(self, org: str, rows_id: str, after: int, deadline: Deadline) -> None:
        """Among the rows of the list."""
        with limited(self._database, deadline):
            self._collection.delete_many(scoped(org, {"audience": rows_id, "line": {"$gt": after}}))

    def count(self, org: str, rows_id: str, deadline: Deadline) -> int:
        """By the index on the list."""
        with limited(self._database, deadline):
            return self._collection.count_documents(scoped(org, {"audience": rows_id}))

    def combine(
        self, org: str, into: str, on: Mapping[str, datetime], off: Mapping[str, datetime], deadline: Deadline
    ) -> None:
        """By pipelines that end in $merge: no row leaves the database.

        Where none is taken off, list by list, which takes two thirds of the time of grouping them.
        """
        since: Any = "$since"
        for name, moment in (*on.items(), *off.items()):
            since = {"$cond": [{"$eq": ["$audience", name]}, {"$ifNull": ["$since", moment]}, since]}
        if not off:
            for name in on:
                own: list[Document] = [{"$match": scoped(org, {"audience": name})}]
                self._merge(into, [*own, {"$project": {"pk": 1, "sk": 1, "since": since}}], deadline)
            return
        is_on = {"$in": ["$audience", list(on)]}
        stages: list[Document] = [
            {"$match": scoped(org, {"audience": {"$in": [*on, *off]}})},
            {"$project": {
                "pk": 1,
                "sk": 1,
                "on": {"$cond": [is_on, since, _LONG_AGO]},
                "off": {"$cond": [is_on, _LONG_AGO, since]},
            }},
            {"$group": {"_id": "$sk", "pk": {"$first": "$pk"}, "on": {"$max": "$on"}, "off": {"$max": "$off"}}},
            {"$match": {"$expr": {"$gt": ["$on", "$off"]}}},
            {"$project": {"_id": 0, "pk": 1, "sk": "$_id", "since": "$on"}},
        ]  # fmt: skip
        self._merge(into, stages, deadline)

    def _merge(self, into: str, stages: Sequence[Document], deadline: Deadline) -> None:
        """Write what pipelines find, as pk, sk and since, onto a list; those who are on it already stay as they are."""
        row = {
            "_id": {"$concat": [{"$literal": f"{into}/"}, "$sk"]},
            "audience": {"$literal": into},
            "pk": 1,
            "sk": 1,
            "since": 1,
        }
        merge = {"into": LISTS, "on": "_id", "whenMatched": "keepExisting", "whenNotMatched": "insert"}
        with limited(self._database, deadline):
            self._collection.aggregate([*stages, {"$project": row}, {"$merge": merge}], allowDiskUse=True)

    def _lines(self, org: str, rows_id: str, keys: Sequence[str], deadline: Deadline) -> Mapping[str, int]:
        """The lines that have put these contacts on, where they are on; 0 of those that no line has."""
        found: dict[str, int] = {}
        for chunk in _chunks(keys):
            match = scoped(org, {"_id": {"$in": [f"{rows_id}/{sk}" for sk in chunk]}})
            with limited(self._database, deadline):
                rows = self._collection.find(match, {"_id": 0, "sk": 1, "line": 1}, batch_size=_AT_ONCE)
                found.update((row["sk"], row.get("line", 0)) for row in rows)
        return found


def _chunks(items: Sequence[Item]) -> Sequence[Sequence[Item]]:
    return [items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE)]
