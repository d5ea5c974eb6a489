"""Syncs and batches as records, and back. Syncs are in the platform's envelope.

    {_id: sk, pk, sk: "<org>/audience_sync/<id>", name, datatype: "audience_sync", version, state, createdate,
     modifydate, author, lease: {owner}, lease_until, scan_count,
     data: {spec, formats, latest_scan, unique: {request, digest}}}

    {_id: sk, sk: "<org>/audience_sync_batch/<sync>/<number in 10 digits>", number, operation, format, scan, state,
     row_count, worker, lease_until, createdate, receipt, rejected, expire_at}

`data.spec`, `data.formats[]`, `data.latest_scan` and `receipt` have the fields of their dataclasses, in plain values.
`resend_after` is in seconds.
"""

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from audience_service.domain.core.idempotency import IdempotencyKey
from audience_service.domain.syncs.model import (
    SYNC_PREFIX,
    Batch,
    BatchState,
    Receipt,
    RowFormat,
    Scan,
    Sync,
    SyncSpec,
)
from audience_service.mongo.core.collections import SYNC_BATCHES, SYNCS
from audience_service.mongo.core.documents import Record, request_key

ACTIVE, DELETED = "active", "deleted"


def sync_sk(org: str, sync_id: str) -> str:
    """Return the sk of a sync, which is also its `_id`."""
    return f"{org}/{SYNCS}/{sync_id.removeprefix(SYNC_PREFIX)}"


def batch_sk(org: str, sync_id: str, number: int) -> str:
    """Return the sk of a batch, which is also its `_id`."""
    return f"{org}/{SYNC_BATCHES}/{sync_id}/{number:010}"


def new_sync(org: str, sync: Sync, key: IdempotencyKey | None) -> Record:
    """Return the record of a new sync."""
    sk = sync_sk(org, sync.id)
    unique = {"unique": {"request": request_key(org, key), "digest": key.digest}} if key else {}
    return {
        "_id": sk,
        "pk": sync.id,
        "sk": sk,
        "name": sync.spec.name,
        "datatype": SYNCS,
        "version": sync.version,
        "state": ACTIVE,
        "createdate": sync.created_at,
        "modifydate": sync.updated_at,
        "author": sync.author,
        "scan_count": 0,
        "data": {"spec": spec_fields(sync.spec), "formats": [], "latest_scan": None, **unique},
    }


def spec_fields(spec: SyncSpec) -> Record:
    """Return the stored fields of a spec."""
    seconds = None if spec.resend_after is None else spec.resend_after.total_seconds()
    return {**dataclasses.asdict(spec), "resend_after": seconds}


def format_fields(row_format: RowFormat) -> Record:
    """Return the stored fields of a row format."""
    keys = [{"name": name, "columns": list(columns)} for name, columns in row_format.keys]
    return {
        "rules_version": row_format.rules_version,
        "options": dict(row_format.options),
        "batch_size": row_format.batch_size,
        "columns": list(row_format.columns),
        "fields": list(row_format.fields),
        "keys": keys,
    }


def read_sync(record: Mapping[str, Any]) -> Sync:
    """Return the sync in a record."""
    data = record["data"]
    return Sync(
        id=record["pk"],
        spec=_read_spec(data["spec"]),
        version=int(record["version"]),
        created_at=record["createdate"],
        updated_at=record["modifydate"],
        author=record["author"],
        latest_scan=_read_scan(data["latest_scan"]),
        formats=tuple(map(_read_format, data["formats"])),
        scan_count=int(record["scan_count"]),
    )


def new_batch(org: str, sync_id: str, batch: Batch, created_at: datetime) -> Record:
    """Return the record of a batch that is BUILDING."""
    sk = batch_sk(org, sync_id, batch.number)
    return {
        "_id": sk,
        "sk": sk,
        "number": batch.number,
        "operation": batch.operation,
        "format": batch.format,
        "scan": batch.scan,
        "state": batch.state.value,
        "row_count": batch.row_count,
        "worker": batch.worker_id,
        "lease_until": batch.lease_until,
        "createdate": created_at,
    }


def read_batch(record: Mapping[str, Any]) -> Batch:
    """Return the batch in a record."""
    receipt = record.get("receipt")
    return Batch(
        number=int(record["number"]),
        operation=record["operation"],
        format=int(record["format"]),
        scan=int(record["scan"]),
        state=BatchState(record["state"]),
        row_count=int(record["row_count"]),
        worker_id=record["worker"],
        lease_until=record["lease_until"],
        receipt=None if receipt is None else Receipt(**receipt),
        rejected_digests=tuple(record.get("rejected", ())),
    )


def _read_spec(stored: Mapping[str, Any]) -> SyncSpec:
    seconds = stored["resend_after"]
    lists = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}
    return SyncSpec(**{**stored, **lists, "resend_after": None if seconds is None else timedelta(seconds=seconds)})


def _read_scan(stored: Mapping[str, Any] | None) -> Scan | None:
    return None if stored is None else Scan(**stored)


def _read_format(stored: Mapping[str, Any]) -> RowFormat:
    return RowFormat(
        rules_version=stored["rules_version"],
        options=stored["options"],
        batch_size=int(stored["batch_size"]),
        columns=tuple(stored["columns"]),
        fields=tuple(stored["fields"]),
        keys=tuple((key["name"], tuple(map(int, key["columns"]))) for key in stored["keys"]),
    )
