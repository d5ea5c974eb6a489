"""Custom audiences as records in the platform's envelope, and back.

    {_id: sk, pk, sk: "<org>/custom/<id>", name, datatype: "custom", version, state, createdate, modifydate, author,
     work: {kind, attempt, state, progress, error, started, ended, owner}, lease_until,
     orphaned_lists: [{list_version_id, delete_after, is_deleting}],
     data: {description, type, datatype, spec, external, list_version_id, publication, refreshed_at,
            unique: {name, request, digest}, deleted_unique}}

`data.spec` has the fields of the type's dataclass. `data.list_version_id` is the `audience` of the rows of the list, ""
if there is no list. `data.deleted_unique` is `data.unique` as it was before a deletion. `orphaned_lists` are rows that
belong to no list: rows reserved for a list that is being built, and the list before. The sweeper deletes them after
`delete_after`. It sets `is_deleting` first, after which nothing can publish them.

`work` is the latest creation or refresh in the background, `lease_until` when its lease expires while it is CREATING;
`read_custom_audience` returns work whose lease has expired as FAILED. A record that was deleted stays in the state
DELETED until all of its rows are deleted.
"""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from audience_service.domain.core.clock import now
from audience_service.domain.core.idempotency import CreationState, IdempotencyKey
from audience_service.domain.core.lease import Lease
from audience_service.domain.custom_audiences.model import (
    CUSTOM_PREFIX,
    CustomAudience,
    CustomerMatchSpec,
    CustomType,
    ExternalAudience,
    LookalikeSpec,
    PixelSpec,
    Spec,
    Work,
    WorkKind,
)
from audience_service.mongo.core.collections import CUSTOM_AUDIENCES
from audience_service.mongo.core.documents import Record, name_key, request_key

DELETED = "deleted"

RELEASE: Record = {"$unset": {"data.unique": ""}}
"""The update that releases the name and the request_id of a deleted record."""

INTERRUPTED = "INTERRUPTED: the process that ran it has ended; call RefreshCustomAudience to start it again"
"""The error of work whose lease has expired."""


def custom_audience_sk(org: str, audience_id: str) -> str:
    """Return the sk of a custom audience, which is also its `_id`."""
    return f"{org}/{CUSTOM_AUDIENCES}/{audience_id.removeprefix(CUSTOM_PREFIX)}"


def new_custom_audience(org: str, audience: CustomAudience, key: IdempotencyKey | None, lease: Lease | None) -> Record:
    """Return the record of a new audience, with its work and that work's lease, if any."""
    sk = custom_audience_sk(org, audience.id)
    unique = {"name": name_key(org, audience.name)}
    if key:
        unique |= {"request": request_key(org, key), "digest": key.digest}
    return {
        "_id": sk,
        "pk": audience.id,
        "sk": sk,
        "name": audience.name,
        "datatype": CUSTOM_AUDIENCES,
        "version": audience.version,
        "state": audience.state,
        "createdate": audience.created_at,
        "modifydate": audience.updated_at,
        "author": audience.author,
        **(new_work(audience.work, lease) if audience.work and lease else {}),
        "orphaned_lists": [],
        "data": {
            "description": audience.description,
            "type": audience.type.value,
            "datatype": audience.datatype,
            "spec": None if audience.spec is None else dataclasses.asdict(audience.spec),
            "external": _external(audience),
            "list_version_id": audience.list_version_id,
            "publication": dict(audience.publication),
            "refreshed_at": audience.refreshed_at,
            "unique": unique,
        },
    }


def orphaned_list(list_version_id: str, delete_after: datetime) -> Record:
    """Return the entry of a list to delete after this time, unless it is published before."""
    return {"list_version_id": list_version_id, "delete_after": delete_after, "is_deleting": False}


def publication_update(audience: CustomAudience) -> Record:
    """Return the fields that publishing a list sets."""
    return {
        "version": audience.version,
        "state": audience.state,
        "modifydate": audience.updated_at,
        "data.list_version_id": audience.list_version_id,
        "data.publication": dict(audience.publication),
        "data.refreshed_at": audience.refreshed_at,
    }


def new_work(work: Work, lease: Lease) -> Record:
    """Return the fields of work that starts."""
    stored = {
        "kind": work.kind.value,
        "attempt": work.attempt,
        "state": work.state.value,
        "progress": work.progress,
        "error": work.error,
        "started": work.started_at,
        "ended": work.ended_at,
        "owner": lease.owner,
    }
    return {"work": stored, "lease_until": lease.expires_at}


def ended_work(error: str, at: datetime) -> Record:
    """Return the update that ends work: READY, or FAILED if there is an error."""
    result: Record = {"work.state": CreationState.FAILED.value, "work.error": error}
    if not error:
        result = {"work.state": CreationState.READY.value, "work.progress": 100}
    return {"$set": {**result, "work.ended": at}, "$unset": {"lease_until": ""}}


def running_work(work: Work | None, at: datetime) -> Record:
    """Return the match of a record whose work is this one, is CREATING, and has an unexpired lease."""
    attempt = work.attempt if work else 0
    return {"work.attempt": attempt, "work.state": CreationState.CREATING.value, "lease_until": {"$gte": at}}


def renamed_custom(audience: CustomAudience) -> Record:
    """Return the fields that an update sets."""
    return {
        "version": audience.version,
        "modifydate": audience.updated_at,
        "name": audience.name,
        "data.description": audience.description,
        "data.external": _external(audience),
    }


def read_custom_audience(record: Mapping[str, Any]) -> CustomAudience:
    """Return the custom audience in a record."""
    data = record["data"]
    kind = CustomType(data["type"])
    return CustomAudience(
        id=record["pk"],
        name=record["name"],
        description=data["description"],
        type=kind,
        datatype=data["datatype"],
        spec=_read_spec(kind, data["spec"]),
        state=record["state"],
        version=int(record["version"]),
        created_at=record["createdate"],
        updated_at=record["modifydate"],
        refreshed_at=data["refreshed_at"],
        author=record["author"],
        list_version_id=data["list_version_id"],
        publication=data.get("publication", {}),
        work=_read_work(record),
        external=ExternalAudience(**data["external"]) if data.get("external") else None,
    )


def _external(audience: CustomAudience) -> Record | None:
    return None if audience.external is None else dataclasses.asdict(audience.external)


def _read_work(record: Mapping[str, Any]) -> Work | None:
    stored = record.get("work")
    if stored is None:
        return None
    work = Work(
        kind=WorkKind(stored["kind"]),
        attempt=int(stored["attempt"]),
        started_at=stored["started"],
        state=CreationState(stored["state"]),
        progress=int(stored["progress"]),
        error=stored["error"],
        ended_at=stored["ended"],
    )
    expired_at = record.get("lease_until")
    if work.state is CreationState.CREATING and expired_at is not None and expired_at < now():
        return dataclasses.replace(work, state=CreationState.FAILED, error=INTERRUPTED, ended_at=expired_at)
    return work


def _read_spec(kind: CustomType, stored: Mapping[str, Any]) -> Spec | None:
    match kind:
        case CustomType.FILE_UPLOAD:
            return None
        case CustomType.CUSTOMER_MATCH:
            return CustomerMatchSpec(**stored)
        case CustomType.LOOKALIKE:
            lists = {name: tuple(stored[name]) for name in ("countries", "fields", "exclude_fields")}
            return LookalikeSpec(**{**stored, **lists})
        case CustomType.RETARGETING_PIXEL:
            return PixelSpec(**stored)
