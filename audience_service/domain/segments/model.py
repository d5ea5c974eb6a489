"""The segment: a saved filter or a static list, and the checks on the values that a caller may set."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from audience_service.domain.audiences.model import MAX_DESCRIPTION_LENGTH, MAX_NAME_LENGTH
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.filters import Filter

MAX_CONTACT_IDS = 50_000
"""The most ids in one request. 200,000 would exceed gRPC's limit of 4 MiB a message."""

ID_PREFIX = "segment-"


class SegmentType(StrEnum):
    """How a segment's members are decided. It never changes."""

    DYNAMIC = "dynamic"
    STATIC = "static"


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as it is stored. The service sets id, times, version, author and editor.

    The filter of a static segment is the one that its list was filled from; its `where` is None if it was filled from
    ids. `contact_count` is the length of a static segment's list, if counted. `editor` is the subject that wrote this
    version, empty if unknown. `list_edited` is true if that write changed the list.
    """

    id: str
    name: str
    description: str
    type: SegmentType
    filter: Filter
    state: str = "active"
    version: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    author: str = ""
    contact_count: int | None = None
    editor: str = ""
    list_edited: bool = False


@dataclass(frozen=True, slots=True)
class ListSource:
    """The source of a static segment's list: exactly one of the two is set."""

    filter: Filter | None = None
    audience_id: str = ""


@dataclass(frozen=True, slots=True)
class SegmentDraft:
    """A segment as a caller writes it. An empty `type` is the default."""

    name: str
    description: str = ""
    type: str = ""
    filter: Filter | None = None
    contact_ids: tuple[str, ...] = ()


class Order(StrEnum):
    """The field that a list of segments is ordered by."""

    NAME = "name"
    CREATE_TIME = "create_time"
    UPDATE_TIME = "update_time"


@dataclass(frozen=True, slots=True)
class SegmentQuery:
    """Which segments to list and how; empty strings do not restrict. Without a state, those not deleted."""

    name: str = ""
    type: str = ""
    state: str = ""
    order: Order = Order.CREATE_TIME
    descending: bool = True


def check_name(name: str) -> str:
    """The name without surrounding spaces. Raises InvalidArgument at `segment.name`."""
    trimmed = name.strip()
    if not trimmed:
        raise InvalidArgument.at("segment.name", "is missing; give the segment a name")
    if len(trimmed) > MAX_NAME_LENGTH:
        raise InvalidArgument.at("segment.name", f"has {len(trimmed)} characters, more than {MAX_NAME_LENGTH}")
    if not trimmed.isprintable():
        raise InvalidArgument.at("segment.name", "has a line break or another control character; remove it")
    return trimmed


def check_description(description: str) -> str:
    """The description. Raises InvalidArgument at `segment.description`."""
    if len(description) > MAX_DESCRIPTION_LENGTH:
        raise InvalidArgument.at(
            "segment.description", f"has {len(description)} characters, more than {MAX_DESCRIPTION_LENGTH:,}"
        )
    return description


def check_type(written: str, field_path: str) -> SegmentType:
    """The type, dynamic by default. Raises InvalidArgument at `field_path`."""
    try:
        return SegmentType(written or SegmentType.DYNAMIC)
    except ValueError:
        raise InvalidArgument.at(field_path, "is not a type; set dynamic or static") from None


def check_order(written: str) -> tuple[Order, bool]:
    """The order and whether it descends, from `name` or `name desc`. Raises InvalidArgument at `order_by`."""
    field, _, direction = (written.strip() or "create_time desc").partition(" ")
    direction = direction.strip().lower()
    if field not in list(Order) or direction not in ("", "asc", "desc"):
        raise InvalidArgument.at(
            "order_by", f"is not an order; use one of {', '.join(Order)}, with ` desc` for descending order"
        )
    return Order(field), direction == "desc"


def check_contact_ids(ids: tuple[str, ...], field_path: str) -> tuple[str, ...]:
    """The ids as given. Raises InvalidArgument at `field_path` if there are too many or one is empty."""
    if len(ids) > MAX_CONTACT_IDS:
        raise InvalidArgument.at(
            field_path, f"has {len(ids):,} ids, more than {MAX_CONTACT_IDS:,}; add the rest with AddSegmentContacts"
        )
    for index, contact_id in enumerate(ids):
        if not contact_id:
            raise InvalidArgument.at(f"{field_path}[{index}]", "is empty")
    return ids
