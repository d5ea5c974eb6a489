"""Counting in slices: a sampled estimate first, estimates that narrow, and the exact count in the end.

Every step is one short query, so that a caller who stops between two steps costs the database no more than that; but
related records, if the population is told by any, are read at once before the slices. All records between the landmarks
are counted, also those that have come since these were read: the end is exact.
"""

import random
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from audience_service.domain.audiences.repository import SliceRepository
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import OutOfTime
from audience_service.domain.core.record import Record
from audience_service.domain.filters.population import Population
from audience_service.domain.reach.key_draw import Estimate, KeyDraw, draw_keys

MAX_SAMPLE_SIZE = 4_000
"""Records that a sample holds at most, if the org has so many landmarks."""

_INITIAL_SAMPLE, _SAMPLE_GROWTH = 500, 3
"""Records of the first estimate of a stream, and how many times as many are added next."""
_SEEK_THRESHOLD = 100
"""Beyond that, one record in so many: one that is sought costs several that are read in a row."""
_EXACT_LIMIT = 1_000
"""So many records are counted at once, without a sample."""
_TARGET_QUERY_SECONDS, _MAX_QUERY_SECONDS = 0.08, 0.2
"""How long a query should take, and when it is given up for a smaller one."""
_PREFETCH_TIMEOUT_SECONDS = 30.0
"""How long the one query may take that spares slices of related records most of their work."""
INITIAL_SLICE = 2_000
"""Slices get no smaller than this for being slow, until one is given up: what takes long may not be the records."""
MAX_SLICE_GROWTH = 4
"""How many times as large, or as small, as the one before a query may be."""
_SECONDS_PER_RECORD = 50e-6
"""What a record of a sample takes, at a guess, to choose a sample that fits the time."""
_MIN_SAMPLE_SIZE = 100
_SHOWN_TRIES = 5
"""How many members of a sample are looked up until one is found to show."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a count stands. `read` of about `total` records have been looked at; the record is any member, if known."""

    estimate: Estimate
    scanned_count: int
    total_count: int
    record: Record | None = None


class ProgressiveCounter:
    """One population's way to its count."""

    def __init__(
        self, slices: SliceRepository, org: str, population: Population, deadline: Deadline, rng: random.Random
    ) -> None:
        self._slices = slices
        self._org = org
        self._population = population
        self._deadline = deadline
        self._rng = rng
        self._slice_size = float(INITIAL_SLICE)
        self._member_range: tuple[str, str] | None = None

    def estimate_from_sample(self, size: int = MAX_SAMPLE_SIZE) -> Progress:
        """One estimate, of as large a sample as the deadline allows; exact where there are no more records than that.

        Raises OutOfTime where it allows none.
        """
        sample = KeyDraw(self._slices.key_sample(self._org, self._population, self._deadline))
        key_sample = sample.key_sample
        if key_sample.total <= size:
            count = self._slices.count_range(self._org, self._population, "", "", self._deadline)
            record = self._first_member("", "") if count else None
            return Progress(Estimate.of(count), key_sample.total, key_sample.total, record)
        self._prefetch_addresses()
        while not sample.indexes:
            seconds_left = self._deadline.remaining()
            affordable_size = (
                size
                if seconds_left is None
                else min(size, max(int(seconds_left / 2 / _SECONDS_PER_RECORD), _MIN_SAMPLE_SIZE))
            )
            is_last_attempt = seconds_left is None or affordable_size <= _MIN_SAMPLE_SIZE
            attempt_deadline = self._deadline if is_last_attempt else self._deadline.min_with((seconds_left or 0) / 2)
            try:
                sample = self._evaluate_sample(
                    sample, draw_keys(key_sample, affordable_size, self._rng), attempt_deadline
                )
            except OutOfTime:
                if is_last_attempt:
                    raise
                size = affordable_size // MAX_SLICE_GROWTH
        # A member may have gone since it was drawn, and a frozen list may hold records that no longer exist.
        shown = (
            self._first_member(key_sample.end(hit), key_sample.keys[hit]) for hit in sample.hit_indexes[:_SHOWN_TRIES]
        )
        record = next((found for found in shown if found), None)
        return Progress(sample.estimate(), sample.scanned_count(0), key_sample.total, record)

    def run(self) -> Generator[Progress, None, None]:
        """Estimates that narrow; the last one is exact and has the record."""
        sample = KeyDraw(self._slices.key_sample(self._org, self._population, self._deadline))
        total = sample.key_sample.total
        if total > _EXACT_LIMIT:
            self._prefetch_addresses()
            for larger_sample in self._growing_samples(sample):
                sample = larger_sample
                yield Progress(sample.estimate(), sample.scanned_count(0), total)
            self._prefetch_joins()
        estimate = sample.estimate()
        counted = slice_count = 0
        while True:
            end = self._next_slice_end(sample, slice_count)
            try:
                counted += self._count_slice(sample, slice_count, end)
            except OutOfTime:
                self._deadline.check()
            else:
                slice_count = end
                if slice_count > len(sample.key_sample.keys):
                    break
            bounded = estimate.clamp(counted, counted + sample.remaining_count(slice_count))
            estimate = sample.estimate(counted, slice_count).narrower_of(bounded)
            yield Progress(estimate, sample.scanned_count(slice_count), total)
        record = self._first_member(*self._member_range) if self._member_range else None
        yield Progress(Estimate.of(counted), total, total, record)

    def _prefetch_addresses(self) -> None:
        self._population = self._slices.with_prefetched_addresses(self._org, self._population, self._deadline)

    def _prefetch_joins(self) -> None:
        """Ready the population for its slices, unless that takes long: then each is counted by itself."""
        try:
            prefetch_deadline = self._deadline.min_with(_PREFETCH_TIMEOUT_SECONDS)
            self._population = self._slices.with_prefetched_joins(self._org, self._population, prefetch_deadline)
        except OutOfTime:
            self._deadline.check()

    def _growing_samples(self, sample: KeyDraw) -> Iterator[KeyDraw]:
        """A small sample and then larger ones, each by one query of bounded length; fewer where they are slow."""
        max_size = min(MAX_SAMPLE_SIZE, max(_INITIAL_SAMPLE, sample.key_sample.total // _SEEK_THRESHOLD))
        order = draw_keys(sample.key_sample, max_size, self._rng)
        size = _INITIAL_SAMPLE
        while order:
            try:
                sample = self._evaluate_sample(sample, order[:size], self._deadline.min_with(_MAX_QUERY_SECONDS))
            except OutOfTime:
                self._deadline.check()
                order = order[: size // MAX_SLICE_GROWTH]
                size = max(len(order), 1)
            else:
                order, size = order[size:], size * _SAMPLE_GROWTH
            yield sample

    def _evaluate_sample(self, sample: KeyDraw, indexes: list[int], deadline: Deadline) -> KeyDraw:
        keys = [sample.key_sample.keys[number] for number in indexes]
        return sample.with_more(indexes, self._slices.filter_keys(self._org, self._population, keys, deadline))

    def _next_slice_end(self, sample: KeyDraw, slice_count: int) -> int:
        """How many stretches are counted with the next slice; one more than there are landmarks for all the rest."""
        key_sample = sample.key_sample
        remaining = sample.remaining_count(slice_count)
        if remaining <= self._slice_size * 1.25:
            return len(key_sample.keys) + 1
        return key_sample.slice(key_sample.total - remaining + int(self._slice_size) - 1) + 1

    def _count_slice(self, sample: KeyDraw, slice_count: int, end: int) -> int:
        """The members in the slice. Sets the size of the next one by how long it took. Raises OutOfTime."""
        key_sample = sample.key_sample
        after, until = key_sample.end(slice_count), key_sample.end(end) if end <= len(key_sample.keys) else ""
        records = sample.remaining_count(slice_count) - (sample.remaining_count(end) if until else 0)
        is_smallest = end == slice_count + 1
        deadline = self._deadline if is_smallest else self._deadline.min_with(_MAX_QUERY_SECONDS)
        started_at = time.monotonic()
        try:
            found = self._slices.count_range(self._org, self._population, after, until, deadline)
        except OutOfTime:
            self._slice_size = max(records / MAX_SLICE_GROWTH, 1.0)
            raise
        ratio = _TARGET_QUERY_SECONDS / max(time.monotonic() - started_at, 1e-6)
        self._slice_size = max(
            records * min(max(ratio, 1 / MAX_SLICE_GROWTH), MAX_SLICE_GROWTH), min(records, INITIAL_SLICE), 1.0
        )
        if found and not self._member_range:
            self._member_range = after, until
        return found

    def _first_member(self, after: str, until: str) -> Record | None:
        return self._slices.first_in_range(self._org, self._population, after, until, self._deadline)
