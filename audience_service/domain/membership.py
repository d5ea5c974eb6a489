"""The use case on membership: who is in."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from audience_service.domain.caller import Call
from audience_service.domain.fields import Fields
from audience_service.domain.partitions import Bounds, Partition, Partitions
from audience_service.domain.populations import Exclusion, Populations
from audience_service.domain.ports import MemberRepository, Record
from audience_service.domain.selection import Selection
from audience_service.domain.tokens import TokenSealer


@dataclass(frozen=True, slots=True)
class MemberBatch:
    """A batch of a stream: members as the records that they are, with what was asked for of each.

    `totals` are set on the last batch alone, which has no members. `halves` makes two batches of one of two or more
    members, for a wire that cannot carry it whole.
    """

    records: Sequence[Record]
    fields: Fields
    cursor: str
    totals: "MemberTotals | None" = None
    halves: Callable[[], "tuple[MemberBatch, MemberBatch]"] | None = None


@dataclass(frozen=True, slots=True)
class MemberTotals:
    """How many members a stream has sent, and how many were left out."""

    members: int
    exclusions: Sequence[Exclusion]


class Membership:
    """Streams the members of audiences, unsaved filters and snapshots."""

    def __init__(
        self, members: MemberRepository, populations: Populations, partitions: Partitions, sealer: TokenSealer
    ) -> None:
        self._members = members
        self._populations = populations
        self._partitions = partitions
        self._sealer = sealer

    def stream(
        self,
        call: Call,
        selection: Selection,
        fields: Sequence[str],
        batch_size: int,
        cursor: str,
        partition: Partition | None = None,
    ) -> Generator[MemberBatch, None, None]:
        """The members after `cursor` in sk order, of a part or all of them, then the totals.

        Raises InvalidArgument, AudienceNotFound, UnusableAudience, SnapshotNotReady, InvalidPageToken at the first
        batch; SnapshotNotFound, StoreUnavailable, OutOfTime at any.
        """
        wanted = Fields.read(fields)
        choice = self._populations.choose(call, selection)
        binding = ("members", call.org, *choice.identity, sorted(wanted.paths), *_part_of(partition))
        if cursor:
            # The part is where it was when the stream began, whatever has been agreed on since.
            after, sent, *bounds = self._sealer.open(cursor, binding, "cursor")
            part = Bounds(*bounds)
        else:
            part = self._partitions.bounds(call, choice, partition)
            after, sent = part.after, 0
        stream = _Stream(self._sealer, binding, wanted, part)
        batches = self._members.stream(
            call.org, choice.population, wanted.record_paths, batch_size, after, call.deadline, part.until
        )
        with closing(batches):
            for records in batches:
                yield stream.batch(records, sent)
                after, sent = records[-1]["sk"], sent + len(records)
        self._populations.check_whole(call, choice, None if partition else sent)
        exclusions = self._populations.exclusions(call, choice, part.after, part.until)
        yield stream.end(after, MemberTotals(sent, exclusions))


@dataclass(frozen=True, slots=True)
class _Stream:
    """What makes batches of one stream's records."""

    sealer: TokenSealer
    binding: tuple[Any, ...]
    fields: Fields
    part: Bounds

    def batch(self, records: Sequence[Record], sent: int) -> MemberBatch:
        """A batch behind so many members."""
        cursor = self._cursor(records[-1]["sk"], sent + len(records))
        half = len(records) // 2
        if not half:
            return MemberBatch(records, self.fields, cursor)

        def halves() -> tuple[MemberBatch, MemberBatch]:
            first, second = records[:half], records[half:]
            return self.batch(first, sent), self.batch(second, sent + half)

        return MemberBatch(records, self.fields, cursor, halves=halves)

    def end(self, after: str, totals: MemberTotals) -> MemberBatch:
        """The last batch."""
        return MemberBatch((), self.fields, self._cursor(after, totals.members), totals)

    def _cursor(self, after: str, sent: int) -> str:
        bounds = [self.part.after, self.part.until] if self.part != Bounds() else []
        return self.sealer.seal(self.binding, [after, sent, *bounds])


def _part_of(partition: Partition | None) -> list[int]:
    return [] if partition is None else [partition.index, partition.count]
