"""The segment: a saved filter or a frozen list, and the checks on what a caller may set of it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from audience_service.domain.audiences.model import MAX_DESCRIPTION_LENGTH, MAX_NAME_LENGTH
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.filters import Filter

MAX_CONTACT_IDS = 50_000
"""How many ids one request may carry; 200,000 would not fit gRPC's 4 MiB."""

ID_PREFIX = "segment-"


class SegmentType(StrEnum):
    """How a segment's members are decided. It never changes."""

    DYNAMIC = "dynamic"
    STATIC = "static"


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as it is stored; ids, times, version and author are the service's to give.

    A static segment's filter is what its list was frozen from, with `where` None where it was made from ids.
    `contact_count` is the length of a static segment's list where it has been counted. `editor` is the subject that
    wrote this version, empty where that is not known; `list_edited` says that the write was an edit of the list.
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
    """What to freeze into a static segment: exactly one of the two is set."""

    filter: Filter | None = None
    audience_id: str = ""


@dataclass(frozen=True, slots=True)
class SegmentDraft:
    """What a caller wants a segment to be. `type` is as written, empty for the default."""

    name: str
    description: str = ""
    type: str = ""
    filter: Filter | None = None
    contact_ids: tuple[str, ...] = ()


class Order(StrEnum):
    """What a list of segments may be ordered by."""

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


@dataclass(frozen=True, slots=True)
class SegmentPage:
    """One page. `last` is the key (order value, sk) to go on after, None on the last page."""

    segments: tuple[Segment, ...]
    last: tuple[str, str] | None
    total: int


def check_name(name: str) -> str:
    """The name without spaces around it. Raises InvalidArgument at `segment.name`."""
    trimmed = name.strip()
    if not trimmed:
        raise InvalidArgument.at("segment.name", "is missing")
    if len(trimmed) > MAX_NAME_LENGTH:
        raise InvalidArgument.at("segment.name", f"has {len(trimmed)} characters, more than {MAX_NAME_LENGTH}")
    if not trimmed.isprintable():
        raise InvalidArgument.at("segment.name", "holds a line break or another control character")
    return trimmed


def check_description(description: str) -> str:
    """The description. Raises InvalidArgument at `segment.description`."""
    if len(description) > MAX_DESCRIPTION_LENGTH:
        raise InvalidArgument.at(
            "segment.description", f"has {len(description)} characters, more than {MAX_DESCRIPTION_LENGTH:,}"
        )
    return description


def check_type(written: str, field_path: str) -> SegmentType:
    """The type, dynamic where none is written. Raises InvalidArgument at `place`."""
    try:
        return SegmentType(written or SegmentType.DYNAMIC)
    except ValueError:
        raise InvalidArgument.at(field_path, "is neither dynamic nor static") from None


def check_order(written: str) -> tuple[Order, bool]:
    """The order and whether it descends, from `name` or `name desc`. Raises InvalidArgument at `order_by`."""
    field, _, direction = (written.strip() or "create_time desc").partition(" ")
    direction = direction.strip().lower()
    if field not in list(Order) or direction not in ("", "asc", "desc"):
        raise InvalidArgument.at("order_by", f"is one of {', '.join(Order)}, with ` desc` for descending order")
    return Order(field), direction == "desc"


def check_contact_ids(ids: tuple[str, ...], field_path: str) -> tuple[str, ...]:
    """The ids as given. Raises InvalidArgument at `place` for too many or an empty one."""
    if len(ids) > MAX_CONTACT_IDS:
        raise InvalidArgument.at(
            field_path, f"holds {len(ids):,} ids, more than {MAX_CONTACT_IDS:,}; add the rest with AddSegmentContacts"
        )
    for index, contact_id in enumerate(ids):
        if not contact_id:
            raise InvalidArgument.at(f"{field_path}[{index}]", "is empty")
    return ids
