"""The kinds of audience: everything that has an id and members.

Audience
├── ListAudience       a list: a static segment, a snapshot, an uploaded list, a lookalike
└── FilterAudience     a filter: a dynamic segment, a retargeting pixel

The features that store audiences load them as one of the two, each by the prefix of its ids: see AudienceLoader.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.idempotency import CreationState
from audience_service.domain.filters import Filter, fits_struct
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.population import Population

MAX_NAME_LENGTH = 200
MAX_DESCRIPTION_LENGTH = 2_000


@dataclass(frozen=True, slots=True)
class ResolvedAudience:
    """An audience as it is now, and its members.

    `filter` holds the datatype alone if the audience is a list. Kinds without versions have version 0.
    """

    id: str
    name: str
    version: int
    filter: Filter
    population: Population


@dataclass(frozen=True, slots=True)
class ListAudience:
    """An audience that is a list. It has members only if it is READY."""

    id: str
    name: str
    member_list: MemberList
    version: int = 0
    creation_state: CreationState = CreationState.READY

    @property
    def filter(self) -> Filter:
        """The datatype alone: the list decides."""
        return Filter(self.member_list.datatype, None)


@dataclass(frozen=True, slots=True)
class FilterAudience:
    """An audience that is a filter."""

    id: str
    name: str
    filter: Filter
    version: int = 0


Audience = ListAudience | FilterAudience


class AudienceLoader(Protocol):
    """Loads audiences of one kind within the caller's org."""

    def load(self, ctx: RequestContext, audience_ids: Sequence[str]) -> Mapping[str, Audience]:
        """The audiences that exist, by id. Raises UnusableAudience if one of them cannot be used."""


class SelectedSnapshot(Protocol):
    """A snapshot whose members a request selects."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def count(self) -> int:
        """How many members it has."""

    @property
    def rows(self) -> MemberList:
        """All its members, including those whose records were archived or deleted since."""

    @property
    def unarchived_rows(self) -> MemberList:
        """Its members whose records still exist and are not archived."""


class SnapshotFinder(Protocol):
    """Finds the snapshots that requests select."""

    def get_ready(self, ctx: RequestContext, snapshot_id: str) -> SelectedSnapshot:
        """The snapshot. Raises SnapshotNotFound, SnapshotNotReady."""

    def verify_complete(self, ctx: RequestContext, snapshot: SelectedSnapshot, count: int | None = None) -> None:
        """Raise SnapshotNotFound if rows were deleted during a read; `count` is the number of rows read, if all."""


def to_response_form(stored: Filter) -> Filter:
    """A stored filter whose field paths have the form that callers see."""
    return replace(stored, exact=not fits_struct(stored.where or {}))
