"""The use cases on reach: how many members there are, and what one of them is like."""

import json
import random
from collections.abc import Callable, Generator, Hashable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from audience_service.domain.audiences.populations import Choice, Populations
from audience_service.domain.audiences.selection import Selection
from audience_service.domain.caller import Call, Deadline
from audience_service.domain.clock import now
from audience_service.domain.errors import OutOfTime
from audience_service.domain.filters import identity
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
    """Counts what member selectors select: the populations that streams of members read."""

    def __init__(
        self,
        members: MemberRepository,
        slices: SliceRepository,
        populations: Populations,
        sampled: int = SAMPLED,
        new_random: Callable[[], random.Random] = random.Random,
    ) -> None:
        """`sampled` is the most records of a sample; `new_random` returns the generator that draws it."""
        self._members = members
        self._slices = slices
        self._populations = populations
        self._sampled = sampled
        self._new_random = new_random
        self._flights: SingleFlight[_Answer] = SingleFlight()

    def estimate(self, call: Call, selection: Selection, budget: float | None = None) -> ReachEstimate:
        """The reach of a selection: exact if that takes no more than `budget` seconds, else of a sample.

        Without a budget an exact count may take what the deadline leaves of it. Identical concurrent calls share one
        answer. Raises what `Populations.choose` raises, and OutOfTime if neither the count nor the sample fits the
        deadline.
        """
        choice = self._populations.choose(call, selection)
        patience = _patience(call.deadline, budget)

        def suits(other: _Answer) -> bool:
            return other.reach.estimate.exact or _as_patient(other.patience, patience)

        def work() -> _Answer:
            return _Answer(self._estimate(call, choice, patience), patience)

        key = (call.org, flight_key(selection, choice), budget)
        return self._flights.share(key, call.deadline, work, suits).reach

    def stream(self, call: Call, selection: Selection) -> Generator[ReachStep, None, None]:
        """Estimates of a selection's reach that narrow; the last one is exact and shows a member. Raises as `estimate`.

        Each takes one short query; closed between two, the generator asks nothing more of the database.
        """
        choice = self._populations.choose(call, selection)
        read_at = now()
        steps = self._narrowing(call, choice.population).steps()
        with closing(steps):
            for step in steps:
                if step.estimate.exact:
                    self._populations.check_whole(call, choice, step.estimate.count)
                yield ReachStep(step.estimate, _profile(step.record), read_at, step.read, step.total)

    def _estimate(self, call: Call, choice: Choice, patience: float | None) -> ReachEstimate:
        read_at = now()
        deadline = call.deadline if patience is None else call.deadline.within(patience)
        try:
            count, record = self._members.reach(call.org, choice.population, deadline)
            self._populations.check_whole(call, choice, count)
            return ReachEstimate(Estimate.of(count), _profile(record), read_at)
        except OutOfTime:
            call.deadline.check()
        read_at = now()
        step = self._narrowing(call, choice.population).sampled(self._sampled)
        self._populations.check_whole(call, choice, step.estimate.count if step.estimate.exact else None)
        return ReachEstimate(step.estimate, _profile(step.record), read_at)

    def _narrowing(self, call: Call, population: Population) -> Narrowing:
        return Narrowing(self._slices, call.org, population, call.deadline, self._new_random())


def flight_key(selection: Selection, choice: Choice) -> Hashable:
    """Equal only for selectors that are equal in every field, of audiences in the same versions."""
    versions = tuple((source.id, source.version) for source in (*choice.sources, *choice.excluded_sources))
    written = replace(
        selection,
        filter=None,
        audience_ids=tuple(selection.audience_ids),
        exclude_audience_ids=tuple(selection.exclude_audience_ids),
    )
    return written, json.dumps(identity(selection.filter), sort_keys=True), versions


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
