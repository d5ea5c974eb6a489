"""Partitions of a population, for parallel readers.

For example, the split keys `k1` and `k2` make three partitions: `sk <= k1`, `k1 < sk <= k2` and `k2 < sk`.

1. Partitions are disjoint and complete, and have about the same size.
2. Only its sort key decides the partition of a record, so updates never move it.
3. All readers use the same split keys. The database stores them, because readers may run in different processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from audience_service.domain.audiences.repository import KeyRangeRepository, MemberRepository
from audience_service.domain.audiences.selection_resolver import ResolvedSelection
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.core.page_tokens import digest
from audience_service.domain.filters.population import Population
from audience_service.domain.membership.repository import PartitionRepository

MAX_PARTITIONS = 64

_SAMPLE_PER_PARTITION = 400
"""Sampled members for each partition. Partition sizes then differ by about 5 % (one standard deviation)."""
_MIN_SPLIT_KEYS = 8_192
"""How many of all keys to keep at least, if the sample is too small. Partition sizes then differ by less than 1 %."""
_BATCH_SIZE = 10_000


@dataclass(frozen=True, slots=True)
class Partition:
    """Partition `index` of `count`; the first index is 0."""

    index: int
    count: int


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The records with `after < sk <= until`; "" is no bound."""

    after: str = ""
    until: str = ""


class Partitioner:
    """Divides populations into partitions."""

    def __init__(
        self,
        partitions: PartitionRepository,
        slices: KeyRangeRepository,
        members: MemberRepository,
        sample_per_partition: int = _SAMPLE_PER_PARTITION,
        min_split_keys: int = _MIN_SPLIT_KEYS,
    ) -> None:
        """A sample needs `sample_per_partition` members for each partition.

        If it has fewer, all keys are read, and at least `min_split_keys` of them are kept.
        """
        self._partitions = partitions
        self._sample_per_partition = sample_per_partition
        self._min_split_keys = min_split_keys
        self._slices = slices
        self._members = members

    def key_range(
        self, ctx: RequestContext, resolved_selection: ResolvedSelection, partition: Partition | None
    ) -> KeyRange:
        """The key range of a partition; unbounded without a partition. Raises InvalidArgument, OutOfTime."""
        if partition is None:
            return KeyRange()
        _check(partition)
        if partition.count == 1:
            return KeyRange()
        name = f"{digest(resolved_selection.identity)}/{partition.count}"
        keys = self._partitions.find(ctx.org, name, ctx.deadline)
        if keys is None:
            split_keys = self._split(ctx, resolved_selection.population, partition.count)
            keys = self._partitions.get_or_create(ctx.org, name, split_keys, ctx.deadline)
        edges = ["", *keys, ""]
        return KeyRange(edges[partition.index], edges[partition.index + 1])

    def _split(self, ctx: RequestContext, population: Population, count: int) -> list[str]:
        """The last keys of all partitions except the final one, in order. If members are few, keys repeat."""
        found = self._sample_member_keys(ctx, population)
        if len(found) < self._sample_per_partition * count:
            found = self._read_member_keys(ctx, population)
        ends = (len(found) * index // count for index in range(1, count))
        # Every key of the org is greater than `<org>/`, so a partition that ends there is empty.
        return [found[end - 1] if end else f"{ctx.org}/" for end in ends]

    def _sample_member_keys(self, ctx: RequestContext, population: Population) -> Sequence[str]:
        """The keys of randomly sampled members, in order."""
        key_sample = self._slices.key_sample(ctx.org, population, ctx.deadline)
        return sorted(self._slices.filter_keys(ctx.org, population, key_sample.keys, ctx.deadline))

    def _read_member_keys(self, ctx: RequestContext, population: Population) -> Sequence[str]:
        """The keys of all members, in order. If there are many, every second, fourth, ... one."""
        keys: list[str] = []
        rank, step = 0, 1
        for batch in self._members.stream(ctx.org, population, (), _BATCH_SIZE, "", ctx.deadline):
            keys += [record["sk"] for record in batch[-rank % step :: step]]
            rank += len(batch)
            while len(keys) > 2 * self._min_split_keys:
                keys, step = keys[::2], step * 2
        return keys


def _check(partition: Partition) -> None:
    if not 1 <= partition.count <= MAX_PARTITIONS:
        raise InvalidArgument.at("partition.count", f"is {partition.count}; give 1 to {MAX_PARTITIONS}")
    if not 0 <= partition.index < partition.count:
        raise InvalidArgument.at("partition.index", f"is {partition.index}; give 0 to {partition.count - 1}")
