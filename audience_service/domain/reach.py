"""The use case on reach: how many members there are, and what one of them is like."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audience_service.domain.audiences import Audiences, Selection
from audience_service.domain.caller import Call
from audience_service.domain.clock import now
from audience_service.domain.ports import MemberRepository
from audience_service.domain.profile import masked_profile


@dataclass(frozen=True, slots=True)
class ReachEstimate:
    """A count, exact as of `read_at`, and a masked member; None where there is none."""

    count: int
    sample_profile: Mapping[str, Any] | None
    read_at: datetime


class Reach:
    """Counts audiences and unsaved filters."""

    def __init__(self, members: MemberRepository, audiences: Audiences) -> None:
        self._members = members
        self._audiences = audiences

    def estimate(self, call: Call, selection: Selection) -> ReachEstimate:
        """The reach of a selection. Raises InvalidArgument, AudienceNotFound, UnusableAudience, OutOfTime."""
        population = self._audiences.population(call, selection)
        read_at = now()
        count, record = self._members.reach(call.org, population, call.deadline)
        profile = masked_profile(record.get("data") or {}) if record else None
        return ReachEstimate(count, profile, read_at)
