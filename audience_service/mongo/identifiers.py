"""The index of identifiers: for each record and each way of normalising an identifier, the key that uploads ask for.

MongoDB can compute neither E.164 nor SHA-256, so keys are made here, and kept. Whether they are of the record as it is
now is told by a hash of what they were made of, which the database computes: nothing else of the record is kept, and no
date in it is trusted.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from bson import Binary
from pymongo import ReplaceOne
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from audience_service.domain.caller import Deadline
from audience_service.domain.clock import now
from audience_service.domain.filters.compile import LIVING
from audience_service.domain.filters.filter import Document
from audience_service.domain.identifiers.keys import KeyRule
from audience_service.domain.uploads.ports import Contact
from audience_service.mongo.collections import IDENTIFIERS
from audience_service.mongo.failures import limited, unless_duplicates
from audience_service.mongo.scope import scoped

KEPT_FOR = timedelta(days=30)
"""How long a key is kept, used or not: also how long one of a record that is gone is, where nobody asks meanwhile."""

_RENEWED_BEFORE = timedelta(days=1)
"""Keys that go within this time are renewed, so that none goes under an upload."""

_AT_ONCE = 5_000

Record = dict[str, Any]


class MongoIdentifiers:
    """The IdentifierRepository on MongoDB; domain/uploads/ports.py states what each method promises."""

    def __init__(self, database: Database[Record]) -> None:
        self._database = database
        self._collection = database[IDENTIFIERS]

    def update(self, org: str, datatype: str, rule: KeyRule, deadline: Deadline) -> None:
        """The first time all records are read, in the order of sk; then those alone that the database names."""
        name = f"{datatype}.{rule.name}"
        with limited(self._database, deadline):
            is_new = self._collection.find_one(scoped(org, {"rule": name}), {"_id": 1}) is None
        if is_new:
            self._build(org, datatype, rule, deadline)
            return
        gone: list[str] = []
        changed: list[str] = []
        for sk, is_there in self._differing(org, datatype, rule, deadline):
            (changed if is_there else gone).append(sk)
            if len(changed) >= _AT_ONCE:
                self._renew(org, datatype, rule, changed, deadline)
                changed = []
            if len(gone) >= _AT_ONCE:
                self._forget(org, name, gone, deadline)
                gone = []
        self._renew(org, datatype, rule, changed, deadline)
        self._forget(org, name, gone, deadline)

    def find(
        self, org: str, keys: Collection[bytes], most: int, deadline: Deadline
    ) -> Mapping[bytes, Sequence[Contact]]:
        """By the index on key and sk."""
        found: dict[bytes, list[Contact]] = {}
        match = scoped(org, {"key": {"$in": [Binary(key) for key in keys]}})
        with limited(self._database, deadline):
            for row in self._collection.find(match, {"_id": 0, "key": 1, "pk": 1, "sk": 1}, batch_size=_AT_ONCE):
                contacts = found.setdefault(bytes(row["key"]), [])
                if len(contacts) <= most:
                    contacts.append(Contact(row["pk"], row["sk"]))
        return found

    def find_ids(
        self, org: str, datatype: str, ids: Collection[str], deadline: Deadline
    ) -> Mapping[str, Sequence[Contact]]:
        """Among the records themselves."""
        match = scoped(org, {"pk": {"$in": list(ids)}}, LIVING)
        with limited(self._database, deadline):
            rows = self._database[datatype].find(match, {"_id": 0, "pk": 1, "sk": 1}, batch_size=_AT_ONCE)
            return {row["pk"]: [Contact(row["pk"], row["sk"])] for row in rows}

    def _build(self, org: str, datatype: str, rule: KeyRule, deadline: Deadline) -> None:
        after = ""
        while records := self._read(org, datatype, rule, {"sk": {"$gt": after}}, deadline):
            documents = [self._document(datatype, rule, record) for record in records]
            try:
                with limited(self._database, deadline):
                    self._collection.insert_many(documents, ordered=False)
            except BulkWriteError as error:  # another upload builds it as well
                unless_duplicates(error)
            after = records[-1]["sk"]

    def _renew(self, org: str, datatype: str, rule: KeyRule, keys: Sequence[str], deadline: Deadline) -> None:
        if not keys:
            return
        records = self._read(org, datatype, rule, {"sk": {"$in": list(keys)}}, deadline)
        documents = [self._document(datatype, rule, record) for record in records]
        if documents:
            with limited(self._database, deadline):
                self._collection.bulk_write(
                    [ReplaceOne({"_id": document["_id"]}, document, upsert=True) for document in documents],
                    ordered=False,
                )
        # Those that have gone since they were named.
        self._forget(org, f"{datatype}.{rule.name}", sorted({*keys} - {record["sk"] for record in records}), deadline)

    def _forget(self, org: str, name: str, keys: Sequence[str], deadline: Deadline) -> None:
        if keys:
            with limited(self._database, deadline):
                self._collection.delete_many(scoped(org, {"_id": {"$in": [f"{name}/{sk}" for sk in keys]}}))

    def _read(self, org: str, datatype: str, rule: KeyRule, which: Document, deadline: Deadline) -> list[Record]:
        """Up to 5,000 records in use that have the identifier, with what it is made of and the hash of that."""
        stages: list[Document] = [
            {"$match": scoped(org, which, _has(rule), LIVING)},
            {"$sort": {"sk": 1}},
            {"$limit": _AT_ONCE},
            {"$project": {"_id": 0, "pk": 1, "sk": 1, "source": self._source(rule)}
             | dict.fromkeys(rule.record_paths, 1)},
        ]  # fmt: skip
        with limited(self._database, deadline):
            return list(self._database[datatype].aggregate(stages, batchSize=_AT_ONCE))

    def _differing(self, org: str, datatype: str, rule: KeyRule, deadline: Deadline) -> Iterator[tuple[str, bool]]:
        """The sk of each record whose key is missing or of something else, and of each key whose record is gone.

        The second says which: whether the record is there.
        """
        there = {"_id": 0, "sk": 1, "source": self._source(rule), "record": {"$literal": 1}, "key": {"$literal": 0}}
        kept = {"_id": 0, "sk": 1, "source": 1, "record": {"$literal": 0}, "key": {"$literal": 1}}
        # One that will go soon counts as missing.
        lasting = {"rule": f"{datatype}.{rule.name}", "expire_at": {"$gt": now() + _RENEWED_BEFORE}}
        stages: list[Document] = [
            {"$match": scoped(org, _has(rule), LIVING)},
            {"$project": there},
            {"$unionWith": {"coll": IDENTIFIERS, "pipeline": [{"$match": scoped(org, lasting)}, {"$project": kept}]}},
            {"$group": {
                "_id": "$sk",
                "record": {"$sum": "$record"},
                "key": {"$sum": "$key"},
                "first": {"$min": "$source"},
                "last": {"$max": "$source"},
            }},
            {"$match": {"$expr": {"$or": [
                {"$eq": ["$record", 0]}, {"$eq": ["$key", 0]}, {"$ne": ["$first", "$last"]},
            ]}}},
            {"$project": {"record": 1}},
        ]  # fmt: skip
        with limited(self._database, deadline):
            rows = self._database[datatype].aggregate(stages, allowDiskUse=True, batchSize=_AT_ONCE)
        while True:
            with limited(self._database, deadline):
                batch = list(itertools.islice(rows, _AT_ONCE))
            if not batch:
                return
            yield from ((row["_id"], bool(row["record"])) for row in batch)

    def _source(self, rule: KeyRule) -> Document:
        """The hash of all that a record's key is made of, computed by the database."""
        return {"$toHashedIndexKey": {f"f{number}": f"${path}" for number, path in enumerate(rule.record_paths)}}

    def _document(self, datatype: str, rule: KeyRule, record: Record) -> Record:
        """What is kept of a record: no key where what it has is not valid, so that it is not read again."""
        name = f"{datatype}.{rule.name}"
        key = rule.key_in(datatype, record)
        return {
            "_id": f"{name}/{record['sk']}",
            "rule": name,
            "pk": record["pk"],
            "sk": record["sk"],
            "source": record["source"],
            "expire_at": now() + KEPT_FOR,
            **({"key": Binary(key)} if key else {}),
        }


def _has(rule: KeyRule) -> Document:
    """The records that have anything where the identifier is."""
    return {rule.record_paths[0]: {"$nin": [None, ""]}}
