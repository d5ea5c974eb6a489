"""Counting in slices: a sampled estimate first, estimates that narrow, and the exact count in the end.

Every step is one short query, so that a caller who stops between two steps costs the database no more than that; but
related records, if the population is told by any, are read at once before the slices. All records between the landmarks
are counted, also those that have come since these were read: the end is exact.
"""

import random
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from audience_service.domain.caller import Deadline
from audience_service.domain.errors import OutOfTime
from audience_service.domain.ports import Population, Record, SliceRepository
from audience_service.domain.reach.draws import Draws, Estimate, draw

SAMPLED = 4_000
"""Records that a sample holds at most, if the org has so many landmarks."""

_FIRST, _MORE = 500, 3
"""Records of the first estimate of a stream, and how many times as many are added next."""
_APART = 100
"""Beyond that, one record in so many: one that is sought costs several that are read in a row."""
_FEW = 1_000
"""So many records are counted at once, without a sample."""
_STEP_SECONDS, _LONGEST_SECONDS = 0.08, 0.2
"""How long a query should take, and when it is given up for a smaller one."""
_SETTLE_SECONDS = 30.0
"""How long the one query may take that spares slices of related records most of their work."""
_FIRST_SLICE = 2_000
"""Slices get no smaller than this for being slow, until one is given up: what takes long may not be the records."""
_GROWTH = 4
"""How many times as large, or as small, as the one before a query may be."""
_RECORD_SECONDS = 50e-6
"""What a record of a sample takes, at a guess, to choose a sample that fits the time."""
_SMALLEST_SAMPLE = 100
_SHOWN_TRIES = 5
"""How many members of a sample are looked up until one is found to show."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where a count stands. `read` of about `total` records have been looked at; the record is any member, if known."""

    estimate: Estimate
    read: int
    total: int
    record: Record | None = None


class Narrowing:
    """One population's way to its count."""

    def __init__(
        self, slices: SliceRepository, org: str, population: Population, deadline: Deadline, chance: random.Random
    ) -> None:
        self._slices = slices
        self._org = org
        self._population = population
        self._deadline = deadline
        self._chance = chance
        self._size = float(_FIRST_SLICE)
        self._found: tuple[str, str] | None = None

    def sampled(self, size: int = SAMPLED) -> Step:
        """One estimate, of as large a sample as the deadline allows; exact where there are no more records than that.

        Raises OutOfTime where it allows none.
        """
        sample = Draws(self._slices.landmarks(self._org, self._population, self._deadline))
        landmarks = sample.landmarks
        if landmarks.total <= size:
            count = self._slices.count_between(self._org, self._population, "", "", self._deadline)
            record = self._first("", "") if count else None
            return Step(Estimate.of(count), landmarks.total, landmarks.total, record)
        self._prefetch_addresses()
        while not sample.drawn:
            left = self._deadline.remaining()
            fits = size if left is None else min(size, max(int(left / 2 / _RECORD_SECONDS), _SMALLEST_SAMPLE))
            last = left is None or fits <= _SMALLEST_SAMPLE
            within = self._deadline if last else self._deadline.within((left or 0) / 2)
            try:
                sample = self._look(sample, draw(landmarks, fits, self._chance), within)
            except OutOfTime:
                if last:
                    raise
                size = fits // _GROWTH
        # A member may have gone since it was drawn, and a frozen list may hold records that no longer exist.
        shown = (self._first(landmarks.end(hit), landmarks.keys[hit]) for hit in sample.hits[:_SHOWN_TRIES])
        record = next((found for found in shown if found), None)
        return Step(sample.estimate(), sample.read(0), landmarks.total, record)

    def steps(self) -> Generator[Step, None, None]:
        """Estimates that narrow; the last one is exact and has the record."""
        sample = Draws(self._slices.landmarks(self._org, self._population, self._deadline))
        total = sample.landmarks.total
        if total > _FEW:
            self._prefetch_addresses()
            for larger in self._samples(sample):
                sample = larger
                yield Step(sample.estimate(), sample.read(0), total)
            self._settle()
        estimate = sample.estimate()
        counted = upto = 0
        while True:
            end = self._end(sample, upto)
            try:
                counted += self._count(sample, upto, end)
            except OutOfTime:
                self._deadline.check()
            else:
                upto = end
                if upto > len(sample.landmarks.keys):
                    break
            known = estimate.within(counted, counted + sample.left(upto))
            estimate = sample.estimate(counted, upto).unless_narrower(known)
            yield Step(estimate, sample.read(upto), total)
        record = self._first(*self._found) if self._found else None
        yield Step(Estimate.of(counted), total, total, record)

    def _prefetch_addresses(self) -> None:
        self._population = self._slices.with_prefetched_addresses(self._org, self._population, self._deadline)

    def _settle(self) -> None:
        """Ready the population for its slices, unless that takes long: then each is counted by itself."""
        try:
            within = self._deadline.within(_SETTLE_SECONDS)
            self._population = self._slices.settled(self._org, self._population, within)
        except OutOfTime:
            self._deadline.check()

    def _samples(self, sample: Draws) -> Iterator[Draws]:
        """A small sample and then larger ones, each by one query of bounded length; fewer where they are slow."""
        most = min(SAMPLED, max(_FIRST, sample.landmarks.total // _APART))
        order = draw(sample.landmarks, most, self._chance)
        size = _FIRST
        while order:
            try:
                sample = self._look(sample, order[:size], self._deadline.within(_LONGEST_SECONDS))
            except OutOfTime:
                self._deadline.check()
                order = order[: size // _GROWTH]
                size = max(len(order), 1)
            else:
                order, size = order[size:], size * _MORE
            yield sample

    def _look(self, sample: Draws, numbers: list[int], deadline: Deadline) -> Draws:
        keys = [sample.landmarks.keys[number] for number in numbers]
        return sample.with_more(numbers, self._slices.among(self._org, self._population, keys, deadline))

    def _end(self, sample: Draws, upto: int) -> int:
        """How many stretches are counted with the next slice; one more than there are landmarks for all the rest."""
        landmarks = sample.landmarks
        left = sample.left(upto)
        if left <= self._size * 1.25:
            return len(landmarks.keys) + 1
        return landmarks.cut(landmarks.total - left + int(self._size) - 1) + 1

    def _count(self, sample: Draws, upto: int, end: int) -> int:
        """The members in the slice. Sets the size of the next one by how long it took. Raises OutOfTime."""
        landmarks = sample.landmarks
        after, until = landmarks.end(upto), landmarks.end(end) if end <= len(landmarks.keys) else ""
        records = sample.left(upto) - (sample.left(end) if until else 0)
        smallest = end == upto + 1
        deadline = self._deadline if smallest else self._deadline.within(_LONGEST_SECONDS)
        begun = time.monotonic()
        try:
            found = self._slices.count_between(self._org, self._population, after, until, deadline)
        except OutOfTime:
            self._size = max(records / _GROWTH, 1.0)
            raise
        ratio = _STEP_SECONDS / max(time.monotonic() - begun, 1e-6)
        self._size = max(records * min(max(ratio, 1 / _GROWTH), _GROWTH), min(records, _FIRST_SLICE), 1.0)
        if found and not self._found:
            self._found = after, until
        return found

    def _first(self, after: str, until: str) -> Record | None:
        return self._slices.first_between(self._org, self._population, after, until, self._deadline)
