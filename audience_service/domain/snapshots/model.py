"""The snapshot: the manifest of the members that an audience had at one time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from audience_service.domain.audiences.model import MAX_NAME_LENGTH
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.core.idempotency import CreationState
from audience_service.domain.filters import Filter
from audience_service.domain.filters.member_list import MemberList

SNAPSHOT_PREFIX = "snapshot-"
DEFAULT_TIME_TO_LIVE = timedelta(days=30)
COPYING_PROGRESS, COUNTING_PROGRESS, READY_PROGRESS = 10, 90, 100
"""Progress in per cent at the start of each stage. One command copies all members, so it has no steps between."""
_MIN_TIME_TO_LIVE, _MAX_TIME_TO_LIVE = timedelta(minutes=1), timedelta(days=3_653)


@dataclass(frozen=True, slots=True)
class SnapshotSource:
    """An audience as it was when a snapshot was created. The filter of a list has only the datatype."""

    audience_id: str
    version: int
    filter: Filter


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The manifest. Its members come either from `sources` or from an unsaved `filter`.

    `exclusions` are the numbers of excluded records, by reason. `attempt` counts the attempts to create it. Each writes
    rows of its own, so that an abandoned one, which may still run, never mixes with a later one. `lease_until` is when
    the lease of the current attempt expires. `progress` is in per cent; within an attempt it only rises.
    `slice_ends` are the sk that end slices of the rows.
    """

    id: str
    name: str
    state: CreationState
    datatype: str
    created_at: datetime
    expires_at: datetime
    author: str
    sources: tuple[SnapshotSource, ...] = ()
    filter: Filter | None = None
    excluded_sources: tuple[SnapshotSource, ...] = ()
    purpose: str = ""
    attempt: int = 1
    progress: int = 0
    error: str = ""
    count: int = 0
    digest: str = ""
    slice_ends: tuple[str, ...] = ()
    exclusions: Mapping[str, int] = field(default_factory=dict)
    read_at: datetime | None = None
    point_in_time: bool = False
    lease_until: datetime | None = None

    def can_retry(self, instant: datetime) -> bool:
        """Whether another attempt may start: the last one has failed, or its lease has expired."""
        if self.state is CreationState.CREATING:
            return self.lease_until is not None and self.lease_until < instant
        return self.state is CreationState.FAILED

    @property
    def list_version_id(self) -> str:
        """The id that the rows of this attempt have."""
        return f"{self.id}.{self.attempt}"

    @property
    def rows(self) -> MemberList:
        """All stored rows."""
        return MemberList(self.list_version_id, self.datatype, include_inactive=True)

    @property
    def unarchived_rows(self) -> MemberList:
        """The stored rows whose records still exist and are not archived."""
        return MemberList(self.list_version_id, self.datatype)


@dataclass(frozen=True, slots=True)
class SnapshotQuery:
    """Which snapshots to list; empty strings do not restrict."""

    audience_id: str = ""
    state: str = ""


def check_snapshot_name(name: str) -> str:
    """The name, which may be empty. Raises InvalidArgument."""
    if len(name) > MAX_NAME_LENGTH or "\0" in name:
        raise InvalidArgument.at("name", f"is too long or has a NUL; use at most {MAX_NAME_LENGTH} characters")
    return name


def check_time_to_live(time_to_live: timedelta | None) -> timedelta:
    """How long to keep a snapshot, the default for None. Raises InvalidArgument."""
    if time_to_live is None:
        return DEFAULT_TIME_TO_LIVE
    if not _MIN_TIME_TO_LIVE <= time_to_live <= _MAX_TIME_TO_LIVE:
        raise InvalidArgument.at("time_to_live", "is out of range; use one minute to ten years")
    return time_to_live
