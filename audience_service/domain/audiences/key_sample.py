"""A key sample: sort keys at about equal distances over a collection, used to draw records and to cut key ranges.

With the keys f, m, t drawn at the ranks 2, 5, 9 of 11 records, the slices end at f, m and t. The first slice has the
keys up to and including f. `slice(5)` is 1, since m is the first key with 5 records before it; `end(1)` is f.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeySample:
    """The sk of one random record out of each run of equally many records, in order.

    The slice of a key has the records after the previous key, up to and including its own. Each key is a fair draw: its
    position within its run depends neither on how ids are generated nor on what neighbouring records share.

    `ranks` has the number of records before each key, and `total` the number of all records.
    """

    keys: Sequence[str]
    ranks: Sequence[int]
    total: int

    def slice(self, rank: int) -> int:
        """The index of the first key with at least `rank` records before it; the number of keys if there is none."""
        return bisect_left(self.ranks, rank)

    def end(self, slice_count: int) -> str:
        """The key that the first `slice_count` slices end with; "", which is before all keys, for 0."""
        return self.keys[slice_count - 1] if slice_count else ""
