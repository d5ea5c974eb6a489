"""Estimates from a sample of records, each drawn by itself.

The landmarks of a population's records are random records already; some of them are drawn and looked at. What of the
records has been counted since takes the place of the sample there, so that estimates narrow down to the count.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from audience_service.domain.reach.intervals import share_bounds
from audience_service.domain.reach.landmarks import Landmarks


@dataclass(frozen=True, slots=True)
class Estimate:
    """A count and the interval that holds the exact one in 95 of 100 cases; with `exact` all three are the same."""

    count: int
    lower: int
    upper: int
    exact: bool = False

    @classmethod
    def of(cls, count: int) -> "Estimate":
        """An exact count."""
        return cls(count, count, count, exact=True)

    def within(self, least: int, most: int) -> "Estimate | None":
        """What is left of it where the count is known to lie between the two; None where nothing is."""
        lower, upper = max(self.lower, least), min(self.upper, most)
        return Estimate(min(max(self.count, lower), upper), lower, upper) if lower <= upper else None

    def unless_narrower(self, earlier: "Estimate | None") -> "Estimate":
        """The one of the two with the narrower interval; this one where there is no other."""
        is_narrower = earlier is not None and earlier.upper - earlier.lower < self.upper - self.lower
        return earlier if earlier and is_narrower else self


@dataclass(frozen=True, slots=True)
class Draws:
    """Some landmarks by their numbers, and those among them that are members."""

    landmarks: Landmarks
    drawn: Sequence[int] = ()
    hits: Sequence[int] = ()

    def with_more(self, drawn: Sequence[int], members: Sequence[str]) -> "Draws":
        """The sample and further landmarks, of which the keys `members` are members'."""
        found = frozenset(members)
        hits = [number for number in drawn if self.landmarks.keys[number] in found]
        return Draws(self.landmarks, (*self.drawn, *drawn), (*self.hits, *hits))

    def estimate(self, counted: int = 0, upto: int = 0) -> Estimate:
        """The count, where the `upto` first landmarks' stretches have been counted and hold `counted` members."""
        drawn = sum(number >= upto for number in self.drawn)
        hits = sum(number >= upto for number in self.hits)
        left = self.left(upto)
        if not drawn:
            return Estimate(counted + left // 2, counted, counted + left)
        low, high = share_bounds(hits, drawn)
        # What was seen is so: as many members at least, and as many others.
        lower, upper = max(hits, math.floor(low * left)), min(left - (drawn - hits), math.ceil(high * left))
        count = min(max(round(hits / drawn * left), lower), upper)
        return Estimate(counted + count, counted + lower, counted + max(upper, lower))

    def left(self, upto: int) -> int:
        """How many records lie behind the stretches of the `upto` first landmarks."""
        return self.landmarks.total - (self.landmarks.ranks[upto - 1] + 1 if upto else 0)

    def read(self, upto: int) -> int:
        """How many records have been looked at: those of the stretches, and the sample behind them."""
        return self.landmarks.total - self.left(upto) + sum(number >= upto for number in self.drawn)


def draw(landmarks: Landmarks, size: int, chance: random.Random) -> list[int]:
    """The numbers of up to `size` landmarks in random order, none twice."""
    numbers = range(len(landmarks.keys))
    return chance.sample(numbers, min(size, len(numbers)))
