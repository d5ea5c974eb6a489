"""The use cases of a worker: stream the changes of a sync in batches, and acknowledge batches.

    claim an open batch ──────────────────────────────────────────────> send it
      └ none: take the lease ─> build a batch from the latest scan ───> send it
                                  └ none, or outdated: scan, build ───> send it
                                                         └ none: send the totals

A batch never changes between its first delivery and its acknowledgement. A worker that died is followed by another one,
or by itself, from whatever it left: a scan that is incomplete, a batch that is BUILDING, OPEN or APPLYING.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import InvalidArgument, StoreUnavailable
from audience_service.domain.core.lease import LeaseLost
from audience_service.domain.export_log.model import ExportContent
from audience_service.domain.export_log.service import ExportLog
from audience_service.domain.exports.batches import ADD, MAX_PART_BYTES, REMOVE, row_size
from audience_service.domain.exports.readiness import Row
from audience_service.domain.identifiers import choose_rules
from audience_service.domain.syncs.errors import SyncBatchNotFound
from audience_service.domain.syncs.leases import SyncLease, SyncLeases, pause
from audience_service.domain.syncs.model import Batch, BatchState, Receipt, RowFormat, Sync
from audience_service.domain.syncs.repository import SyncBatchRepository, SyncRepository, SyncRowRepository
from audience_service.domain.syncs.scanner import SyncScanner, row_scope
from audience_service.domain.syncs.service import RECEIPT_TTL, find_sync

DEFAULT_LEASE = timedelta(minutes=15)
_MIN_LEASE, _MAX_LEASE = timedelta(seconds=1), timedelta(days=1)
_MAX_WORKER_ID_LENGTH = 100
_APPLY_TIMEOUT = timedelta(minutes=1)
_REUSE_SCAN_FOR = timedelta(minutes=5)
"""How long after a scan other calls still build batches from it, so that several workers share its changes."""


@dataclass(frozen=True, slots=True)
class ChangesRequest:
    """The request of a worker. `max_batches` 0 is no limit."""

    sync_id: str
    worker_id: str
    max_batches: int = 0
    lease: timedelta = DEFAULT_LEASE


@dataclass(frozen=True, slots=True)
class ChangesPart:
    """A batch, or a part of a batch larger than 3 MiB."""

    batch: Batch
    format: RowFormat
    rows: Sequence[Row]
    ends_batch: bool


@dataclass(frozen=True, slots=True)
class ChangesTotals:
    """The end of a stream: the batches that it sent, all open batches, and the rows that wait for one of them."""

    batch_count: int
    open_batch_count: int
    blocked_count: int


class SyncChanges:
    """Streams and acknowledges the batches of syncs."""

    def __init__(
        self,
        syncs: SyncRepository,
        rows: SyncRowRepository,
        batches: SyncBatchRepository,
        scanner: SyncScanner,
        export_log: ExportLog,
    ) -> None:
        self._syncs = syncs
        self._rows = rows
        self._batches = batches
        self._scanner = scanner
        self._export_log = export_log
        self._leases = SyncLeases(syncs)

    def stream(
        self, ctx: RequestContext, request: ChangesRequest
    ) -> Generator[ChangesPart | ChangesTotals, None, None]:
        """The batches of a worker, then the totals; StreamSyncChanges in the protos states rules and errors."""
        _check_request(request)
        sync = find_sync(ctx, self._syncs, request.sync_id)
        self._rows.check_supported()
        parts = self._stream(ctx, request, sync)
        yield from self._export_log.record(ctx, _content(sync), parts, _count_rows)

    def _stream(
        self, ctx: RequestContext, request: ChangesRequest, sync: Sync
    ) -> Generator[ChangesPart | ChangesTotals, None, None]:
        started_at, last, count = now(), 0, 0
        while not request.max_batches or count < request.max_batches:
            batch = self._claim(ctx, sync, request, last)
            if batch is None and not self._build(ctx, sync.id, request, started_at, has_sent=count > 0):
                break
            if batch:
                last, count = batch.number, count + 1
                yield from self._parts(ctx, batch, find_sync(ctx, self._syncs, sync.id))
        yield self._totals(ctx, sync.id, count)

    def acknowledge(
        self, ctx: RequestContext, sync_id: str, number: int, receipt: Receipt, rejected_rows: Sequence[int]
    ) -> Batch:
        """Acknowledge a batch and return it; AcknowledgeSyncBatch in the protos states rules and errors."""
        sync = find_sync(ctx, self._syncs, sync_id)
        self._rows.check_supported()
        batch = self._get(ctx, sync, number)
        if batch.state is BatchState.OPEN:
            for index, row in enumerate(rejected_rows):
                if not 0 <= row < batch.row_count:
                    raise InvalidArgument.at(
                        f"rejected_rows[{index}]", f"is {row}; the batch has rows 0 to {batch.row_count - 1}"
                    )
            rejected = self._rows.digests(ctx.org, sync.id, number, sorted(set(rejected_rows)), ctx.deadline)
            self._batches.start_acknowledgement(ctx.org, sync.id, number, receipt, rejected, ctx.deadline)
            batch = self._get(ctx, sync, number)
        if batch.state is BatchState.APPLYING:
            self._apply(ctx, sync.id, batch)
        return batch

    def _get(self, ctx: RequestContext, sync: Sync, number: int) -> Batch:
        batch = self._batches.get(ctx.org, sync.id, number, ctx.deadline)
        if batch is None or batch.state in (BatchState.BUILDING, BatchState.DISCARDED):
            raise SyncBatchNotFound.of(str(number))
        return batch

    def _apply(self, ctx: RequestContext, sync_id: str, batch: Batch) -> None:
        # The process that recovers it later can be sure that this one no longer writes.
        deadline = ctx.deadline.min_with(_APPLY_TIMEOUT.total_seconds())
        self._rows.apply(ctx.org, sync_id, batch, deadline)
        self._batches.finish_acknowledgement(ctx.org, sync_id, batch.number, now() + RECEIPT_TTL, ctx.deadline)

    def _claim(self, ctx: RequestContext, sync: Sync, request: ChangesRequest, last: int) -> Batch | None:
        lease_until = now() + request.lease
        return self._batches.claim(ctx.org, sync.id, request.worker_id, last, lease_until, ctx.deadline)

    def _build(
        self, ctx: RequestContext, sync_id: str, request: ChangesRequest, started_at: datetime, *, has_sent: bool
    ) -> bool:
        """Build a batch for the worker. Returns False if there is none to build. Another try may be needed."""
        with self._leases.attempt(ctx, sync_id) as lease:
            if lease:
                try:
                    return self._build_with(ctx, sync_id, request, started_at, lease, has_sent=has_sent)
                except LeaseLost:
                    pass
        pause(ctx)
        return True

    def _build_with(
        self,
        ctx: RequestContext,
        sync_id: str,
        request: ChangesRequest,
        started_at: datetime,
        lease: SyncLease,
        *,
        has_sent: bool,
    ) -> bool:
        """Build a batch of the latest scan, or else of a new one.

        A stream that has sent a batch is followed by another one, so it ends with those of a recent scan.
        """
        sync = find_sync(ctx, self._syncs, sync_id)
        if self._recover(ctx, sync):
            return True
        scan = sync.latest_scan
        if scan and scan.sync_version == sync.version:
            is_new, is_recent = scan.started_at >= started_at, scan.ended_at > now() - _REUSE_SCAN_FOR
            if (is_new or is_recent) and self._build_batch(ctx, sync, request, lease):
                return True
            if is_new or (is_recent and has_sent):
                return False
        self._scanner.scan(ctx, sync, lease)
        return self._build_batch(ctx, find_sync(ctx, self._syncs, sync_id), request, lease)

    def _recover(self, ctx: RequestContext, sync: Sync) -> bool:
        """Complete what a process that died has left, and return whether that opened a batch."""
        has_opened = False
        for batch in self._batches.list(ctx.org, sync.id, (BatchState.BUILDING, BatchState.APPLYING), ctx.deadline):
            if batch.state is BatchState.BUILDING:
                has_opened |= self._open(ctx, sync.id, batch)
            elif batch.receipt and batch.receipt.acknowledged_at < now() - 2 * _APPLY_TIMEOUT:
                self._apply(ctx, sync.id, batch)
        return has_opened

    def _build_batch(self, ctx: RequestContext, sync: Sync, request: ChangesRequest, lease: SyncLease) -> bool:
        """Build the next batch of the latest scan, leased to the worker; False if there is none."""
        if sync.latest_scan is None:
            return False
        for operation in (REMOVE, ADD):
            for index, row_format in enumerate(sync.formats):
                draft = Batch(
                    number=0,
                    operation=operation,
                    format=index,
                    scan=sync.latest_scan.number,
                    state=BatchState.BUILDING,
                    worker_id=request.worker_id,
                    lease_until=now() + request.lease,
                )
                if not self._rows.has_candidates(ctx.org, sync.id, draft, ctx.deadline):
                    continue
                batch = self._batches.reserve(ctx.org, sync.id, draft, ctx.deadline)
                self._rows.assign(ctx.org, sync.id, batch, row_format.batch_size, lease.renew(force=True))
                if self._open(ctx, sync.id, batch):
                    return True
        return False

    def _open(self, ctx: RequestContext, sync_id: str, batch: Batch) -> bool:
        """Open a batch, if it has rows."""
        count = self._rows.count(ctx.org, sync_id, batch.number, ctx.deadline)
        self._batches.open(ctx.org, sync_id, batch, count, ctx.deadline)
        return count > 0

    def _parts(self, ctx: RequestContext, batch: Batch, sync: Sync) -> Generator[ChangesPart, None, None]:
        row_format, scope = sync.formats[batch.format], row_scope(ctx, sync)
        buffered, size, count = list[Row](), 0, 0
        with closing(self._rows.stream(ctx.org, sync.id, batch.number, ctx.deadline)) as stored:
            for values, keys in stored:
                row = values if batch.operation == ADD else row_format.without_other_keys(scope, values, keys)
                count += 1
                if size + row_size(row) > MAX_PART_BYTES:
                    yield ChangesPart(batch, row_format, buffered, ends_batch=False)
                    buffered, size = [], 0
                buffered.append(row)
                size += row_size(row)
        if count != batch.row_count:
            raise StoreUnavailable("the batch was acknowledged or reset while it was sent; call again")
        yield ChangesPart(batch, row_format, buffered, ends_batch=True)

    def _totals(self, ctx: RequestContext, sync_id: str, count: int) -> ChangesTotals:
        sync = find_sync(ctx, self._syncs, sync_id)
        states = (BatchState.BUILDING, BatchState.OPEN, BatchState.APPLYING)
        open_count = len(self._batches.list(ctx.org, sync_id, states, ctx.deadline))
        blocked = 0
        if sync.latest_scan and open_count:
            blocked = self._rows.count_blocked(ctx.org, sync_id, sync.latest_scan.number, ctx.deadline)
        return ChangesTotals(count, open_count, blocked)


def _content(sync: Sync) -> ExportContent:
    """What the export log stores of a stream."""
    spec = sync.spec
    rules = choose_rules(spec.platform, spec.rules_version, spec.options, spec.fields)
    return ExportContent(
        rpc="StreamSyncChanges",
        audience_ids=spec.audience_ids,
        exclude_audience_ids=spec.exclude_audience_ids,
        purpose=spec.purpose,
        platform=spec.platform,
        fields=tuple(rule.field for rule in rules.fields),
        sync_id=sync.id,
    )


def _count_rows(part: ChangesPart | ChangesTotals) -> int:
    return len(part.rows) if isinstance(part, ChangesPart) else 0


def _check_request(request: ChangesRequest) -> None:
    if len(request.worker_id) > _MAX_WORKER_ID_LENGTH or not request.worker_id.isprintable():
        raise InvalidArgument.at(
            "worker_id", f"is too long or not printable; use at most {_MAX_WORKER_ID_LENGTH} printable characters"
        )
    if request.max_batches < 0:
        raise InvalidArgument.at("max_batches", "is negative; set 0 for all batches, or a positive number")
    if not _MIN_LEASE <= request.lease <= _MAX_LEASE:
        raise InvalidArgument.at("lease_duration", "is out of range; use one second to one day")
