"""The snapshot: who was in an audience at a moment, and the manifest that says so."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from audience_service.domain.audiences.model import MAX_NAME_LENGTH
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.filters import Filter
from audience_service.domain.filters.member_list import MemberList

SNAPSHOT_PREFIX = "snapshot-"
DEFAULT_TIME_TO_LIVE = timedelta(days=30)
COPYING_PROGRESS, COUNTING_PROGRESS, READY_PROGRESS = 10, 90, 100
"""Progress in per cent at the start of each stage. One command copies all members, so nothing between is known."""
_MIN_TIME_TO_LIVE, _MAX_TIME_TO_LIVE = timedelta(minutes=1), timedelta(days=3_653)


class SnapshotState(StrEnum):
    """How far a snapshot is. Its members can be read once it is READY, and are all there then."""

    CREATING = "CREATING"
    READY = "READY"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class SnapshotSource:
    """An audience as it was when a snapshot was made; of lists the filter is the datatype alone."""

    audience_id: str
    version: int
    filter: Filter


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The manifest. What was frozen is either `sources` or an unsaved `filter`.

    `exclusions` are how many were left out, by reason. `attempt` is which try to make it this is: each writes rows of
    its own, so that one that was given up, and may be running still, never mixes with a later one. `held_until` is when
    the lease of the one that is being made runs out. `progress` is in per cent; within an attempt it only rises.
    """

    id: str
    name: str
    state: SnapshotState
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
    exclusions: Mapping[str, int] = field(default_factory=dict)
    read_at: datetime | None = None
    point_in_time: bool = False
    lease_until: datetime | None = None

    def can_retry(self, instant: datetime) -> bool:
        """Whether another attempt may begin: the last one has failed, or its maker has not been heard of for long."""
        if self.state is SnapshotState.CREATING:
            return self.lease_until is not None and self.lease_until < instant
        return self.state is SnapshotState.FAILED

    @property
    def list_version_id(self) -> str:
        """What the rows of this attempt carry."""
        return f"{self.id}.{self.attempt}"

    @property
    def rows(self) -> MemberList:
        """All that were frozen."""
        return MemberList(self.list_version_id, self.datatype, include_inactive=True)

    @property
    def active_rows(self) -> MemberList:
        """Those frozen that are still in use."""
        return MemberList(self.list_version_id, self.datatype)


@dataclass(frozen=True, slots=True)
class SnapshotQuery:
    """Which snapshots to list; empty strings do not restrict."""

    audience_id: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotPage:
    """A page of snapshots, newest first, the key of the last where others follow, and how many all pages hold."""

    snapshots: tuple[Snapshot, ...]
    last: tuple[str, str] | None
    total: int


def check_snapshot_name(name: str) -> str:
    """The name, which may be empty. Raises InvalidArgument."""
    if len(name) > MAX_NAME_LENGTH or "\0" in name:
        raise InvalidArgument.at("name", f"has more than {MAX_NAME_LENGTH} characters, or a NUL")
    return name


def check_time_to_live(time_to_live: timedelta | None) -> timedelta:
    """How long to keep a snapshot, the default for None. Raises InvalidArgument."""
    if time_to_live is None:
        return DEFAULT_TIME_TO_LIVE
    if not _MIN_TIME_TO_LIVE <= time_to_live <= _MAX_TIME_TO_LIVE:
        raise InvalidArgument.at("time_to_live", "is less than a minute or more than ten years")
    return time_to_live
