"""Estimates of a count from a random sample of records.

The keys of a key sample are random records, and a draw evaluates some of them. The keys divide the records into key
ranges. Once a key range has an exact count, that count replaces the drawn keys in it. The estimates thus narrow to the
exact count.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from audience_service.domain.audiences.key_sample import KeySample
from audience_service.domain.reach.confidence import clopper_pearson


@dataclass(frozen=True, slots=True)
class Estimate:
    """A count and its 95 % confidence interval. If `exact`, the bounds equal the count."""

    count: int
    lower_bound: int
    upper_bound: int
    exact: bool = False

    @classmethod
    def of(cls, count: int) -> "Estimate":
        """An exact count."""
        return cls(count, count, count, exact=True)

    def clamp(self, min_count: int, max_count: int) -> "Estimate | None":
        """The estimate limited to `min_count` to `max_count`; None if the intervals are disjoint."""
        lower_bound, upper_bound = max(self.lower_bound, min_count), min(self.upper_bound, max_count)
        return (
            Estimate(min(max(self.count, lower_bound), upper_bound), lower_bound, upper_bound)
            if lower_bound <= upper_bound
            else None
        )

    def narrower_of(self, earlier: "Estimate | None") -> "Estimate":
        """The estimate with the narrower interval; this one if `earlier` is None or both are equally wide."""
        is_narrower = (
            earlier is not None and earlier.upper_bound - earlier.lower_bound < self.upper_bound - self.lower_bound
        )
        return earlier if earlier and is_narrower else self


@dataclass(frozen=True, slots=True)
class KeyDraw:
    """Drawn keys and the members among them, both as indexes into `key_sample.keys`."""

    key_sample: KeySample
    indexes: Sequence[int] = ()
    hit_indexes: Sequence[int] = ()

    def with_more(self, indexes: Sequence[int], member_keys: Sequence[str]) -> "KeyDraw":
        """The draw plus the keys at `indexes`, of which `member_keys` belong to members."""
        hits = frozenset(member_keys)
        hit_indexes = [index for index in indexes if self.key_sample.keys[index] in hits]
        return KeyDraw(self.key_sample, (*self.indexes, *indexes), (*self.hit_indexes, *hit_indexes))

    def estimate(self, counted: int = 0, slice_count: int = 0) -> Estimate:
        """The estimated count, given that the first `slice_count` key ranges contain exactly `counted` members."""
        draws = sum(index >= slice_count for index in self.indexes)
        hits = sum(index >= slice_count for index in self.hit_indexes)
        remaining = self.remaining_count(slice_count)
        if not draws:
            return Estimate(counted + remaining // 2, counted, counted + remaining)
        low, high = clopper_pearson(hits, draws)
        # The drawn records are certain: at least `hits` members, and at least `draws - hits` other records.
        lower, upper = (
            max(hits, math.floor(low * remaining)),
            min(remaining - (draws - hits), math.ceil(high * remaining)),
        )
        count = min(max(round(hits / draws * remaining), lower), upper)
        return Estimate(counted + count, counted + lower, counted + max(upper, lower))

    def remaining_count(self, slice_count: int) -> int:
        """The number of records after the first `slice_count` key ranges."""
        return self.key_sample.total - (self.key_sample.ranks[slice_count - 1] + 1 if slice_count else 0)

    def scanned_count(self, slice_count: int) -> int:
        """The number of evaluated records: all of the first `slice_count` key ranges, and the drawn keys after them."""
        return (
            self.key_sample.total
            - self.remaining_count(slice_count)
            + sum(index >= slice_count for index in self.indexes)
        )


def draw_keys(key_sample: KeySample, size: int, rng: random.Random) -> list[int]:
    """The indexes of up to `size` different keys, in random order."""
    indexes = range(len(key_sample.keys))
    return rng.sample(indexes, min(size, len(indexes)))
