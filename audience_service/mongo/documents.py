"""Segments as records in the platform's envelope, and back.

    {pk, sk, name, datatype: "segment", version, state, createdate, modifydate, author,
     data: {name, description, type, filter: {datatype, where}, unique: {name, request, digest}}}

`data.unique` is the service's own: what its unique indexes are on. Records that the platform made lack it, may keep
dates as ISO text, lack version, state or type, and may hold fields that are not known here: those are left alone.
"""

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
    return f"{org}/{request.subject}/{request.request_id}"


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
        "data": {**_payload(segment), "unique": unique},
    }


def changed_record(org: str, record: Record, segment: Segment, moment: datetime) -> Record:
    """The record with a segment's settable values in it, one version up; what is not known here stays."""
    data = record.get("data") or {}
    unique = {**(data.get("unique") or {}), "name": name_key(org, segment.name)}
    if segment.state == "deleted":
        del unique["name"]  # a deleted segment's name is free
    return {
        **record,
        "name": segment.name,
        "state": segment.state,
        "version": segment.version + 1,
        "modifydate": moment,
        "data": {**data, **_payload(segment), "unique": unique},
    }


def read_segment(record: Mapping[str, Any]) -> Segment:
    """The segment in a record, the platform's own ones included."""
    data = record.get("data") or {}
    stored = data.get("filter") or {}
    static = data.get("type") == SegmentType.STATIC
    where = stored.get("where")
    return Segment(
        id=str(record["pk"]),
        name=str(record.get("name") or data.get("name") or ""),
        description=str(data.get("description") or ""),
        type=SegmentType.STATIC if static else SegmentType.DYNAMIC,
        filter=Filter(str(stored.get("datatype") or "contact"), where if isinstance(where, Mapping) else None),
        state=str(record.get("state") or "active"),
        version=int(record.get("version") or 0),
        create_time=_moment(record.get("createdate")),
        update_time=_moment(record.get("modifydate")),
        author=str(record.get("author") or ""),
    )


def _payload(segment: Segment) -> Record:
    stored: Record = {"datatype": segment.filter.datatype}
    if segment.filter.where is not None:
        stored["where"] = segment.filter.where
    return {
        "name": segment.name,
        "description": segment.description,
        "type": segment.type.value,
        "filter": stored,
    }


def _moment(value: Any) -> datetime | None:
    """A date that is stored as such or as ISO text; None for anything else."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
