"""The index of match keys: for each record and each normalisation rule, the keys that uploads search for.

MongoDB can compute neither E.164 nor SHA-256, so the service computes the keys and stores them. With each key it stores
a hash of the fields that the key is derived from. The database computes that hash again to find outdated keys. The
index stores nothing else of the record, and does not depend on the record's dates.
"""

import hashlib
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from bson import Binary
from pymongo import ReplaceOne
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.filters.compiler import NOT_ARCHIVED_MATCH
from audience_service.domain.filters.filter import Document
from audience_service.domain.identifiers.match_keys import KeyRule
from audience_service.domain.uploads.repository import Contact
from audience_service.mongo.core.collections import IDENTIFIERS
from audience_service.mongo.core.errors import raise_unless_duplicate, with_deadline
from audience_service.mongo.core.scope import TenantScope

KEY_TTL = timedelta(days=30)
"""How long a key is stored. It also bounds how long a deleted record's key remains if no upload updates the index."""

_RENEW_BEFORE_EXPIRY = timedelta(days=1)
"""Keys that expire within this time are renewed, so that none expires during an upload."""

_BATCH_SIZE = 5_000

Record = dict[str, Any]


class MongoIdentifiers:
    """The IdentifierRepository on MongoDB; domain/uploads/repository.py states what each method promises."""

    def __init__(self, database: Database[Record], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope
        self._collection = database[IDENTIFIERS]

    def update(self, org: str, datatype: str, rule: KeyRule, deadline: Deadline) -> None:
        """Read all records the first time, in sk order. Later, read only records whose keys are outdated."""
        name = f"{datatype}.{rule.name}"
        with with_deadline(self._database, deadline):
            is_new = self._collection.find_one(self._scope.match(org, {"rule": name}), {"_id": 1}) is None
        if is_new:
            self._build(org, datatype, rule, deadline)
            return
        removed: list[str] = []
        changed: list[str] = []
        for sk, record_exists in self._find_outdated(org, datatype, rule, deadline):
            (changed if record_exists else removed).append(sk)
            if len(changed) >= _BATCH_SIZE:
                self._write_keys(org, datatype, rule, changed, deadline)
                changed = []
            if len(removed) >= _BATCH_SIZE:
                self._delete_keys(org, name, removed, deadline)
                removed = []
        self._write_keys(org, datatype, rule, changed, deadline)
        self._delete_keys(org, name, removed, deadline)

    def find(
        self, org: str, keys: Collection[bytes], limit: int, deadline: Deadline
    ) -> Mapping[bytes, Sequence[Contact]]:
        """Find by the index on key and sk."""
        found: dict[bytes, list[Contact]] = {}
        requested = set(keys)
        match = self._scope.match(org, {"key": {"$in": [Binary(key) for key in keys]}})
        with with_deadline(self._database, deadline):
            for row in self._collection.find(match, {"_id": 0, "key": 1, "pk": 1, "sk": 1}, batch_size=_BATCH_SIZE):
                for key in requested.intersection(map(bytes, row["key"])):
                    contacts = found.setdefault(key, [])
                    if len(contacts) <= limit:
                        contacts.append(Contact(row["pk"], row["sk"]))
        return found

    def find_ids(
        self, org: str, datatype: str, ids: Collection[str], deadline: Deadline
    ) -> Mapping[str, Sequence[Contact]]:
        """Find the ids among the records themselves."""
        match = self._scope.match(org, {"pk": {"$in": list(ids)}}, NOT_ARCHIVED_MATCH)
        with with_deadline(self._database, deadline):
            rows = self._database[datatype].find(match, {"_id": 0, "pk": 1, "sk": 1}, batch_size=_BATCH_SIZE)
            return {row["pk"]: [Contact(row["pk"], row["sk"])] for row in rows}

    def _build(self, org: str, datatype: str, rule: KeyRule, deadline: Deadline) -> None:
        after = ""
        while records := self._read(org, datatype, rule, {"sk": {"$gt": after}}, deadline):
            documents = [self._key_document(datatype, rule, record) for record in records]
            try:
                with with_deadline(self._database, deadline):
                    self._collection.insert_many(documents, ordered=False)
            except BulkWriteError as error:  # a concurrent upload builds it as well
                raise_unless_duplicate(error)
            after = records[-1]["sk"]

    def _write_keys(
        self, org: str, datatype: str, rule: KeyRule, record_keys: Sequence[str], deadline: Deadline
    ) -> None:
        if not record_keys:
            return
        records = self._read(org, datatype, rule, {"sk": {"$in": list(record_keys)}}, deadline)
        documents = [self._key_document(datatype, rule, record) for record in records]
        if documents:
            with with_deadline(self._database, deadline):
                self._collection.bulk_write(
                    [ReplaceOne({"_id": document["_id"]}, document, upsert=True) for document in documents],
                    ordered=False,
                )
        # Records that were deleted since the database listed them.
        self._delete_keys(
            org, f"{datatype}.{rule.name}", sorted({*record_keys} - {record["sk"] for record in records}), deadline
        )

    def _delete_keys(self, org: str, name: str, record_keys: Sequence[str], deadline: Deadline) -> None:
        if record_keys:
            with with_deadline(self._database, deadline):
                self._collection.delete_many(
                    self._scope.match(org, {"_id": {"$in": [f"{name}/{sk}" for sk in record_keys]}})
                )

    def _read(self, org: str, datatype: str, rule: KeyRule, condition: Document, deadline: Deadline) -> list[Record]:
        """Return up to 5,000 unarchived records that have the identifier, with its fields and their hash."""
        stages: list[Document] = [
            {"$match": self._scope.match(org, condition, _has_identifier(rule), NOT_ARCHIVED_MATCH)},
            {"$sort": {"sk": 1}},
            {"$limit": _BATCH_SIZE},
            {"$project": {"_id": 0, "pk": 1, "sk": 1, "source": self._source_hash(rule)}
             | dict.fromkeys(rule.record_paths, 1)},
        ]  # fmt: skip
        with with_deadline(self._database, deadline):
            return list(self._database[datatype].aggregate(stages, batchSize=_BATCH_SIZE))

    def _find_outdated(self, org: str, datatype: str, rule: KeyRule, deadline: Deadline) -> Iterator[tuple[str, bool]]:
        """Yield the sk of each record with a missing or outdated key, and of each key whose record was deleted.

        The second value is whether the record exists.
        """
        record_rows = {
            "_id": 0,
            "sk": 1,
            "source": self._source_hash(rule),
            "record": {"$literal": 1},
            "key": {"$literal": 0},
        }
        key_rows = {"_id": 0, "sk": 1, "source": 1, "record": {"$literal": 0}, "key": {"$literal": 1}}
        # A key that expires soon counts as missing.
        unexpired = {"rule": f"{datatype}.{rule.name}", "expire_at": {"$gt": now() + _RENEW_BEFORE_EXPIRY}}
        stages: list[Document] = [
            {"$match": self._scope.match(org, _has_identifier(rule), NOT_ARCHIVED_MATCH)},
            {"$project": record_rows},
            {"$unionWith": {
                "coll": IDENTIFIERS,
                "pipeline": [{"$match": self._scope.match(org, unexpired)}, {"$project": key_rows}],
            }},
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
        with with_deadline(self._database, deadline):
            rows = self._database[datatype].aggregate(stages, allowDiskUse=True, batchSize=_BATCH_SIZE)
        while True:
            with with_deadline(self._database, deadline):
                batch = list(itertools.islice(rows, _BATCH_SIZE))
            if not batch:
                return
            yield from ((row["_id"], bool(row["record"])) for row in batch)

    def _source_hash(self, rule: KeyRule) -> Document:
        """Return the expression for the hash of a record's identifier fields, with a secret in it."""
        secret = hashlib.sha256(b"source" + rule.secret).hexdigest()
        fields = {f"f{number}": f"${path}" for number, path in enumerate(rule.record_paths)}
        return {"$toHashedIndexKey": {"secret": {"$literal": secret}, **fields}}

    def _key_document(self, datatype: str, rule: KeyRule, record: Record) -> Record:
        """Return the document of a record. Without a valid identifier it has no key, but prevents repeated reads."""
        name = f"{datatype}.{rule.name}"
        keys = rule.keys_from_record(datatype, record)
        return {
            "_id": f"{name}/{record['sk']}",
            "rule": name,
            "pk": record["pk"],
            "sk": record["sk"],
            "source": record["source"],
            "expire_at": now() + KEY_TTL,
            **({"key": [Binary(key) for key in keys]} if keys else {}),
        }


def _has_identifier(rule: KeyRule) -> Document:
    """Return the match of records with a value in the identifier's field."""
    has_value = {"$nin": [None, ""]}  # false for a list with one empty element
    conditions = (has_value, {"$elemMatch": has_value})
    return {"$or": [{path: condition} for path in rule.identifier_paths for condition in conditions]}
