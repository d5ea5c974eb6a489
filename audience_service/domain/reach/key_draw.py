"""Estimates from a sample of records, each drawn by itself.

The landmarks of a population's records are random records already; some of them are drawn and looked at. What of the
records has been counted since takes the place of the sample there, so that estimates narrow down to the count.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from audience_service.domain.audiences.key_sample import KeySample
from audience_service.domain.reach.confidence import clopper_pearson


@dataclass(frozen=True, slots=True)
class Estimate:
    """A count and the interval that holds the exact one in 95 of 100 cases; with `exact` all three are the same."""

    count: int
    lower_bound: int
    upper_bound: int
    exact: bool = False

    @classmethod
    def of(cls, count: int) -> "Estimate":
        """An exact count."""
        return cls(count, count, count, exact=True)

    def clamp(self, min_count: int, max_count: int) -> "Estimate | None":
        """What is left of it where the count is known to lie between the two; None where nothing is."""
        lower_bound, upper_bound = max(self.lower_bound, min_count), min(self.upper_bound, max_count)
        return (
            Estimate(min(max(self.count, lower_bound), upper_bound), lower_bound, upper_bound)
            if lower_bound <= upper_bound
            else None
        )

    def narrower_of(self, earlier: "Estimate | None") -> "Estimate":
        """The one of the two with the narrower interval; this one where there is no other."""
        is_narrower = (
            earlier is not None and earlier.upper_bound - earlier.lower_bound < self.upper_bound - self.lower_bound
        )
        return earlier if earlier and is_narrower else self


@dataclass(frozen=True, slots=True)
class KeyDraw:
    """Some landmarks by their numbers, and those among them that are members."""

    key_sample: KeySample
    indexes: Sequence[int] = ()
    hit_indexes: Sequence[int] = ()

    def with_more(self, indexes: Sequence[int], member_keys: Sequence[str]) -> "KeyDraw":
        """The sample and further landmarks, of which the keys `members` are members'."""
        found = frozenset(member_keys)
        hit_indexes = [number for number in indexes if self.key_sample.keys[number] in found]
        return KeyDraw(self.key_sample, (*self.indexes, *indexes), (*self.hit_indexes, *hit_indexes))

    def estimate(self, counted: int = 0, slice_count: int = 0) -> Estimate:
        """The count, where the `upto` first landmarks' stretches have been counted and hold `counted` members."""
        draws = sum(number >= slice_count for number in self.indexes)
        hits = sum(number >= slice_count for number in self.hit_indexes)
        remaining = self.remaining_count(slice_count)
        if not draws:
            return Estimate(counted + remaining // 2, counted, counted + remaining)
        low, high = clopper_pearson(hits, draws)
        # What was seen is so: as many members at least, and as many others.
        lower, upper = (
            max(hits, math.floor(low * remaining)),
            min(remaining - (draws - hits), math.ceil(high * remaining)),
        )
        count = min(max(round(hits / draws * remaining), lower), upper)
        return Estimate(counted + count, counted + lower, counted + max(upper, lower))

    def remaining_count(self, slice_count: int) -> int:
        """How many records lie behind the stretches of the `upto` first landmarks."""
        return self.key_sample.total - (self.key_sample.ranks[slice_count - 1] + 1 if slice_count else 0)

    def scanned_count(self, slice_count: int) -> int:
        """How many records have been looked at: those of the stretches, and the sample behind them."""
        return (
            self.key_sample.total
            - self.remaining_count(slice_count)
            + sum(number >= slice_count for number in self.indexes)
        )


def draw_keys(key_sample: KeySample, size: int, rng: random.Random) -> list[int]:
    """The numbers of up to `size` landmarks in random order, none twice."""
    indexes = range(len(key_sample.keys))
    return rng.sample(indexes, min(size, len(indexes)))
