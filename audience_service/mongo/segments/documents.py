"""Segments as records in the platform's envelope, and back.

    {pk, sk, name, datatype: "segment", version, state, createdate, modifydate, author,
     data: {name, description, type, filter: {datatype, where}, unique: {name, request, digest},
            last_write: {version, editor, is_list_edit}, references}}

`data.unique`, `data.last_write` and `data.references` are the service's own: what its unique indexes are on, who wrote
which version (and whether as an edit of the list), and the audiences that the filter of that version refers to. Records
that the platform made lack them, may keep dates as ISO text, lack version, state or type, and may hold fields that are
not known here: those are left alone. If the platform has written since, `data.last_write` names an older version than
the record's, and neither it nor `data.references` describes the record.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from audience_service.domain.core.idempotency import IdempotencyKey
from audience_service.domain.filters import Filter
from audience_service.domain.filters.references import audience_references
from audience_service.domain.segments.model import ID_PREFIX, Segment, SegmentType
from audience_service.mongo.core.documents import Record, name_key, request_key

MAX_VERSION = 2**31 - 1
"""The highest version that the API can return (int32)."""


def segment_sk(org: str, segment_id: str) -> str:
    """Return the sk of a segment that this service creates."""
    return f"{org}/segment/{segment_id.removeprefix(ID_PREFIX)}"


def new_segment_record(org: str, segment: Segment, key: IdempotencyKey | None) -> Record:
    """Return the record of a new segment."""
    unique = {"name": name_key(org, segment.name)}
    if key:
        unique |= {"request": request_key(org, key), "digest": key.digest}
    return {
        "pk": segment.id,
        "sk": segment_sk(org, segment.id),
        "datatype": "segment",
        "version": segment.version,
        "createdate": segment.created_at,
        "modifydate": segment.updated_at,
        "author": segment.author,
        "name": segment.name,
        "state": segment.state,
        "data": {
            "name": segment.name,
            "description": segment.description,
            "type": segment.type.value,
            "filter": _stored_filter(segment.filter),
            "unique": unique,
            **_last_write(segment, segment.version),
        },
    }


def update_segment_record(org: str, record: Record, segment: Segment, updated_at: datetime) -> Record:
    """Return the record with the segment's changes and the next version. Other fields keep their exact values."""
    before = read_segment(record)
    data = dict(_mapping(record.get("data")))
    unique = {**_mapping(data.get("unique")), "name": name_key(org, segment.name)}
    updated: Record = {**record, "version": segment.version + 1, "modifydate": updated_at}
    if segment.state != before.state:
        updated["state"] = segment.state
    if segment.state == "deleted":
        del unique["name"]  # a deleted segment's name is free
    if segment.name != before.name:
        updated["name"] = data["name"] = segment.name
    if segment.description != before.description:
        data["description"] = segment.description
    if segment.filter != before.filter:
        data["filter"] = {**_mapping(data.get("filter")), **_stored_filter(segment.filter)}
    return {**updated, "data": {**data, "unique": unique, **_last_write(segment, segment.version + 1)}}


def touch_segment_record(record: Record, segment: Segment, updated_at: datetime) -> Record:
    """Return the record with the next version, after an edit of its list."""
    last_write = _last_write(segment, segment.version + 1, is_list_edit=True)
    data = {**_mapping(record.get("data")), **last_write}
    return {**record, "version": segment.version + 1, "modifydate": updated_at, "data": data}


def read_segment(record: Mapping[str, Any]) -> Segment:
    """Return the segment in a record, which the platform may have written."""
    data = _mapping(record.get("data"))
    stored = _mapping(data.get("filter"))
    where = stored.get("where")
    version = _version(record.get("version"))
    author = _text(record.get("author"))
    last_write = _mapping(data.get("last_write"))
    is_current = last_write.get("version") == version
    return Segment(
        id=_text(record.get("pk")),
        name=_text(record.get("name")) or _text(data.get("name")),
        description=_text(data.get("description")),
        type=SegmentType.STATIC if data.get("type") == SegmentType.STATIC else SegmentType.DYNAMIC,
        filter=Filter(_text(stored.get("datatype")) or "contact", where if isinstance(where, Mapping) else None),
        state=_text(record.get("state")) or "active",
        version=version,
        created_at=_parse_datetime(record.get("createdate")),
        updated_at=_parse_datetime(record.get("modifydate")),
        author=author,
        # The author wrote version 0. The platform does not record who wrote its later versions.
        editor=_text(last_write.get("editor")) if is_current else author if version == 0 else "",
        list_edited=is_current and last_write.get("is_list_edit") is True,
    )


def _stored_filter(value: Filter) -> Record:
    where = {} if value.where is None else {"where": value.where}
    return {"datatype": value.datatype, **where}


def _last_write(segment: Segment, version: int, *, is_list_edit: bool = False) -> Record:
    """Return the editor and the filter's references. A static segment's filter is history, without references."""
    where = segment.filter.where if segment.type is SegmentType.DYNAMIC else None
    last_write = {"version": version, "editor": segment.editor, **({"is_list_edit": True} if is_list_edit else {})}
    return {"last_write": last_write, "references": sorted(audience_references(where))}


def _version(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value <= MAX_VERSION else 0


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return the value if it is an object, else an empty one: records of the platform may contain any value."""
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _parse_datetime(value: Any) -> datetime | None:
    """Return a stored date, or one parsed from ISO text; None for any other value."""
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(parsed, datetime):
            return None
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
