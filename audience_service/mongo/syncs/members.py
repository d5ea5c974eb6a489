"""What a comparison knows of each member, so that the next one reads only the members that have changed since.

    {_id: "<org>/audience_sync_member/<sync>/<sk of the member>", sk, source, rows}

`sk` is the member's own. `source` is a hash of the fields that its row is made of, by the database. `rows` has the
digest of that row; it is empty if the member has no valid row. Nothing else of the record is stored.

While a comparison changes the rows of a member, `source` is "pending", and `rows` has the old rows and the new one. If
the comparison dies, the next one finds the member again, with every row that may have to be dropped.
"""

import itertools
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from pymongo import ReplaceOne, UpdateOne
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.record import Record
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.population import Population
from audience_service.domain.syncs.model import MemberSource, SyncMember
from audience_service.mongo.core.collections import SYNC_MEMBERS
from audience_service.mongo.core.errors import raise_unless_duplicate, with_deadline
from audience_service.mongo.core.scope import TenantScope, complete_org_match
from audience_service.mongo.membership.repository import outermost
from audience_service.mongo.query.joins import Stages
from audience_service.mongo.query.pipeline import Pipeline, build_pipeline, join_records, run

_BATCH_SIZE = 5_000
_PENDING = "pending"
"""It differs from every hash: hashes are integers."""


class MongoSyncMembers:
    """The SyncMemberRepository on MongoDB; domain/syncs/repository.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope
        self._collection = database[SYNC_MEMBERS]

    def read(
        self, org: str, population: Population, source: MemberSource, keys: Sequence[str] | None, deadline: Deadline
    ) -> Generator[list[Record], None, None]:
        """Read one cursor. The hash is of the values that the same record has."""
        key_range = {} if keys is None else {"sk": {"$in": list(keys)}}
        pipeline = build_pipeline(self._database, self._scope, org, population, deadline, key_range)
        fields = {"_id": 0, "pk": 1, "sk": 1, "source": _hash(source), **dict.fromkeys(outermost(source.paths), 1)}
        yield from self._batches(pipeline, [*_records(pipeline), {"$project": fields}], deadline)

    def find_changed(
        self, org: str, sync_id: str, population: Population, source: MemberSource, deadline: Deadline
    ) -> Generator[list[str], None, None]:
        """Group the members and what is stored of them by sk: a few bytes of each, in one command."""
        pipeline = build_pipeline(self._database, self._scope, org, population, deadline)
        flags = {"member": {"$literal": 1}, "stored": {"$literal": 0}}
        stored: Stages = [
            {"$match": _of_sync(org, sync_id)},
            {"$project": {"_id": 0, "sk": 1, "source": 1, "member": {"$literal": 0}, "stored": {"$literal": 1}}},
        ]
        hashes = {"first": {"$min": "$source"}, "last": {"$max": "$source"}}
        counts = {name: {"$sum": f"${name}"} for name in flags}
        differs = [{"$eq": ["$member", 0]}, {"$eq": ["$stored", 0]}, {"$ne": ["$first", "$last"]}]
        stages: Stages = [
            *_records(pipeline),
            {"$project": {"_id": 0, "sk": 1, "source": _hash(source), **flags}},
            {"$unionWith": {"coll": SYNC_MEMBERS, "pipeline": stored}},
            {"$group": {"_id": "$sk", **counts, **hashes}},
            {"$match": {"$expr": {"$or": differs}}},
            {"$project": {"_id": 1}},
        ]
        for found in self._batches(pipeline, stages, deadline):
            yield [row["_id"] for row in found]

    def find_rows(self, org: str, sync_id: str, keys: Collection[str], deadline: Deadline) -> Collection[str]:
        """Find by key."""
        match = complete_org_match(org, {"_id": {"$in": [_key(org, sync_id, sk) for sk in keys]}})
        with with_deadline(self._database, deadline):
            found = self._collection.find(match, {"rows": 1})
            return set(itertools.chain.from_iterable(member["rows"] for member in found))

    def find_shared_rows(
        self, org: str, digests: Collection[str], without: Collection[str], deadline: Deadline
    ) -> Collection[str]:
        """Find by the index on `rows`. The digest of a row contains the org and the sync."""
        if not digests:
            return ()
        match = complete_org_match(org, {"rows": {"$in": list(digests)}})
        with with_deadline(self._database, deadline):
            others = [
                found for found in self._collection.find(match, {"rows": 1, "sk": 1}) if found["sk"] not in without
            ]
        return set(digests).intersection(itertools.chain.from_iterable(found["rows"] for found in others))

    def insert(self, org: str, sync_id: str, members: Sequence[SyncMember], deadline: Deadline) -> None:
        """Insert by one command. A member that a concurrent scan has stored keeps what that scan has read."""
        try:
            with with_deadline(self._database, deadline):
                if members:
                    self._collection.insert_many([_document(org, sync_id, found) for found in members], ordered=False)
        except BulkWriteError as error:
            raise_unless_duplicate(error)

    def start(self, org: str, sync_id: str, members: Sequence[SyncMember], deadline: Deadline) -> None:
        """Upsert by key."""
        writes = [
            UpdateOne(
                {"_id": _key(org, sync_id, found.sk)},
                {
                    "$set": {"sk": found.sk, "source": _PENDING},
                    "$addToSet": {"rows": {"$each": [] if found.row is None else [found.row]}},
                },
                upsert=True,
            )
            for found in members
        ]
        with with_deadline(self._database, deadline):
            if writes:
                self._collection.bulk_write(writes, ordered=False)

    def replace(
        self, org: str, sync_id: str, members: Sequence[SyncMember], removed: Collection[str], deadline: Deadline
    ) -> None:
        """Replace and delete by key."""
        documents = [_document(org, sync_id, found) for found in members]
        with with_deadline(self._database, deadline):
            if documents:
                writes = [ReplaceOne({"_id": found["_id"]}, found, upsert=True) for found in documents]
                self._collection.bulk_write(writes, ordered=False)
            if removed:
                keys = [_key(org, sync_id, sk) for sk in removed]
                self._collection.delete_many(complete_org_match(org, {"_id": {"$in": keys}}))

    def count(self, org: str, sync_id: str, deadline: Deadline) -> tuple[int, int]:
        """Count by the range of keys."""
        has_row = {"$cond": [{"$eq": ["$rows", []]}, 0, 1]}
        stages: Stages = [
            {"$match": _of_sync(org, sync_id)},
            {"$group": {"_id": None, "n": {"$sum": 1}, "valid": {"$sum": has_row}}},
        ]
        with with_deadline(self._database, deadline):
            found = list(self._collection.aggregate(stages))
        return (int(found[0]["n"]), int(found[0]["valid"])) if found else (0, 0)

    def clear(self, org: str, sync_id: str, deadline: Deadline) -> None:
        """Delete by the range of keys."""
        with with_deadline(self._database, deadline):
            self._collection.delete_many(_of_sync(org, sync_id))

    def _batches(self, pipeline: Pipeline, stages: Stages, deadline: Deadline) -> Iterator[list[Record]]:
        erased_before = self._scope.erased_sks(pipeline.org)  # the stages exclude them
        with run(self._database, pipeline, deadline) as collection:
            cursor = collection.aggregate(stages, batchSize=_BATCH_SIZE, allowDiskUse=True)
        with closing(cursor):
            while True:
                with run(self._database, pipeline, deadline):
                    found = list(itertools.islice(cursor, _BATCH_SIZE))
                if not found:
                    return
                erased = self._scope.erased_sks(pipeline.org) - erased_before
                yield [row for row in found if row.get("sk") not in erased]


def member_keys(org: str, sync_ids: Collection[str], sks: Collection[str]) -> list[str]:
    """Return the `_id` of what each of these syncs may have stored of these members."""
    return [_key(org, sync_id, sk) for sync_id in sync_ids for sk in sks]


def _document(org: str, sync_id: str, member: SyncMember) -> Document:
    rows = [] if member.row is None else [member.row]
    return {"_id": _key(org, sync_id, member.sk), "sk": member.sk, "source": member.source, "rows": rows}


def _key(org: str, sync_id: str, sk: str) -> str:
    return f"{org}/{SYNC_MEMBERS}/{sync_id}/{sk}"


def _of_sync(org: str, sync_id: str) -> Mapping[str, Any]:
    """Return the match of what a sync stores of members, also of erased ones. "0" is the character after "/"."""
    prefix = f"{org}/{SYNC_MEMBERS}/{sync_id}"
    return complete_org_match(org, {"_id": {"$gte": f"{prefix}/", "$lt": f"{prefix}0"}})


def _records(pipeline: Pipeline) -> Stages:
    """Return the stages that yield the current record of each member."""
    population = pipeline.population
    if isinstance(population, MemberList) and population.include_inactive:
        return [*pipeline.stages(), *join_records(population.datatype, ("pk", "sk"))]
    return pipeline.stages()


def _hash(source: MemberSource) -> Document:
    """Return the expression for the hash of a record's fields. The hash itself ignores fractions."""
    fields: Document = {}
    for number, path in enumerate(source.paths):
        is_fraction = {"$in": [{"$type": f"${path}"}, ["double", "decimal"]]}
        fields[f"f{number}"] = {"$cond": [is_fraction, {"$toString": f"${path}"}, f"${path}"]}
    return {"$toHashedIndexKey": {"form": {"$literal": source.form}, **fields}}
