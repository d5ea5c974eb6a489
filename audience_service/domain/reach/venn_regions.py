"""The regions of audiences, as in a Venn diagram, and all that follows from their counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations


@dataclass(frozen=True, slots=True)
class Overlap:
    """What two audiences have in common."""

    audience_id: str
    other_audience_id: str
    count: int
    size: int
    other_size: int

    @property
    def jaccard(self) -> float:
        """The share of those in either who are in both; 0 where both are empty."""
        return _share(self.count, self.size + self.other_size - self.count)

    @property
    def share_of_audience(self) -> float:
        """The share of the first audience that is in the second; 0 where the first is empty."""
        return _share(self.count, self.size)

    @property
    def share_of_other(self) -> float:
        """The share of the second audience that is in the first; 0 where the second is empty."""
        return _share(self.count, self.other_size)


@dataclass(frozen=True, slots=True)
class VennRegions:
    """How many are in exactly which audiences, by a mask whose bit i stands for `audience_ids[i]`.

    The numbers below all come from these counts, so they fit one another whatever happens to the records meanwhile.
    """

    audience_ids: tuple[str, ...]
    counts: Mapping[int, int]
    read_at: datetime

    def names(self, mask: int) -> list[str]:
        """The audiences of a region."""
        return [name for index, name in enumerate(self.audience_ids) if mask >> index & 1]

    def largest_first(self) -> list[tuple[list[str], int]]:
        """Every region that is not empty, as its audiences and its count."""
        ordered = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return [(self.names(mask), count) for mask, count in ordered if count]

    @property
    def union(self) -> int:
        """How many are in any of the audiences."""
        return sum(self.counts.values())

    @property
    def sizes(self) -> list[int]:
        """How many are in each audience."""
        return [self._count_in_all(1 << index) for index in range(len(self.audience_ids))]

    def pairs(self) -> list[Overlap]:
        """Every two of the audiences, the earlier one first."""
        sizes = self.sizes
        return [
            Overlap(
                self.audience_ids[one],
                self.audience_ids[other],
                self._count_in_all(1 << one | 1 << other),
                sizes[one],
                sizes[other],
            )
            for one, other in combinations(range(len(self.audience_ids)), 2)
        ]

    def duplicates(self) -> list[list[str]]:
        """The audiences that have the very same members, together. Empty ones are none: nothing is the same in them."""
        groups: dict[str, list[str]] = {}
        first: dict[str, str] = {}
        for pair in self.pairs():
            if _is_duplicate(pair) and pair.other_audience_id not in first:
                first[pair.other_audience_id] = first.get(pair.audience_id, pair.audience_id)
                groups.setdefault(first[pair.other_audience_id], [pair.audience_id]).append(pair.other_audience_id)
        return list(groups.values())

    def subsets(self) -> list[tuple[str, str]]:
        """Audiences that lie wholly inside a larger one, with that one. Empty ones are left out."""
        found = []
        for pair in self.pairs():
            if pair.count and not _is_duplicate(pair):
                if pair.count == pair.size:
                    found.append((pair.audience_id, pair.other_audience_id))
                if pair.count == pair.other_size:
                    found.append((pair.other_audience_id, pair.audience_id))
        return found

    def _count_in_all(self, mask: int) -> int:
        """How many are in all of these audiences, whatever else they are in."""
        return sum(count for region, count in self.counts.items() if region & mask == mask)


def _is_duplicate(pair: Overlap) -> bool:
    return 0 < pair.count == pair.size == pair.other_size


def _share(part: int, total: int) -> float:
    return part / total if total else 0.0
