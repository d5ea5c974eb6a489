"""The use case on two snapshots: the members that entered between them, and those that exited."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import InvalidArgument
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.snapshots.model import Snapshot
from audience_service.domain.snapshots.reader import SnapshotReader
from audience_service.domain.snapshots.repository import Difference, SnapshotRowRepository


@dataclass(frozen=True, slots=True)
class DiffTotals:
    """How many members entered, exited, and are in both snapshots."""

    entered: int
    exited: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class DiffBatch:
    """A batch of a stream of differences. Only the last one has `totals`; it has no differences."""

    differences: Sequence[Difference]
    cursor: str
    totals: DiffTotals | None = None


class SnapshotDifferences:
    """Streams the differences between an org's snapshots."""

    def __init__(self, rows: SnapshotRowRepository, snapshot_reader: SnapshotReader, tokens: TokenCodec) -> None:
        self._rows = rows
        self._snapshot_reader = snapshot_reader
        self._tokens = tokens

    def stream(
        self, ctx: RequestContext, from_id: str, to_id: str, batch_size: int, cursor: str
    ) -> Generator[DiffBatch, None, None]:
        """The differences after `cursor` in sk order, then the totals.

        Raises InvalidArgument, SnapshotNotReady, InvalidPageToken at the first batch; SnapshotNotFound,
        StoreUnavailable, OutOfTime at any.
        """
        first, second = self._get_pair(ctx, from_id, to_id)
        binding = ("differences", ctx.org, first.list_version_id, second.list_version_id)
        shape = (str, int, int)
        after, entered, exited = self._tokens.decode(cursor, binding, "cursor", shape) if cursor else ("", 0, 0)
        batches = self._rows.diff(ctx.org, first, second, batch_size, after, ctx.deadline)
        with closing(batches):
            for batch in batches:
                entered_in_batch = sum(difference.entered for difference in batch)
                entered, exited, after = (
                    entered + entered_in_batch,
                    exited + len(batch) - entered_in_batch,
                    batch[-1].sk,
                )
                yield DiffBatch(batch, self._tokens.encode(binding, [after, entered, exited]))
        unchanged = first.count - exited
        # The totals are right only if no row of either snapshot is missing; they give the number to expect.
        self._snapshot_reader.verify_complete(ctx, first)
        self._snapshot_reader.verify_complete(ctx, second, unchanged + entered)
        totals = DiffTotals(entered, exited, unchanged)
        yield DiffBatch((), self._tokens.encode(binding, [after, entered, exited]), totals)

    def _get_pair(self, ctx: RequestContext, from_id: str, to_id: str) -> tuple[Snapshot, Snapshot]:
        first, second = self._snapshot_reader.get_ready(ctx, from_id), self._snapshot_reader.get_ready(ctx, to_id)
        if first.datatype != second.datatype:
            raise InvalidArgument.at(
                "to_snapshot_id",
                f"is a snapshot of {second.datatype}, but from_snapshot_id is of {first.datatype}; both must be of one",
            )
        return first, second
