"""The records of the export log. They have ids, counts and reasons, and never a value of a person's record."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

EXPORT_PREFIX = "export-"


class ExportState(StrEnum):
    """The state of an export.

    SENDING: the call runs, or its process died. COMPLETED: everything was sent. FAILED: the call ended with an error.
    CANCELLED: the client disconnected.
    """

    SENDING = "SENDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class ExportContent:
    """What a call sends, as its request or its sync says. `audience_ids` has audiences and snapshots."""

    rpc: str
    audience_ids: tuple[str, ...] = ()
    exclude_audience_ids: tuple[str, ...] = ()
    has_filter: bool = False
    purpose: str = ""
    platform: str = ""
    fields: tuple[str, ...] = ()
    sync_id: str = ""


@dataclass(frozen=True, slots=True)
class ExportRecord:
    """One call that sent rows. `subject` and `request_id` are those of its line in the audit log."""

    id: str
    content: ExportContent
    subject: str
    request_id: str
    started_at: datetime
    state: ExportState = ExportState.SENDING
    ended_at: datetime | None = None
    row_count: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ExportQuery:
    """Which exports to list; empty values do not restrict. `until` itself is left out."""

    audience_id: str = ""
    platform: str = ""
    since: datetime | None = None
    until: datetime | None = None
