"""Segments as records in the platform's envelope, and back.

    {pk, sk, name, datatype: "segment", version, state, createdate, modifydate, author,
     data: {name, description, type, filter: {datatype, where}, unique: {name, request, digest}}}

`data.unique` is the service's own: what its unique indexes are on. Records that the platform made lack it, may keep
dates as ISO text, lack version, state or type, and may hold fields that are not known here: those are left alone.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from audience_service.domain.filters import Filter
from audience_service.domain.ports import CreateRequest
from audience_service.domain.segment import ID_PREFIX, Segment, SegmentType

Record = dict[str, Any]


def segment_sk(org: str, segment_id: str) -> str:
    """The sk of a segment that this service makes."""
    return f"{org}/segment/{segment_id.removeprefix(ID_PREFIX)}"


def name_key(org: str, name: str) -> str:
    """What the unique index on living segments' names is on."""
    return f"{org}/{name}"


def request_key(org: str, request: CreateRequest) -> str:
    """What the unique index on request ids is on."""
    return json.dumps([org, request.subject, request.request_id], ensure_ascii=False)


def new_record(org: str, segment: Segment, request: CreateRequest | None) -> Record:
    """The record of a new segment."""
    unique = {"name": name_key(org, segment.name)}
    if request:
        unique |= {"request": request_key(org, request), "digest": request.digest}
    return {
        "pk": segment.id,
        "sk": segment_sk(org, segment.id),
        "datatype": "segment",
        "version": segment.version,
        "createdate": segment.create_time,
        "modifydate": segment.update_time,
        "author": segment.author,
        "name": segment.name,
        "state": segment.state,
        "data": {
            "name": segment.name,
            "description": segment.description,
            "type": segment.type.value,
            "filter": _stored_filter(segment.filter),
            "unique": unique,
        },
    }


def changed_record(org: str, record: Record, segment: Segment, moment: datetime) -> Record:
    """The record with what a segment says differently in it, one version up; all else stays to the letter."""
    before = read_segment(record)
    data = dict(_mapping(record.get("data")))
    unique = {**_mapping(data.get("unique")), "name": name_key(org, segment.name)}
    changed: Record = {**record, "version": segment.version + 1, "modifydate": moment}
    if segment.state != before.state:
        changed["state"] = segment.state
    if segment.state == "deleted":
        del unique["name"]  # a deleted segment's name is free
    if segment.name != before.name:
        changed["name"] = data["name"] = segment.name
    if segment.description != before.description:
        data["description"] = segment.description
    if segment.filter != before.filter:
        data["filter"] = {**_mapping(data.get("filter")), **_stored_filter(segment.filter)}
    return {**changed, "data": {**data, "unique": unique}}


def read_segment(record: Mapping[str, Any]) -> Segment:
    """The segment in a record, the platform's own ones included."""
    data = _mapping(record.get("data"))
    stored = _mapping(data.get("filter"))
    where = stored.get("where")
    version = record.get("version")
    return Segment(
        id=_text(record.get("pk")),
        name=_text(record.get("name")) or _text(data.get("name")),
        description=_text(data.get("description")),
        type=SegmentType.STATIC if data.get("type") == SegmentType.STATIC else SegmentType.DYNAMIC,
        filter=Filter(_text(stored.get("datatype")) or "contact", where if isinstance(where, Mapping) else None),
        state=_text(record.get("state")) or "active",
        version=int(version) if isinstance(version, int | float) and 0 <= version < 2**31 else 0,
        create_time=_moment(record.get("createdate")),
        update_time=_moment(record.get("modifydate")),
        author=_text(record.get("author")),
    )


def _stored_filter(value: Filter) -> Record:
    where = {} if value.where is None else {"where": value.where}
    return {"datatype": value.datatype, **where}


def _mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is an object: a record that the platform made may hold anything anywhere."""
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _moment(value: Any) -> datetime | None:
    """A date that is stored as such or as ISO text; None for anything else."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(moment, datetime):
            return None
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
