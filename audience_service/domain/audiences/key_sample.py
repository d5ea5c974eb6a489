"""Keys spread evenly over the records that a population is drawn from: what to sample, and where to cut."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeySample:
    """The sk of one record, drawn at random, out of each run of as many records, in order.

    The stretch of a landmark are the records behind the one before it, up to itself.

    Any of them is as good a draw as any other record: which one of its run it is does not depend on how ids are made,
    nor on what neighbours have in common. `ranks` are how many records lie before each, `total` is how many there are.
    """

    keys: Sequence[str]
    ranks: Sequence[int]
    total: int

    def slice(self, rank: int) -> int:
        """The first landmark that has `rank` records before it; as many as there are where none has."""
        return bisect_left(self.ranks, rank)

    def end(self, slice_count: int) -> str:
        """The key that the first so many stretches end with; "" for the beginning where they are none."""
        return self.keys[slice_count - 1] if slice_count else ""
