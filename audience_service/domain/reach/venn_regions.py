"""The regions of audiences in their Venn diagram, and the numbers that follow from their counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations


@dataclass(frozen=True, slots=True)
class Overlap:
    """The number of common members of two audiences, and their sizes."""

    audience_id: str
    other_audience_id: str
    count: int
    size: int
    other_size: int

    @property
    def jaccard(self) -> float:
        """The Jaccard index: the common members as a share of the union; 0 if both are empty."""
        return _share(self.count, self.size + self.other_size - self.count)

    @property
    def share_of_audience(self) -> float:
        """The common members as a share of the first audience; 0 if it is empty."""
        return _share(self.count, self.size)

    @property
    def share_of_other(self) -> float:
        """The common members as a share of the second audience; 0 if it is empty."""
        return _share(self.count, self.other_size)


@dataclass(frozen=True, slots=True)
class VennRegions:
    """The number of members of each region. Bit i of a region's mask is set if `audience_ids[i]` contains it.

    All methods compute from these counts, so their numbers are consistent even if records change meanwhile.
    """

    audience_ids: tuple[str, ...]
    counts: Mapping[int, int]
    read_at: datetime

    def names(self, mask: int) -> list[str]:
        """The ids of the audiences that contain a region."""
        return [audience_id for index, audience_id in enumerate(self.audience_ids) if mask >> index & 1]

    def largest_first(self) -> list[tuple[list[str], int]]:
        """The ids and the count of each region that is not empty, the largest first."""
        ordered = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return [(self.names(mask), count) for mask, count in ordered if count]

    @property
    def union(self) -> int:
        """The number of members of any audience."""
        return sum(self.counts.values())

    @property
    def sizes(self) -> list[int]:
        """The number of members of each audience, in the order of `audience_ids`."""
        return [self._count_in_all(1 << index) for index in range(len(self.audience_ids))]

    def pairs(self) -> list[Overlap]:
        """The overlap of every pair of audiences, in the order of `audience_ids`."""
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
        """The ids of audiences with the same members, grouped. Empty audiences belong to no group."""
        groups: dict[str, list[str]] = {}
        first: dict[str, str] = {}
        for pair in self.pairs():
            if _is_duplicate(pair) and pair.other_audience_id not in first:
                first[pair.other_audience_id] = first.get(pair.audience_id, pair.audience_id)
                groups.setdefault(first[pair.other_audience_id], [pair.audience_id]).append(pair.other_audience_id)
        return list(groups.values())

    def subsets(self) -> list[tuple[str, str]]:
        """Pairs of ids: an audience that is a proper subset, and the larger audience. Empty audiences are left out."""
        found = []
        for pair in self.pairs():
            if pair.count and not _is_duplicate(pair):
                if pair.count == pair.size:
                    found.append((pair.audience_id, pair.other_audience_id))
                if pair.count == pair.other_size:
                    found.append((pair.other_audience_id, pair.audience_id))
        return found

    def _count_in_all(self, mask: int) -> int:
        """The number of members of all the audiences in a mask, including those of further audiences."""
        return sum(count for region, count in self.counts.items() if region & mask == mask)


def _is_duplicate(pair: Overlap) -> bool:
    return 0 < pair.count == pair.size == pair.other_size


def _share(part: int, total: int) -> float:
    return part / total if total else 0.0
