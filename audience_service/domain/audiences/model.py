"""The kinds of audience: whatever an id stands for that has members.

Audience
├── Segment            saved by callers: a filter, or a list frozen from one
├── ListedAudience     a list under an id: a snapshot, an uploaded list, a lookalike
└── RuledAudience      a filter under an id: a retargeting pixel
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.idempotency import CreationState
from audience_service.domain.filters import Filter, fits_struct
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.population import Population
from audience_service.domain.segments.model import Segment, SegmentType


@dataclass(frozen=True, slots=True)
class ResolvedAudience:
    """What an id stands for: the audience as it is now, and its members.

    `filter` holds the datatype alone, where the audience is a list. Kinds without versions are at 0.
    """

    id: str
    name: str
    version: int
    filter: Filter
    population: Population


@dataclass(frozen=True, slots=True)
class ListAudience:
    """An audience that is a list and no segment. It has members only if it is READY."""

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
    """An audience that is a filter and no segment."""

    id: str
    name: str
    filter: Filter
    version: int = 0


Audience = Segment | ListAudience | FilterAudience

AudienceLoader = Callable[[RequestContext, str], ListAudience | FilterAudience]
"""The audience of an id that is no segment's. Raises AudienceNotFound, UnusableAudience."""


def to_response_form(stored: Filter) -> Filter:
    """A stored filter with places in the form in which callers are shown it."""
    return replace(stored, exact=not fits_struct(stored.where or {}))


def filter_of(audience: Audience) -> Filter:
    """What decides who is in an audience: of a list the datatype alone, since a static segment's filter is history."""
    is_static = isinstance(audience, Segment) and audience.type is SegmentType.STATIC
    return Filter(audience.filter.datatype, None) if is_static else audience.filter
