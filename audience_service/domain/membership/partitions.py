"""Parts of populations: disjoint, complete, of about one size, and the same for all who read them.

Parts are cut by keys, so that a record is in one part alone whatever else becomes of it. The keys are agreed on in the
database, since workers of other processes must cut at the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from audience_service.domain.audiences.repository import MemberRepository, SliceRepository
from audience_service.domain.audiences.selection_resolver import ResolvedSelection
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.core.page_tokens import digest
from audience_service.domain.filters.population import Population
from audience_service.domain.membership.repository import PartitionRepository

MAX_PARTITIONS = 64

_SAMPLE_PER_PARTITION = 400
"""Members of a sample for each part: the shares of parts that it cuts differ by some 5 % (one standard deviation)."""
_MIN_SPLIT_KEYS = 8_192
"""Where a sample has too few, all keys are read, and at least so many kept of more: they cut to within 1 %."""
_BATCH_SIZE = 10_000


@dataclass(frozen=True, slots=True)
class Partition:
    """Part `index` of `count`."""

    index: int
    count: int


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The part behind the sk `after` up to and including `until`; "" is no bound."""

    after: str = ""
    until: str = ""


class Partitioner:
    """Cuts populations."""

    def __init__(
        self,
        partitions: PartitionRepository,
        slices: SliceRepository,
        members: MemberRepository,
        sampled_each: int = _SAMPLE_PER_PARTITION,
        kept_keys: int = _MIN_SPLIT_KEYS,
    ) -> None:
        """A sample cuts if it has `sampled_each` members for each part. Of all keys, at least `kept_keys` are kept."""
        self._partitions = partitions
        self._sampled_each = sampled_each
        self._kept_keys = kept_keys
        self._slices = slices
        self._members = members

    def key_range(
        self, ctx: RequestContext, resolved_selection: ResolvedSelection, partition: Partition | None
    ) -> KeyRange:
        """Where a part begins and ends; all of it without a partition. Raises InvalidArgument, OutOfTime."""
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
        """The keys with which all parts but the last end, in order; some are the same where members are few."""
        found = self._sample_member_keys(ctx, population)
        if len(found) < self._sampled_each * count:
            found = self._read_member_keys(ctx, population)
        ends = (len(found) * index // count for index in range(1, count))
        # No key of an org is as small as its name, so that a part that ends with that is empty.
        return [found[end - 1] if end else f"{ctx.org}/" for end in ends]

    def _sample_member_keys(self, ctx: RequestContext, population: Population) -> Sequence[str]:
        """The keys of members drawn at random, in order."""
        key_sample = self._slices.key_sample(ctx.org, population, ctx.deadline)
        return sorted(self._slices.filter_keys(ctx.org, population, key_sample.keys, ctx.deadline))

    def _read_member_keys(self, ctx: RequestContext, population: Population) -> Sequence[str]:
        """The keys of all members in order; of many each second, fourth and so on."""
        keys: list[str] = []
        rank, step = 0, 1
        for batch in self._members.stream(ctx.org, population, (), _BATCH_SIZE, "", ctx.deadline):
            keys += [record["sk"] for record in batch[-rank % step :: step]]
            rank += len(batch)
            while len(keys) > 2 * self._kept_keys:
                keys, step = keys[::2], step * 2
        return keys


def _check(partition: Partition) -> None:
    if not 1 <= partition.count <= MAX_PARTITIONS:
        raise InvalidArgument.at("partition.count", f"is not from 1 to {MAX_PARTITIONS}")
    if not 0 <= partition.index < partition.count:
        raise InvalidArgument.at("partition.index", f"is not from 0 to {partition.count - 1}")
