"""What a caller selects members by, and the fields of a request that it sets."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from audience_client.pb.audience.v1.resources_pb2 import Filter

Audience: TypeAlias = str | Sequence[str] | Mapping[str, Any] | Filter
"""The id of a segment, custom audience or snapshot; several ids, for their union; or a filter.

A filter is a Filter, or a mapping with its fields: `{"datatype": "contact", "where": {"tags": "vip"}}`.
"""

_SNAPSHOT_PREFIX = "snapshot-"
_FILTER_KEYS = {"datatype", "where"}


def make_filter(filter: Mapping[str, Any] | Filter) -> Filter:  # noqa: A002 - the service's word
    """The message of a filter. A `datetime` in `where` becomes a date.

    Raises ValueError for an unknown key, a missing `where`, a number that JSON lacks, or a datetime without timezone.
    """
    if isinstance(filter, Filter):
        return filter
    if unknown := filter.keys() - _FILTER_KEYS:
        raise ValueError(f"filter: has {sorted(unknown)[0]!r}; its keys are 'datatype' and 'where'")
    if "where" not in filter:
        raise ValueError("filter: has no 'where'; write {'datatype': 'contact', 'where': {...}}")
    text = json.dumps(filter["where"], allow_nan=False, default=_extended_json)
    return Filter(datatype=filter.get("datatype", "contact"), where_json=text)


def select(request: Any, audience: Audience, exclude: Sequence[str] = (), purpose: str = "") -> None:
    """Set the selector of a request. Raises ValueError if `audience` selects nothing, or as make_filter."""
    if isinstance(audience, (Filter, Mapping)):
        request.filter.CopyFrom(make_filter(audience))
    elif isinstance(audience, str):
        has_snapshots = "snapshot_id" in request.DESCRIPTOR.fields_by_name
        is_snapshot = has_snapshots and audience.startswith(_SNAPSHOT_PREFIX)
        setattr(request, "snapshot_id" if is_snapshot else "audience_id", audience)
    else:
        request.audience_ids.extend(audience)
    if not audience:
        raise ValueError("audience: is empty; give an id, several ids, or a filter")
    if isinstance(exclude, str):
        raise ValueError(f"exclude: is a text; write [{exclude!r}]")
    request.exclude_audience_ids.extend(exclude)
    request.purpose = purpose


def _extended_json(value: Any) -> Any:
    """The form in MongoDB's Extended JSON of a value that JSON lacks."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"filter.where: {value.isoformat()} has no timezone; write datetime(..., tzinfo=UTC)")
        text = value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"$date": text}
    raise ValueError(f"filter.where: a {type(value).__name__} is not a value of a filter")
