"""The ErasureRepository on MongoDB; domain/erasure/repository.py states what each method promises.

`TREATMENT` lists every collection of the service, and a test refuses one that is not in it.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from bson import Binary
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import StoreUnavailable
from audience_service.domain.core.idempotency import CreationState
from audience_service.domain.core.record import Record
from audience_service.domain.erasure.model import REDACTED, Person, Remainder, Removal, Tombstone
from audience_service.domain.erasure.patterns import address_pattern, person_pattern, redact
from audience_service.domain.filters.filter import Document
from audience_service.domain.snapshots.repository import RowSummary, SnapshotRowRepository
from audience_service.mongo.core.collections import (
    CUSTOM_AUDIENCES,
    ERASURES,
    EVENTS,
    EXPORTS,
    IDENTIFIERS,
    LISTS,
    MEMBER_STATES,
    PARTITIONS,
    PLATFORM_IDS,
    PLATFORM_TREES,
    SEGMENTS,
    SNAPSHOTS,
    SUBSCRIBERS,
    SYNC_BATCHES,
    SYNC_MEMBERS,
    SYNC_ROWS,
    SYNCS,
    UPLOAD_REJECTIONS,
    UPLOAD_ROWS,
    UPLOADS,
    USES,
    VERSIONS,
    WATCHES,
)
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import TenantScope, complete_org_match, erased_sk, org_scope
from audience_service.mongo.snapshots.documents import read_manifest
from audience_service.mongo.syncs.members import member_keys

ROWS, EVENT_ROWS, STATES, KEYS, CELLS, BOUNDARIES = "rows", "events", "states", "keys", "cells", "boundaries"
TEXTS, NO_CONTENT, SHARED, OWN = "texts", "no content", "shared", "own"
PLATFORM, SENT = "platform", "sent"

TREATMENT: Mapping[str, str] = {
    LISTS: ROWS,
    EVENTS: EVENT_ROWS,
    MEMBER_STATES: STATES,
    IDENTIFIERS: KEYS,
    UPLOAD_ROWS: CELLS,
    PARTITIONS: BOUNDARIES,
    SEGMENTS: TEXTS,
    VERSIONS: TEXTS,
    SNAPSHOTS: TEXTS,
    CUSTOM_AUDIENCES: TEXTS,
    UPLOADS: TEXTS,
    UPLOAD_REJECTIONS: TEXTS,
    USES: TEXTS,
    SYNCS: TEXTS,
    EXPORTS: TEXTS,
    SYNC_ROWS: SENT,
    SYNC_BATCHES: SENT,
    SYNC_MEMBERS: KEYS,
    WATCHES: TEXTS,
    PLATFORM_IDS: SHARED,
    PLATFORM_TREES: SHARED,
    ERASURES: OWN,
    SUBSCRIBERS: PLATFORM,
}
"""What happens to each collection.

rows: deleted, and the counts of snapshots corrected. events: lose pk and sk, since events are numbered without a gap.
states, keys: deleted. cells: rows that contain an address, a number or a digest of one are deleted. boundaries: moved
to the record before. texts: every text that quotes the person is rewritten. shared: has no data of people. own: keyed
hashes and encrypted ids only. sent: rows that a platform has stay until it has acknowledged their removal, which the
next StreamSyncChanges sends; others are deleted. platform: belongs to the platform, which erases it; the report counts
the records.
"""

_KEYED_BY_ORG = frozenset({
    VERSIONS, UPLOADS, UPLOAD_REJECTIONS, UPLOAD_ROWS, USES, WATCHES, PARTITIONS, SYNC_ROWS, SYNC_BATCHES, SYNC_MEMBERS,
})  # fmt: skip
"""The collections whose `_id` starts with the org, and which have no index that starts with sk."""

_QUOTING_FIELDS: Mapping[str, Sequence[str]] = {EXPORTS: ("subject", "request_id")}
"""The texts of callers in collections with very many documents. The database finds the documents to rewrite."""

_MAX_ATTEMPTS = 10
_CALL_LEASE = timedelta(seconds=30)
"""How long no sweep repeats the removal of a call. The report of the call would lack what a sweep removes."""
_LATE_SCANS = timedelta(seconds=5)


class MongoErasures:
    """Tombstones, and the removal of people."""

    def __init__(
        self,
        database: Database[dict[str, Any]],
        scope: TenantScope,
        snapshot_rows: SnapshotRowRepository,
        on_store: Callable[[], None],
    ) -> None:
        """`on_store` runs after a tombstone is stored, so that this process reads it at once."""
        self._database = database
        self._scope = scope
        self._snapshot_rows = snapshot_rows
        self._on_store = on_store

    def find_records(
        self, org: str, datatypes: Sequence[str], ids: Collection[str], deadline: Deadline
    ) -> list[Record]:
        """Find by the index on pk and sk."""
        match = complete_org_match(org, {"pk": {"$in": list(ids)}})
        with with_deadline(self._database, deadline):
            return [record for datatype in datatypes for record in self._database[datatype].find(match)]

    def find_inactive(self, org: str, datatype: str, paths: Sequence[str], deadline: Deadline) -> list[Record]:
        """Read all of them: they have no index of identifiers."""
        match = complete_org_match(org, {"state": {"$in": ["archived", "deleted"]}})
        with with_deadline(self._database, deadline):
            return list(self._database[datatype].find(match, {"_id": 0, "pk": 1, **dict.fromkeys(paths, 1)}))

    def find_sealed(self, org: str, tombstone_id: str, deadline: Deadline) -> bytes | None:
        """Find by key."""
        with with_deadline(self._database, deadline):
            found = self._database[ERASURES].find_one({"_id": f"{org}/{ERASURES}/{tombstone_id}", **org_scope(org)})
        return bytes(found["sealed"]) if found else None

    def store(self, org: str, tombstone: Tombstone, deadline: Deadline) -> None:
        """Upsert by key."""
        key = f"{org}/{ERASURES}/{tombstone.id}"
        fields = {
            "sk": key,
            "sealed": Binary(tombstone.sealed),
            "erased_at": tombstone.erased_at,
            "lease_until": tombstone.erased_at + _CALL_LEASE,
        }
        update = {
            "$set": fields,
            "$addToSet": {"keys": {"$each": [Binary(found) for found in sorted(tombstone.keys)]}},
            "$max": {"sweep_until": tombstone.sweep_until},
            "$currentDate": {"changed_at": True},  # by the clock of the database, since those of processes differ
        }
        with with_deadline(self._database, deadline):
            self._database[ERASURES].update_one({"_id": key}, update, upsert=True)
        self._on_store()

    def remove(self, org: str, person: Person, erased_at: datetime, deadline: Deadline) -> Removal:
        """Remove from every collection of `TREATMENT`."""
        removal = Removal()
        with with_deadline(self._database, deadline):
            self._remove_rows(org, person, removal)
            self._remove_watched(org, person, removal.counts)
            self._remove_cells(org, person, removal.counts)
            self._move_boundaries(org, person, removal.counts)
            self._remove_unsent(org, person, erased_at, removal)
        pattern = person_pattern(person)
        for collection, treatment in TREATMENT.items():
            if treatment == TEXTS:
                self._rewrite(org, collection, pattern, removal, deadline)
        self._correct_snapshots(org, removal.list_ids, erased_at, deadline)
        removal.counts = +removal.counts
        return removal

    def remainders(
        self, org: str, datatypes: Sequence[str], person: Person, removal: Removal, deadline: Deadline
    ) -> Sequence[Remainder]:
        """Count the platform's records, rows of syncs, and the uses of the audiences that listed the person."""
        found: list[Remainder] = []
        syncs: Counter[str] = Counter()
        audiences = sorted({list_id.partition(".")[0] for list_id in removal.list_ids})
        with with_deadline(self._database, deadline):
            for datatype in datatypes:
                match = complete_org_match(org, {"pk": {"$in": list(person.ids)}})
                if count := self._database[datatype].count_documents(match):
                    found.append(Remainder("platform", datatype, count))
            if emails := list(person.emails):
                match = complete_org_match(org, {"data.email": {"$in": emails}})
                if count := self._database[SUBSCRIBERS].count_documents(match):
                    found.append(Remainder("platform", SUBSCRIBERS, count))
            sent = org_documents(org, SYNC_ROWS, _rows_of(person, removal))
            for row in self._database[SYNC_ROWS].find(sent, {"sk": 1}):
                syncs[row["sk"].split("/")[2]] += 1
            uses = self._database[USES].find(self._scope.match(org, {"audience": {"$in": audiences}}))
            consumers = Counter((use["kind"], use["consumer_id"]) for use in uses)
        found += [Remainder("sync", sync_id, count) for sync_id, count in sorted(syncs.items())]
        return [*found, *(Remainder(kind, name, count) for (kind, name), count in sorted(consumers.items()))]

    def _remove_rows(self, org: str, person: Person, removal: Removal) -> None:
        match = complete_org_match(org, {"pk": {"$in": list(person.ids)}})
        removal.list_ids |= {row["audience"] for row in self._database[LISTS].find(match, {"_id": 0, "audience": 1})}
        removal.counts[LISTS] += self._database[LISTS].delete_many(match).deleted_count
        by_sk = complete_org_match(org, {"sk": {"$in": list(person.sks)}})
        removal.counts[IDENTIFIERS] += self._database[IDENTIFIERS].delete_many(by_sk).deleted_count

    def _remove_watched(self, org: str, person: Person, counts: Counter[str]) -> None:
        by_sk = complete_org_match(org, {"sk": {"$in": list(person.sks)}})
        nobody = {"$set": {"pk": "", "sk": erased_sk(org)}}
        counts[EVENTS] += self._database[EVENTS].update_many(by_sk, nobody).modified_count
        epochs: list[str] = []
        for watch in self._database[WATCHES].find(org_documents(org, WATCHES), {"watch_epoch": 1, "stale_epochs": 1}):
            epochs += [watch["watch_epoch"], *watch["stale_epochs"]]
        keys = [f"{epoch}/{sk}" for epoch in epochs for sk in person.sks if epoch]
        states = complete_org_match(org, {"_id": {"$in": keys}})
        counts[MEMBER_STATES] += self._database[MEMBER_STATES].delete_many(states).deleted_count

    def _remove_cells(self, org: str, person: Person, counts: Counter[str]) -> None:
        names = [re.escape(name) for name in person.ids]
        texts = [part for part in (address_pattern(person), *(rf"^\s*{name}\s*$" for name in names)) if part]
        if texts:
            match = org_documents(org, UPLOAD_ROWS, {"cells": {"$regex": "|".join(texts), "$options": "i"}})
            counts[UPLOAD_ROWS] += self._database[UPLOAD_ROWS].delete_many(match).deleted_count

    def _move_boundaries(self, org: str, person: Person, counts: Counter[str]) -> None:
        """Move the boundary of a partition to the record before: the same other records stay on each side."""
        for sk in person.sks:
            datatype = sk.split("/")[1]
            before = self._scope.match(org, {"sk": {"$lt": sk}})
            previous = self._database[datatype].find_one(before, {"sk": 1}, sort=[("sk", -1)])
            moved = {"$set": {"keys.$": previous["sk"] if previous else f"{org}/"}}
            match = org_documents(org, PARTITIONS, {"keys": sk})
            counts[PARTITIONS] += self._database[PARTITIONS].update_many(match, moved).modified_count

    def _remove_unsent(self, org: str, person: Person, erased_at: datetime, removal: Removal) -> None:
        """Delete the rows of syncs that no platform has, and let the next stream of each sync compare all members.

        What a sync has stored of the person's contacts names their rows, whatever identifiers they contain. A row that
        another contact has, too, stays.
        """
        rows, members = self._database[SYNC_ROWS], self._database[SYNC_MEMBERS]
        syncs = [sync["pk"] for sync in self._database[SYNCS].find(complete_org_match(org), {"pk": 1})]
        known = complete_org_match(org, {"_id": {"$in": member_keys(org, syncs, person.sks)}})
        row_keys: dict[str, str] = {}
        changed: set[str] = set()
        for member in members.find(known, {"rows": 1}):
            sync_id = member["_id"].split("/")[2]
            changed.add(sync_id)
            row_keys |= {digest: f"{org}/{SYNC_ROWS}/{sync_id}/{digest}" for digest in member["rows"]}
        sharing: Document = {"rows": {"$in": list(row_keys)}, "sk": {"$nin": list(person.sks)}}
        for other in members.find(complete_org_match(org, sharing), {"rows": 1}):
            for digest in other["rows"]:
                row_keys.pop(digest, None)
        removal.sync_rows |= set(row_keys.values())
        unsent = org_documents(
            org, SYNC_ROWS, _rows_of(person, removal), {"platform_keys": [], "batch": {"$exists": False}}
        )
        changed |= {row["_id"].split("/")[2] for row in rows.find(unsent, {"_id": 1})}
        # A comparison that had begun before every process knew of the erasure may have found the person. With another
        # number of scans, one that ends after this is followed by a full scan, too.
        early = {"data.latest_scan.started_at": {"$lt": erased_at + _LATE_SCANS}}
        invalid = complete_org_match(org, {"$or": [early, {"pk": {"$in": sorted(changed)}}]})
        repeat = {"$set": {"data.latest_scan": None}, "$inc": {"scan_count": 1}}
        self._database[SYNCS].update_many(invalid, repeat)
        removal.counts[SYNC_ROWS] += rows.delete_many(unsent).deleted_count
        removal.counts[SYNC_MEMBERS] += members.delete_many(known).deleted_count

    def _rewrite(
        self, org: str, collection: str, pattern: re.Pattern[str], removal: Removal, deadline: Deadline
    ) -> None:
        conditions = [_may_quote(fields, pattern)] if (fields := _QUOTING_FIELDS.get(collection)) else []
        with with_deadline(self._database, deadline):
            for document in self._database[collection].find(org_documents(org, collection, *conditions)):
                if not self._rewrite_one(collection, document, pattern, deadline):
                    continue
                removal.counts[collection] += 1
                name = document.get("pk") or document.get("audience")
                if isinstance(name, str):
                    removal.rewritten[name] = None

    def _rewrite_one(
        self, collection: str, document: dict[str, Any], pattern: re.Pattern[str], deadline: Deadline
    ) -> bool:
        """Replace a document if it quotes the person, and no other process has changed it. Raises StoreUnavailable.

        Two names that differ only in what they quote become equal. The second one is numbered, since names are unique.
        """
        attempts, number = 0, 1
        while attempts < _MAX_ATTEMPTS:
            keys = {name: document[name] for name in ("_id", "pk", "sk") if name in document}
            replacement = REDACTED if number == 1 else f"{REDACTED} {number}"
            changed = {**redact(_without_keys(document), pattern, replacement), **keys}
            if changed == document:
                return False
            with with_deadline(self._database, deadline):
                try:
                    if self._database[collection].replace_one(document, changed).matched_count:
                        return True
                except DuplicateKeyError:
                    number += 1
                    continue
                found = self._database[collection].find_one({"_id": document["_id"]})
            if found is None:
                return False
            document, attempts = found, attempts + 1
        raise StoreUnavailable(f"a document of {collection} changes too often to be rewritten; repeat the call")

    def _correct_snapshots(self, org: str, list_ids: Collection[str], since: datetime, deadline: Deadline) -> None:
        """Count and digest snapshots again: those that lost rows, and those that were completed meanwhile."""
        names = sorted({list_id.partition(".")[0] for list_id in list_ids})
        changed: Document = {"$or": [{"pk": {"$in": names}}, {"modifydate": {"$gte": since}}]}
        with with_deadline(self._database, deadline):
            ready = {"state": CreationState.READY.value}
            records = list(self._database[SNAPSHOTS].find(self._scope.match(org, ready, changed)))
        for record in records:
            snapshot = read_manifest(record)
            summaries = self._snapshot_rows.summarize(org, snapshot.list_version_id, deadline)
            rows = summaries.get(snapshot.list_version_id, RowSummary())
            exclusions = [
                {"reason": reason, "count": summaries.get(f"{snapshot.list_version_id}!{reason}", RowSummary()).count}
                for reason in snapshot.exclusions
            ]
            fields = {
                "data.count": rows.count,
                "data.digest": rows.digest,
                "data.slice_ends": list(rows.slice_ends),
                "data.exclusions": exclusions,
            }
            expected = self._scope.match(org, {"_id": record["_id"], "version": record["version"]}, ready)
            with with_deadline(self._database, deadline):
                self._database[SNAPSHOTS].update_one(expected, {"$set": fields})


def org_documents(org: str, collection: str, *conditions: Document) -> Document:
    """Return the match of the org's documents in a collection, which reads no document of another org."""
    match = complete_org_match(org, *conditions)
    return {"_id": match["sk"], **match} if collection in _KEYED_BY_ORG else match


def _rows_of(person: Person, removal: Removal) -> Document:
    """Return the match of the rows of syncs that a removal found, or that contain an address or number."""
    values = [*person.digests, *person.emails]
    return {"$or": [{"_id": {"$in": sorted(removal.sync_rows)}}, {"values": {"$in": values}}]}


def _may_quote(fields: Sequence[str], pattern: re.Pattern[str]) -> Document:
    """Return the match of documents that may quote the person.

    The database's expressions know only the spaces and digits of ASCII, so any other text may quote the person as well.
    """
    texts = ({"$regex": pattern.pattern, "$options": "i"}, {"$regex": r"[^\x00-\x7f]"})
    return {"$or": [{name: text} for name in fields for text in texts]}


def _without_keys(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in ("_id", "pk", "sk")}
