"""Progressive counts: estimates from a growing sample, then exact counts slice by slice, up to the exact total.

Worked example: 1,000,000 records with a key sample of 7,812 keys, so a key range has about 128 records.

    step      query                           members found       estimate   95 % interval
    sample 1  500 drawn keys                  149 of 500           298,000   258,206 to 340,202
    sample 2  1,500 further keys              626 of 2,000         313,000   292,713 to 333,837
    sample 3  500 further keys                777 of 2,500         310,800   292,688 to 329,357
    prefetch  values of the filter's joins
    slice 1   75,082 records: the samples took 40 us a record, and 75,000 such records take 3 s
                                                                   308,458   291,068 to 326,299
    slice 2   all others: slice 1 took 0.1 s, so 16 times as many fit the target
                                                                   306,000   exact, and one member

Invariants:

1. Every step is one query: a sample of at most 200 ms, or a slice of at most 4 s. Only the prefetch (30 s) and a
   slice of one key range (the deadline) may take longer. A caller that stops between two steps causes no further
   queries.
2. A sample or slice that exceeds its limit is retried with fewer records, and a late prefetch is skipped. Only the
   caller's deadline ends a count with OutOfTime.
3. Slices cover all keys without gap or overlap, including records newer than the key sample. The total is exact.
4. An estimate after a slice is the narrower of two: the sample's after the exact counts, and the previous estimate
   limited to the counts still possible. It can widen only if the exact counts contradict the previous interval.
"""

import random
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from audience_service.domain.audiences.repository import KeyRangeRepository
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import OutOfTime
from audience_service.domain.core.record import Record
from audience_service.domain.filters.population import Population
from audience_service.domain.reach.key_draw import Estimate, KeyDraw, draw_keys

MAX_SAMPLE_SIZE = 4_000
"""The most records of a sample. An org with a shorter key sample has smaller ones."""

_INITIAL_SAMPLE, _SAMPLE_GROWTH = 500, 3
"""Records of the first sample of a stream, and the factor by which each further sample is larger."""
_SEEK_THRESHOLD = 400
"""Larger samples than the initial one have at most one record in 400: a seek costs as much as 30 sequential reads."""
_EXACT_LIMIT = 1_000
"""Up to this many records are counted in one query, without a sample."""
_MAX_SAMPLE_SECONDS = 0.2
"""The limit of a sample, after which a smaller one replaces it."""
_TARGET_SLICE_SECONDS, _MAX_SLICE_SECONDS = 2.0, 4.0
"""The target duration of a slice, and its limit, after which smaller slices replace it.

Each query has a fixed cost, so many short slices take longer than one count. A cancelled call costs up to the limit.
"""
_PREFETCH_TIMEOUT_SECONDS = 30.0
"""The limit of the prefetch, which spares each slice most of the work for related records."""
_PREFETCHED_SPEED = 100_000.0
"""The least speed, in records a second, of slices with prefetched joins. The samples looked the joins up."""
SAMPLED_SLICE_SECONDS = 3.0
"""The longest duration of the first slice, at the speed of the samples: a record of a sample costs at least as much."""
INITIAL_SLICE = 8_000
"""The fewest records of the first slice. Slow slices shrink no further than this, because overhead may be the cause.

Only a slice that times out makes the next one smaller.
"""
MAX_SLICE_GROWTH, _SHRINKAGE = 16, 4
"""The largest factor by which a slice grows from one query to the next, and by which a slow slice or sample shrinks."""
_SECONDS_PER_RECORD = 50e-6
"""A rough cost of one sampled record, to choose a sample that fits the deadline."""
_MIN_SAMPLE_SIZE = 100
_MAX_MEMBER_READS = 5
"""The most members of a sample that are read again to find one to return."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a count.

    `scanned_count` of about `total_count` records are evaluated. `record` is any member; None if none is known yet.
    """

    estimate: Estimate
    scanned_count: int
    total_count: int
    record: Record | None = None


class ProgressiveCounter:
    """Counts one population, by samples and slices. An instance serves one call."""

    def __init__(
        self, slices: KeyRangeRepository, org: str, population: Population, deadline: Deadline, rng: random.Random
    ) -> None:
        self._slices = slices
        self._org = org
        self._population = population
        self._deadline = deadline
        self._rng = rng
        self._slice_size = float(INITIAL_SLICE)
        self._sampled_count, self._sample_seconds = 0, 0.0
        self._member_range: tuple[str, str] | None = None

    def estimate_from_sample(self, size: int = MAX_SAMPLE_SIZE) -> Progress:
        """One estimate from a sample of up to `size` records, as large as the deadline allows.

        The count is exact if there are at most `size` records. Raises OutOfTime if the deadline allows no sample.
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
                size = affordable_size // _SHRINKAGE
        # A drawn member may have left since, and a snapshot's list may contain records that no longer exist.
        drawn_members = (
            self._first_member(key_sample.end(hit), key_sample.keys[hit])
            for hit in sample.hit_indexes[:_MAX_MEMBER_READS]
        )
        record = next((member for member in drawn_members if member), None)
        return Progress(sample.estimate(), sample.scanned_count(0), key_sample.total, record)

    def run(self) -> Generator[Progress, None, None]:
        """Estimates that narrow. The last one is exact, and its record is a member unless there is none.

        Raises OutOfTime at the deadline.
        """
        sample = KeyDraw(self._slices.key_sample(self._org, self._population, self._deadline))
        total = sample.key_sample.total
        if total > _EXACT_LIMIT:
            self._prefetch_addresses()
            for larger_sample in self._growing_samples(sample):
                sample = larger_sample
                yield Progress(sample.estimate(), sample.scanned_count(0), total)
            speed = self._sampled_count / max(self._sample_seconds, 1e-6)
            if self._prefetch_joins():
                speed = max(speed, _PREFETCHED_SPEED)
            self._slice_size = max(self._slice_size, speed * SAMPLED_SLICE_SECONDS)
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

    def _prefetch_joins(self) -> bool:
        """Read the values of the population's joins once for all slices. On a timeout each slice reads its own.

        Returns whether values were read.
        """
        sampled = self._population
        try:
            prefetch_deadline = self._deadline.min_with(_PREFETCH_TIMEOUT_SECONDS)
            self._population = self._slices.with_prefetched_joins(self._org, sampled, prefetch_deadline)
        except OutOfTime:
            self._deadline.check()
        return self._population is not sampled

    def _growing_samples(self, sample: KeyDraw) -> Iterator[KeyDraw]:
        """A small sample, then larger ones, each by one query of limited duration. Smaller after a timeout."""
        max_size = min(MAX_SAMPLE_SIZE, max(_INITIAL_SAMPLE, sample.key_sample.total // _SEEK_THRESHOLD))
        order = draw_keys(sample.key_sample, max_size, self._rng)
        size = _INITIAL_SAMPLE
        while order:
            try:
                sample = self._evaluate_sample(sample, order[:size], self._deadline.min_with(_MAX_SAMPLE_SECONDS))
            except OutOfTime:
                self._deadline.check()
                order = order[: size // _SHRINKAGE]
                size = max(len(order), 1)
            else:
                order, size = order[size:], size * _SAMPLE_GROWTH
            yield sample

    def _evaluate_sample(self, sample: KeyDraw, indexes: list[int], deadline: Deadline) -> KeyDraw:
        keys = [sample.key_sample.keys[index] for index in indexes]
        started_at = time.monotonic()
        found = self._slices.filter_keys(self._org, self._population, keys, deadline)
        self._sampled_count += len(keys)
        self._sample_seconds += time.monotonic() - started_at
        return sample.with_more(indexes, found)

    def _next_slice_end(self, sample: KeyDraw, slice_count: int) -> int:
        """The number of key ranges counted after the next slice; the number of keys plus 1 if it is the last slice."""
        key_sample = sample.key_sample
        remaining = sample.remaining_count(slice_count)
        if remaining <= self._slice_size * 1.25:
            return len(key_sample.keys) + 1
        return key_sample.slice(key_sample.total - remaining + int(self._slice_size) - 1) + 1

    def _count_slice(self, sample: KeyDraw, slice_count: int, end: int) -> int:
        """The number of members in a slice. Sets the size of the next slice by the duration. Raises OutOfTime."""
        key_sample = sample.key_sample
        after, until = key_sample.end(slice_count), key_sample.end(end) if end <= len(key_sample.keys) else ""
        records = sample.remaining_count(slice_count) - (sample.remaining_count(end) if until else 0)
        is_smallest = end == slice_count + 1
        deadline = self._deadline if is_smallest else self._deadline.min_with(_MAX_SLICE_SECONDS)
        started_at = time.monotonic()
        try:
            found = self._slices.count_range(self._org, self._population, after, until, deadline)
        except OutOfTime:
            self._slice_size = max(records / _SHRINKAGE, 1.0)
            raise
        ratio = _TARGET_SLICE_SECONDS / max(time.monotonic() - started_at, 1e-6)
        self._slice_size = max(
            records * min(max(ratio, 1 / _SHRINKAGE), MAX_SLICE_GROWTH), min(records, INITIAL_SLICE), 1.0
        )
        if found and not self._member_range:
            self._member_range = after, until
        return found

    def _first_member(self, after: str, until: str) -> Record | None:
        return self._slices.first_in_range(self._org, self._population, after, until, self._deadline)
