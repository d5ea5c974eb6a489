"""The use case on membership: who is in."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audience_service.domain.audiences.populations import Exclusion, Populations
from audience_service.domain.audiences.selection import Selection
from audience_service.domain.caller import Call
from audience_service.domain.errors import InvalidArgument
from audience_service.domain.fields.fields import Fields
from audience_service.domain.membership.partitions import Bounds, Partition, Partitions
from audience_service.domain.ports import MemberRepository, Record
from audience_service.domain.tokens import TokenSealer
from audience_service.domain.watches.past import Past


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
        self,
        members: MemberRepository,
        populations: Populations,
        partitions: Partitions,
        past: Past,
        sealer: TokenSealer,
    ) -> None:
        self._members = members
        self._populations = populations
        self._partitions = partitions
        self._past = past
        self._sealer = sealer

    def stream(
        self,
        call: Call,
        selection: Selection,
        fields: Sequence[str],
        batch_size: int,
        cursor: str,
        partition: Partition | None = None,
        as_of: datetime | None = None,
    ) -> Generator[MemberBatch, None, None]:
        """The members after `cursor` in sk order, of a part or all of them, then the totals.

        With `as_of` those of one audience as they were then, by its ledger: AudienceNotWatched and TimeOutOfRange say
        where it does not know, at any batch.

        Raises InvalidArgument, AudienceNotFound, UnusableAudience, SnapshotNotReady, InvalidPageToken at the first
        batch; SnapshotNotFound, StoreUnavailable, OutOfTime at any.
        """
        wanted = Fields.read(fields)
        if as_of:
            _check_single(selection, partition)
            yield from self._at(call, selection.audience_id, as_of, wanted, batch_size, cursor)
            return
        choice = self._populations.choose(call, selection)
        binding = ("members", call.org, *choice.identity, sorted(wanted.paths), *_part_of(partition))
        if cursor:
            # The part is where it was when the stream began, whatever has been agreed on since.
            after, sent, *bounds = self._sealer.open(cursor, binding, "cursor")
            part = Bounds(*bounds)
        else:
            part = self._partitions.bounds(call, choice, partition)
            after, sent = part.after, 0
        stream = _Stream(self._sealer, binding, wanted, [part.after, part.until] if part != Bounds() else [])
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

    def _at(
        self, call: Call, audience_id: str, at: datetime, wanted: Fields, batch_size: int, cursor: str
    ) -> Generator[MemberBatch, None, None]:
        """Who was in at a moment: the cursor holds by which event of which ledger, whatever is appended meanwhile."""
        binding = ("members as of", call.org, audience_id, at.isoformat(), sorted(wanted.paths))
        if cursor:
            after, sent, *held = self._sealer.open(cursor, binding, "cursor")
            moment = self._past.resume(call, audience_id, at, *held)
        else:
            moment = self._past.find(call, audience_id, at)
            after, sent = "", 0
        stream = _Stream(self._sealer, binding, wanted, [moment.generation, moment.seq])
        with closing(self._past.members(call, moment, wanted.record_paths, batch_size, after)) as batches:
            for records in batches:
                yield stream.batch(records, sent)
                after, sent = records[-1]["sk"], sent + len(records)
        yield stream.end(after, MemberTotals(sent, ()))


@dataclass(frozen=True, slots=True)
class _Stream:
    """What makes batches of one stream's records."""

    sealer: TokenSealer
    binding: tuple[Any, ...]
    fields: Fields
    held: Sequence[Any]
    """What its cursors hold besides, to go on with the same members."""

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
        return self.sealer.seal(self.binding, [after, sent, *self.held])


def _check_single(selection: Selection, partition: Partition | None) -> None:
    """Raise where a ledger could not tell what is asked of it. Raises InvalidArgument."""
    if not selection.audience_id:
        raise InvalidArgument.at("as_of", "goes with one audience: give its audience_id")
    besides = {
        "audience_ids": selection.audience_ids,
        "exclude_audience_ids": selection.exclude_audience_ids,
        "purpose": selection.purpose,
        "partition": partition,
    }
    for place, given in besides.items():
        if given:
            raise InvalidArgument.at(place, "goes with no as_of: ledgers tell of each audience who was in, all of it")


def _part_of(partition: Partition | None) -> list[int]:
    return [] if partition is None else [partition.index, partition.count]
