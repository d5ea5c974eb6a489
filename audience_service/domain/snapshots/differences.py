"""The use case on two snapshots: who has come in between them, and who has gone out."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from audience_service.domain.caller import Call
from audience_service.domain.errors import InvalidArgument
from audience_service.domain.snapshots.ports import Difference, DifferenceRepository
from audience_service.domain.snapshots.ready import ReadySnapshots
from audience_service.domain.snapshots.snapshot import Snapshot
from audience_service.domain.tokens import TokenSealer


@dataclass(frozen=True, slots=True)
class DiffTotals:
    """How many have come in, have gone out, and are in both."""

    entered: int
    exited: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class DiffBatch:
    """A batch of a stream of differences; `totals` are set on the last one alone, which has none."""

    differences: Sequence[Difference]
    cursor: str
    totals: DiffTotals | None = None


class SnapshotDifferences:
    """Streams the differences between an org's snapshots."""

    def __init__(self, repository: DifferenceRepository, snapshots: ReadySnapshots, sealer: TokenSealer) -> None:
        self._repository = repository
        self._snapshots = snapshots
        self._sealer = sealer

    def stream(
        self, call: Call, from_id: str, to_id: str, batch_size: int, cursor: str
    ) -> Generator[DiffBatch, None, None]:
        """The differences after `cursor` in sk order, then the totals.

        Raises InvalidArgument, SnapshotNotReady, InvalidPageToken at the first batch; SnapshotNotFound,
        StoreUnavailable, OutOfTime at any.
        """
        first, second = self._two(call, from_id, to_id)
        binding = ("differences", call.org, first.rows_id, second.rows_id)
        after, entered, exited = self._sealer.open(cursor, binding, "cursor") if cursor else ("", 0, 0)
        batches = self._repository.stream(call.org, first, second, batch_size, after, call.deadline)
        with closing(batches):
            for batch in batches:
                came = sum(difference.entered for difference in batch)
                entered, exited, after = entered + came, exited + len(batch) - came, batch[-1].sk
                yield DiffBatch(batch, self._sealer.seal(binding, [after, entered, exited]))
        unchanged = first.count - exited
        # The totals hold only if no row of either is missing, and they say how many that is.
        self._snapshots.check_whole(call, first)
        self._snapshots.check_whole(call, second, unchanged + entered)
        totals = DiffTotals(entered, exited, unchanged)
        yield DiffBatch((), self._sealer.seal(binding, [after, entered, exited]), totals)

    def _two(self, call: Call, from_id: str, to_id: str) -> tuple[Snapshot, Snapshot]:
        first, second = self._snapshots.ready(call, from_id), self._snapshots.ready(call, to_id)
        if first.datatype != second.datatype:
            raise InvalidArgument.at(
                "to_snapshot_id", f"is a snapshot of {second.datatype}, but from_snapshot_id of {first.datatype}"
            )
        return first, second
