"""The use case on membership: who is in."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from audience_service.domain.audiences import Audiences, Selection
from audience_service.domain.caller import Call
from audience_service.domain.fields import Fields
from audience_service.domain.filters import identity
from audience_service.domain.ports import MemberRepository, Record
from audience_service.domain.snapshots import ReadySnapshots
from audience_service.domain.tokens import TokenSealer


@dataclass(frozen=True, slots=True)
class MemberBatch:
    """A batch of a stream: members as the records that they are, with what was asked for of each.

    `total` is set on the last batch alone, which has no members. `halves` makes two batches of one of two or more
    members, for a wire that cannot carry it whole.
    """

    records: Sequence[Record]
    fields: Fields
    cursor: str
    total: int | None = None
    halves: Callable[[], "tuple[MemberBatch, MemberBatch]"] | None = None


class Membership:
    """Streams the members of audiences, unsaved filters and snapshots."""

    def __init__(
        self, members: MemberRepository, audiences: Audiences, snapshots: ReadySnapshots, sealer: TokenSealer
    ) -> None:
        self._members = members
        self._audiences = audiences
        self._snapshots = snapshots
        self._sealer = sealer

    def stream(
        self, call: Call, selection: Selection, fields: Sequence[str], batch_size: int, cursor: str
    ) -> Generator[MemberBatch, None, None]:
        """The members after `cursor` in sk order, then the total.

        Raises InvalidArgument, AudienceNotFound, UnusableAudience, SnapshotNotReady, InvalidPageToken at the first
        batch; SnapshotNotFound, StoreUnavailable, OutOfTime at any.
        """
        wanted = Fields.read(fields)
        frozen = self._snapshots.ready(call, selection.snapshot_id) if selection.snapshot_id else None
        audience_id = frozen.rows_id if frozen else selection.audience_id
        binding = ("members", call.org, audience_id, identity(selection.filter), sorted(wanted.paths))
        after, sent = self._sealer.open(cursor, binding, "cursor") if cursor else ("", 0)
        population = frozen.rows if frozen else self._audiences.population(call, selection)
        batches = self._members.stream(call.org, population, wanted.record_paths, batch_size, after, call.deadline)
        with closing(batches):
            for records in batches:
                yield self._batch(binding, records, wanted, sent)
                after, sent = records[-1]["sk"], sent + len(records)
        if frozen:
            self._snapshots.check_whole(call, frozen, sent)
        yield MemberBatch((), wanted, self._sealer.seal(binding, [after, sent]), sent)

    def _batch(self, binding: tuple[Any, ...], records: Sequence[Record], fields: Fields, sent: int) -> MemberBatch:
        cursor = self._sealer.seal(binding, [records[-1]["sk"], sent + len(records)])
        half = len(records) // 2
        if not half:
            return MemberBatch(records, fields, cursor)

        def halves() -> tuple[MemberBatch, MemberBatch]:
            first, second = records[:half], records[half:]
            return self._batch(binding, first, fields, sent), self._batch(binding, second, fields, sent + half)

        return MemberBatch(records, fields, cursor, halves=halves)
