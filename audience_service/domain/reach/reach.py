"""The use cases on reach: how many members there are, and what one of them is like."""

import random
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.audiences.selection import Selection
from audience_service.domain.caller import Call, Deadline
from audience_service.domain.clock import now
from audience_service.domain.errors import OutOfTime
from audience_service.domain.ports import MemberRepository, Population, Record, SliceRepository
from audience_service.domain.profile import masked_profile
from audience_service.domain.reach.draws import Estimate
from audience_service.domain.reach.narrowing import SAMPLED, Narrowing
from audience_service.domain.reach.single_flight import SingleFlight

_RESERVE_SECONDS, _RESERVE_SHARE = 1.0, 0.4
"""What of the deadline is kept for a sample where the caller states no budget: the lesser of the two."""


@dataclass(frozen=True, slots=True)
class ReachEstimate:
    """A count, exact or sampled, as of `read_at`, and a masked member; None where there is none, or none was met."""

    estimate: Estimate
    sample_profile: Mapping[str, Any] | None
    read_at: datetime


@dataclass(frozen=True, slots=True)
class ReachStep(ReachEstimate):
    """An estimate of a stream: `read` of about `total` records have been looked at."""

    read: int
    total: int


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a call has found, and how many seconds it gave the exact count."""

    reach: ReachEstimate
    patience: float | None


class Reach:
    """Counts audiences and unsaved filters."""

    def __init__(
        self,
        members: MemberRepository,
        slices: SliceRepository,
        audiences: Audiences,
        sampled: int = SAMPLED,
        new_random: Callable[[], random.Random] = random.Random,
    ) -> None:
        """`sampled` is the most records of a sample; `new_random` returns the generator that draws it."""
        self._members = members
        self._slices = slices
        self._audiences = audiences
        self._sampled = sampled
        self._new_random = new_random
        self._flights: SingleFlight[_Answer] = SingleFlight()

    def estimate(self, call: Call, selection: Selection, budget: float | None = None) -> ReachEstimate:
        """The reach of a selection: exact if that takes no more than `budget` seconds, else of a sample.

        Without a budget an exact count may take what the deadline leaves of it. Identical calls at the same time share
        one answer. Raises InvalidArgument, AudienceNotFound, UnusableAudience, and OutOfTime where neither the count
        nor the sample fits the deadline.
        """
        population, identity = self._audiences.identified(call, selection)
        patience = _patience(call.deadline, budget)

        def suits(other: _Answer) -> bool:
            return other.reach.estimate.exact or _as_patient(other.patience, patience)

        def work() -> _Answer:
            return _Answer(self._estimate(call, population, patience), patience)

        return self._flights.share((call.org, identity, budget), call.deadline, work, suits).reach

    def stream(self, call: Call, selection: Selection) -> Generator[ReachStep, None, None]:
        """Estimates of a selection's reach that narrow; the last one is exact and shows a member. Raises as `estimate`.

        Each takes one short query; closed between two, the generator asks nothing more of the database.
        """
        population = self._audiences.population(call, selection)
        read_at = now()
        steps = self._narrowing(call, population).steps()
        with closing(steps):
            for step in steps:
                yield ReachStep(step.estimate, _profile(step.record), read_at, step.read, step.total)

    def _estimate(self, call: Call, population: Population, patience: float | None) -> ReachEstimate:
        read_at = now()
        deadline = call.deadline if patience is None else call.deadline.within(patience)
        try:
            count, record = self._members.reach(call.org, population, deadline)
            return ReachEstimate(Estimate.of(count), _profile(record), read_at)
        except OutOfTime:
            call.deadline.check()
        read_at = now()
        step = self._narrowing(call, population).sampled(self._sampled)
        return ReachEstimate(step.estimate, _profile(step.record), read_at)

    def _narrowing(self, call: Call, population: Population) -> Narrowing:
        return Narrowing(self._slices, call.org, population, call.deadline, self._new_random())


def _patience(deadline: Deadline, budget: float | None) -> float | None:
    """How many seconds the exact count is given, None for as many as it takes."""
    left = deadline.remaining()
    if budget is not None or left is None:
        return budget
    return left - min(_RESERVE_SECONDS, left * _RESERVE_SHARE)


def _as_patient(other: float | None, own: float | None) -> bool:
    """Whether an exact count that got no time with one would, by and large, have got none with the other."""
    return other is None or (own is not None and other >= own * 0.9)


def _profile(record: Record | None) -> Mapping[str, Any] | None:
    """What is shown of a record; nothing of one whose payload is no object."""
    data = record.get("data") if record else None
    return masked_profile(data if isinstance(data, Mapping) else {}) if record else None
