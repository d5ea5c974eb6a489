"""Custom audiences as records in the platform's envelope, and back.

    {_id: sk, pk, sk: "<org>/custom/<id>", name, datatype: "custom", version, state, createdate, modifydate, author,
     made_by, leftovers: [{rows, after, swept}],
     data: {description, type, datatype, spec, rows, published, refreshed, unique: {name, request, digest}, freed}}

`data.spec` has what the type takes, by the names of its dataclass; `data.rows` is what the rows of the list carry;
`data.freed` is what `data.unique` was before a deletion. `leftovers` are rows that may lie about and are no list:
reserved for one, or those of a list before. They are deleted behind `after`, once `swept` says so and nothing can make
them a list any more. A record in the state MAKING has no list yet and is given up after `made_by`; one that was deleted
stays in the state DELETED until all of its rows are gone.
"""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from audience_service.domain.custom.audience import (
    CUSTOM_PREFIX,
    MAKING,
    CustomAudience,
    CustomerMatchSpec,
    CustomType,
    LookalikeSpec,
    PixelSpec,
    Spec,
)
from audience_service.domain.ports import CreateRequest
from audience_service.mongo.collections import CUSTOM
from audience_service.mongo.documents import Record, name_key, request_key

DELETED = "deleted"

GIVE_UP: Record = {"$set": {"state": DELETED}, "$unset": {"data.unique": "", "made_by": ""}}
"""The update of a record that is there no longer, whoever has said so."""


def custom_sk(org: str, audience_id: str) -> str:
    """The sk of a custom audience, which is also its `_id`."""
    return f"{org}/{CUSTOM}/{audience_id.removeprefix(CUSTOM_PREFIX)}"


def new_custom(org: str, audience: CustomAudience, request: CreateRequest | None, made_by: datetime | None) -> Record:
    """The record of a new audience; with `made_by` of one that is being made."""
    sk = custom_sk(org, audience.id)
    unique = {"name": name_key(org, audience.name)}
    if request:
        unique |= {"request": request_key(org, request), "digest": request.digest}
    return {
        "_id": sk,
        "pk": audience.id,
        "sk": sk,
        "name": audience.name,
        "datatype": CUSTOM,
        "version": audience.version,
        "state": MAKING if made_by else audience.state,
        "createdate": audience.create_time,
        "modifydate": audience.update_time,
        "author": audience.author,
        **({"made_by": made_by} if made_by else {}),
        "leftovers": [],
        "data": {
            "description": audience.description,
            "type": audience.type.value,
            "datatype": audience.datatype,
            "spec": None if audience.spec is None else dataclasses.asdict(audience.spec),
            "rows": audience.rows_id,
            "published": dict(audience.published),
            "refreshed": audience.refresh_time,
            "unique": unique,
        },
    }


def leftover(rows_id: str, after: datetime) -> Record:
    """Rows that may lie about until then."""
    return {"rows": rows_id, "after": after, "swept": False}


def published_custom(audience: CustomAudience) -> Record:
    """What an update sets once an audience has a new list."""
    return {
        "version": audience.version,
        "state": audience.state,
        "modifydate": audience.update_time,
        "data.rows": audience.rows_id,
        "data.published": dict(audience.published),
        "data.refreshed": audience.refresh_time,
    }


def renamed_custom(audience: CustomAudience) -> Record:
    """What an update sets when the name or the description of an audience changes."""
    return {
        "version": audience.version,
        "modifydate": audience.update_time,
        "name": audience.name,
        "data.description": audience.description,
    }


def read_custom(record: Mapping[str, Any]) -> CustomAudience:
    """The custom audience in a record."""
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
        create_time=record["createdate"],
        update_time=record["modifydate"],
        refresh_time=data["refreshed"],
        author=record["author"],
        rows_id=data["rows"],
        published=data.get("published", {}),
    )


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
