"""Parts of populations: disjoint, complete, of about one size, and the same for all who read them.

Parts are cut by keys, so that a record is in one part alone whatever else becomes of it. The keys are agreed on in the
database, since workers of other processes must cut at the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from audience_service.domain.audiences.populations import Choice
from audience_service.domain.caller import Call
from audience_service.domain.errors import InvalidArgument
from audience_service.domain.ports import MemberRepository, PartitionRepository, Population, SliceRepository
from audience_service.domain.tokens import digest

MAX_PARTS = 64

_SAMPLED_EACH = 400
"""Members of a sample for each part: the shares of parts that it cuts differ by some 5 % (one standard deviation)."""
_KEPT_KEYS = 8_192
"""Where a sample has too few, all keys are read, and at least so many kept of more: they cut to within 1 %."""
_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Partition:
    """Part `index` of `count`."""

    index: int
    count: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """The part behind the sk `after` up to and including `until`; "" is no bound."""

    after: str = ""
    until: str = ""


class Partitions:
    """Cuts populations."""

    def __init__(
        self,
        partitions: PartitionRepository,
        slices: SliceRepository,
        members: MemberRepository,
        sampled_each: int = _SAMPLED_EACH,
        kept_keys: int = _KEPT_KEYS,
    ) -> None:
        """A sample cuts if it has `sampled_each` members for each part. Of all keys, at least `kept_keys` are kept."""
        self._partitions = partitions
        self._sampled_each = sampled_each
        self._kept_keys = kept_keys
        self._slices = slices
        self._members = members

    def bounds(self, call: Call, choice: Choice, partition: Partition | None) -> Bounds:
        """Where a part begins and ends; all of it without a partition. Raises InvalidArgument, OutOfTime."""
        if partition is None:
            return Bounds()
        _check(partition)
        if partition.count == 1:
            return Bounds()
        name = f"{digest(choice.identity)}/{partition.count}"
        keys = self._partitions.find(call.org, name, call.deadline)
        if keys is None:
            cut = self._cut(call, choice.population, partition.count)
            keys = self._partitions.agree(call.org, name, cut, call.deadline)
        edges = ["", *keys, ""]
        return Bounds(edges[partition.index], edges[partition.index + 1])

    def _cut(self, call: Call, population: Population, count: int) -> list[str]:
        """The keys with which all parts but the last end, in order; some are the same where members are few."""
        found = self._sampled(call, population)
        if len(found) < self._sampled_each * count:
            found = self._all(call, population)
        ends = (len(found) * part // count for part in range(1, count))
        # No key of an org is as small as its name, so that a part that ends with that is empty.
        return [found[end - 1] if end else f"{call.org}/" for end in ends]

    def _sampled(self, call: Call, population: Population) -> Sequence[str]:
        """The keys of members drawn at random, in order."""
        landmarks = self._slices.landmarks(call.org, population, call.deadline)
        return sorted(self._slices.among(call.org, population, landmarks.keys, call.deadline))

    def _all(self, call: Call, population: Population) -> Sequence[str]:
        """The keys of all members in order; of many each second, fourth and so on."""
        keys: list[str] = []
        rank, step = 0, 1
        for batch in self._members.stream(call.org, population, (), _BATCH, "", call.deadline):
            keys += [record["sk"] for record in batch[-rank % step :: step]]
            rank += len(batch)
            while len(keys) > 2 * self._kept_keys:
                keys, step = keys[::2], step * 2
        return keys


def _check(partition: Partition) -> None:
    if not 1 <= partition.count <= MAX_PARTS:
        raise InvalidArgument.at("partition.count", f"is not from 1 to {MAX_PARTS}")
    if not 0 <= partition.index < partition.count:
        raise InvalidArgument.at("partition.index", f"is not from 0 to {partition.count - 1}")
