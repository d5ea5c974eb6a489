"""Manifests as records in the platform's envelope, and back.

    {_id: sk, pk, sk: "<org>/audience_snapshot/<id>", name, datatype: "audience_snapshot", version, state, createdate,
     modifydate, author, expire_at, lease: owner, lease_until,
     orphaned_lists: [{list_version_id, delete_after}],
     data: {datatype, sources: [{audience, version, filter}], filter, excluded_sources, purpose, progress, error, count,
            digest, slice_ends: [sk], exclusions: [{reason, count}], read_at, point_in_time,
            unique: {request, digest}}}

`version` is the attempt. `orphaned_lists` are rows that nothing refers to any more. The sweeper deletes them once no
command can write them. A manifest that was deleted stays in the state DELETED until its rows are gone.
"""

from collections.abc import Mapping
from typing import Any

from audience_service.domain.core.idempotency import CreationState, IdempotencyKey
from audience_service.domain.filters import Filter
from audience_service.domain.snapshots.model import SNAPSHOT_PREFIX, Snapshot, SnapshotSource
from audience_service.mongo.core.collections import SNAPSHOTS
from audience_service.mongo.core.documents import Record, request_key

DELETED = "DELETED"


def snapshot_sk(org: str, snapshot_id: str) -> str:
    """Return the sk of a manifest, which is also its `_id`."""
    return f"{org}/{SNAPSHOTS}/{snapshot_id.removeprefix(SNAPSHOT_PREFIX)}"


def new_manifest(org: str, snapshot: Snapshot, key: IdempotencyKey | None) -> Record:
    """Return the record of a snapshot to create, without a lease."""
    sk = snapshot_sk(org, snapshot.id)
    unique = {"unique": {"request": request_key(org, key), "digest": key.digest}} if key else {}
    return {
        "_id": sk,
        "pk": snapshot.id,
        "sk": sk,
        "name": snapshot.name,
        "datatype": SNAPSHOTS,
        "version": snapshot.attempt,
        "state": snapshot.state.value,
        "createdate": snapshot.created_at,
        "modifydate": snapshot.created_at,
        "author": snapshot.author,
        "expire_at": snapshot.expires_at,
        "orphaned_lists": [],
        "data": {**_request_fields(snapshot), **unique},
    }


def restart_manifest(record: Record, snapshot: Snapshot) -> Record:
    """Return the record for another attempt."""
    unique = {"unique": record["data"]["unique"]} if "unique" in record["data"] else {}
    changed = {
        "name": snapshot.name,
        "version": snapshot.attempt,
        "state": snapshot.state.value,
        "expire_at": snapshot.expires_at,
        "data": {**_request_fields(snapshot), **unique},
    }
    return {**record, **changed}


def result_fields(snapshot: Snapshot) -> Record:
    """Return the fields that the completion of a snapshot sets."""
    return {
        "state": snapshot.state.value,
        "data.progress": snapshot.progress,
        "data.count": snapshot.count,
        "data.digest": snapshot.digest,
        "data.slice_ends": list(snapshot.slice_ends),
        "data.exclusions": [{"reason": reason, "count": count} for reason, count in snapshot.exclusions.items()],
        "data.read_at": snapshot.read_at,
        "data.point_in_time": snapshot.point_in_time,
    }


def read_manifest(record: Mapping[str, Any]) -> Snapshot:
    """Return the snapshot in a record."""
    data = record["data"]
    return Snapshot(
        id=record["pk"],
        name=record["name"],
        state=CreationState(record["state"]),
        datatype=data["datatype"],
        created_at=record["createdate"],
        expires_at=record["expire_at"],
        author=record["author"],
        sources=_read_sources(data["sources"]),
        filter=None if data["filter"] is None else _read_filter(data["filter"]),
        excluded_sources=_read_sources(data["excluded_sources"]),
        purpose=data["purpose"],
        attempt=int(record["version"]),
        progress=int(data.get("progress", 0)),
        error=data.get("error", ""),
        count=int(data.get("count", 0)),
        digest=data.get("digest", ""),
        slice_ends=tuple(data.get("slice_ends", ())),
        exclusions={item["reason"]: int(item["count"]) for item in data.get("exclusions", ())},
        read_at=data.get("read_at"),
        point_in_time=bool(data.get("point_in_time")),
        lease_until=record.get("lease_until"),
    )


def _request_fields(snapshot: Snapshot) -> Record:
    return {
        "datatype": snapshot.datatype,
        "sources": [_source(source) for source in snapshot.sources],
        "filter": None if snapshot.filter is None else _filter(snapshot.filter),
        "excluded_sources": [_source(source) for source in snapshot.excluded_sources],
        "purpose": snapshot.purpose,
    }


def _source(source: SnapshotSource) -> Record:
    return {"audience": source.audience_id, "version": source.version, "filter": _filter(source.filter)}


def _filter(value: Filter) -> Record:
    return {"datatype": value.datatype, **({} if value.where is None else {"where": value.where})}


def _read_filter(stored: Mapping[str, Any]) -> Filter:
    return Filter(stored["datatype"], stored.get("where"))


def _read_sources(stored: list[Mapping[str, Any]]) -> tuple[SnapshotSource, ...]:
    return tuple(
        SnapshotSource(item["audience"], int(item["version"]), _read_filter(item["filter"])) for item in stored
    )
