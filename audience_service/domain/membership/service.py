"""The use case on membership: stream the members of a selection."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Any

from audience_service.domain.audiences.repository import MemberRepository
from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.audiences.selection_resolver import Exclusion, SelectionResolver
from audience_service.domain.core.context import RequestContext, Scope
from audience_service.domain.core.documents import Documents
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.record import Record
from audience_service.domain.export_log.model import ExportContent
from audience_service.domain.export_log.service import ExportLog
from audience_service.domain.history.history import MembershipHistory
from audience_service.domain.membership.partitions import KeyRange, Partition, Partitioner
from audience_service.domain.schema.projection import Projection


class MemberEncoding(Enum):
    """The form of the members in a response: JSON values, or the database's BSON documents."""

    STRUCT = auto()
    BSON = auto()


@dataclass(frozen=True, slots=True)
class MemberBatch:
    """A batch of a stream: the members' records, with the requested fields.

    Only the last batch has `totals`, and it has no members. `split` returns two halves of a batch of two or more
    records, for transports that cannot carry the complete batch.
    """

    members: Sequence[Record] | Documents
    """Undecoded, except with `as_of`, which decodes them anyway."""
    fields: Projection
    cursor: str
    totals: "MemberTotals | None" = None
    split: Callable[[], "tuple[MemberBatch, MemberBatch]"] | None = None


@dataclass(frozen=True, slots=True)
class MemberTotals:
    """How many members a stream sent, and how many it excluded."""

    members: int
    exclusions: Sequence[Exclusion]


class Membership:
    """Streams the members of audiences, unsaved filters and snapshots."""

    def __init__(
        self,
        members: MemberRepository,
        selection_resolver: SelectionResolver,
        partitioner: Partitioner,
        history: MembershipHistory,
        tokens: TokenCodec,
        export_log: ExportLog,
    ) -> None:
        self._members = members
        self._selection_resolver = selection_resolver
        self._partitioner = partitioner
        self._history = history
        self._tokens = tokens
        self._export_log = export_log

    def stream(
        self,
        ctx: RequestContext,
        selection: AudienceSelector,
        fields: Sequence[str],
        batch_size: int,
        cursor: str,
        partition: Partition | None = None,
        as_of: datetime | None = None,
        encoding: MemberEncoding = MemberEncoding.STRUCT,
    ) -> Generator[MemberBatch, None, None]:
        """The members after `cursor` in sk order, of a partition or all of them, then the totals.

        With `as_of`, the members of one audience at that time, from its event log. This form raises
        AudienceNotWatched and TimeOutOfRange at any batch, if the log does not cover the time.

        Raises MissingScope (fields need `audiences.export`), InvalidArgument, AudienceNotFound, UnusableAudience,
        SnapshotNotReady, InvalidPageToken at the first batch; SnapshotNotFound, StoreUnavailable, OutOfTime at any.
        """
        projection = Projection.parse(fields)
        if projection.paths:
            ctx.require(Scope.EXPORT, "`fields`")
        if encoding is MemberEncoding.BSON:
            _check_bson_fields(fields, projection)
        if as_of:
            _check_as_of_selection(selection, partition)
            batches = self._stream_as_of(ctx, selection.audience_id, as_of, projection, batch_size, cursor)
        else:
            batches = self._stream(ctx, selection, projection, batch_size, cursor, partition)
        yield from self._export_log.record(
            ctx, _content(selection, fields), batches, lambda batch: count_members(batch.members)
        )

    def _stream(
        self,
        ctx: RequestContext,
        selection: AudienceSelector,
        projection: Projection,
        batch_size: int,
        cursor: str,
        partition: Partition | None,
    ) -> Generator[MemberBatch, None, None]:
        resolved_selection = self._selection_resolver.resolve(ctx, selection)
        binding = (
            "members",
            ctx.org,
            *resolved_selection.identity,
            sorted(projection.paths),
            *_partition_identity(partition),
        )
        if cursor:
            # A resumed stream keeps its key range, even if the split keys have changed since it began.
            after, sent, *bounds = self._tokens.decode(cursor, binding, "cursor", (str, int), (str, int, str, str))
            key_range = KeyRange(*bounds)
        else:
            key_range = self._partitioner.key_range(ctx, resolved_selection, partition)
            after, sent = key_range.after, 0
        stream = _BatchBuilder(
            self._tokens, binding, projection, [key_range.after, key_range.until] if key_range != KeyRange() else []
        )
        batches = self._members.stream_documents(
            ctx.org,
            resolved_selection.population,
            projection.record_paths,
            batch_size,
            after,
            ctx.deadline,
            key_range.until,
        )
        with closing(batches):
            for members in batches:
                yield stream.batch(members, sent)
                after, sent = _position_after(members, sent)
        self._selection_resolver.verify_complete(ctx, resolved_selection, None if partition else sent)
        exclusions = self._selection_resolver.exclusions(ctx, resolved_selection, key_range.after, key_range.until)
        yield stream.finish(after, MemberTotals(sent, exclusions))

    def _stream_as_of(
        self,
        ctx: RequestContext,
        audience_id: str,
        as_of: datetime,
        projection: Projection,
        batch_size: int,
        cursor: str,
    ) -> Generator[MemberBatch, None, None]:
        """The members at `as_of`. The cursor has the watch epoch and the event, so later events have no effect."""
        binding = ("members as of", ctx.org, audience_id, as_of.isoformat(), sorted(projection.paths))
        if cursor:
            after, sent, *resume_state = self._tokens.decode(cursor, binding, "cursor", (str, int, str, int))
            history_point = self._history.resume(ctx, audience_id, as_of, *resume_state)
        else:
            history_point = self._history.find(ctx, audience_id, as_of)
            after, sent = "", 0
        stream = _BatchBuilder(self._tokens, binding, projection, [history_point.watch_epoch, history_point.seq])
        with closing(self._history.members(ctx, history_point, projection.record_paths, batch_size, after)) as batches:
            for members in batches:
                yield stream.batch(members, sent)
                after, sent = _position_after(members, sent)
        yield stream.finish(after, MemberTotals(sent, ()))


@dataclass(frozen=True, slots=True)
class _BatchBuilder:
    """Builds the batches of one stream."""

    tokens: TokenCodec
    binding: tuple[Any, ...]
    fields: Projection
    resume_state: Sequence[Any]
    """More content of its cursors, so that a resumed stream reads the same members."""

    def batch(self, members: Sequence[Record] | Documents, sent: int) -> MemberBatch:
        """The batch that follows `sent` members."""
        cursor = self._cursor(*_position_after(members, sent))
        if count_members(members) == 1:
            return MemberBatch(members, self.fields, cursor)

        def split() -> tuple[MemberBatch, MemberBatch]:
            first, second = _halves(members)
            return self.batch(first, sent), self.batch(second, sent + count_members(first))

        return MemberBatch(members, self.fields, cursor, split=split)

    def finish(self, after: str, totals: MemberTotals) -> MemberBatch:
        """The last batch, with the totals."""
        return MemberBatch((), self.fields, self._cursor(after, totals.members), totals)

    def _cursor(self, after: str, sent: int) -> str:
        return self.tokens.encode(self.binding, [after, sent, *self.resume_state])


def _content(selection: AudienceSelector, fields: Sequence[str]) -> ExportContent:
    """What the export log stores of a request."""
    names = (*selection.audience_ids, selection.audience_id, selection.snapshot_id)
    return ExportContent(
        rpc="StreamMembers",
        audience_ids=tuple(name for name in names if name),
        exclude_audience_ids=tuple(selection.exclude_audience_ids),
        has_filter=selection.filter is not None,
        purpose=selection.purpose,
        fields=tuple(fields),
    )


def count_members(members: Sequence[Record] | Documents) -> int:
    """The number of members of a batch."""
    return members.count if isinstance(members, Documents) else len(members)


def _halves(
    members: Sequence[Record] | Documents,
) -> tuple[Documents, Documents] | tuple[Sequence[Record], Sequence[Record]]:
    if isinstance(members, Documents):
        return members.halves()
    half = len(members) // 2
    return members[:half], members[half:]


def _position_after(members: Sequence[Record] | Documents, sent: int) -> tuple[str, int]:
    """The last sk of a batch that follows `sent` members, and the number of members sent with it."""
    last_sk = members.last_sk if isinstance(members, Documents) else members[-1]["sk"]
    return last_sk, sent + count_members(members)


def _check_bson_fields(fields: Sequence[str], projection: Projection) -> None:
    """Raise InvalidArgument for a field that the database cannot select alone."""
    for index, field in enumerate(fields):
        if not projection.is_exact(field):
            raise InvalidArgument.at(
                f"fields[{index}]",
                "names a key with a dot or a dollar sign, which only MEMBER_ENCODING_STRUCT can select",
            )


def _check_as_of_selection(selection: AudienceSelector, partition: Partition | None) -> None:
    """Raise InvalidArgument if an event log cannot answer the request."""
    if not selection.audience_id:
        raise InvalidArgument.at("as_of", "needs exactly one audience; give its audience_id")
    disallowed = {
        "audience_ids": selection.audience_ids,
        "exclude_audience_ids": selection.exclude_audience_ids,
        "purpose": selection.purpose,
        "partition": partition,
    }
    for field_path, given in disallowed.items():
        if given:
            raise InvalidArgument.at(
                field_path, "cannot be combined with as_of, which returns all members of one audience; omit one of them"
            )


def _partition_identity(partition: Partition | None) -> list[int]:
    return [] if partition is None else [partition.index, partition.count]
