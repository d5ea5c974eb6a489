"""The use cases on snapshots: create, get, list, delete."""

import contextlib
import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from audience_service.domain.audiences.model import ResolvedAudience
from audience_service.domain.audiences.selection import AudienceSelector
from audience_service.domain.audiences.selection_resolver import SelectionResolver, selection_identity
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import RequestIdReused, SnapshotNotFound
from audience_service.domain.core.idempotency import (
    CreationState,
    IdempotencyKey,
    find_existing,
    idempotency_key,
    new_id,
)
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.pages import ListedPage, PageRequest
from audience_service.domain.core.quotas import UNLIMITED, Quota
from audience_service.domain.snapshots.model import (
    SNAPSHOT_PREFIX,
    Snapshot,
    SnapshotQuery,
    SnapshotSource,
    check_snapshot_name,
    check_time_to_live,
)
from audience_service.domain.snapshots.reader import SnapshotReader
from audience_service.domain.snapshots.repository import SnapshotRepository
from audience_service.domain.snapshots.worker import SnapshotWorker


@dataclasses.dataclass(frozen=True, slots=True)
class SnapshotDraft:
    """The members to store, a name, and how long to keep the snapshot; None for the default."""

    selection: AudienceSelector
    name: str = ""
    time_to_live: timedelta | None = None


class Snapshots:
    """Creates, finds and deletes the snapshots of an org."""

    def __init__(
        self,
        snapshots: SnapshotRepository,
        snapshot_reader: SnapshotReader,
        selection_resolver: SelectionResolver,
        worker: SnapshotWorker,
        tokens: TokenCodec,
        quota: Quota = UNLIMITED,
    ) -> None:
        self._snapshots = snapshots
        self._reader = snapshot_reader
        self._selection_resolver = selection_resolver
        self._worker = worker
        self._tokens = tokens
        self._quota = quota

    def create(self, ctx: RequestContext, draft: SnapshotDraft, request_id: str) -> Snapshot:
        """Register a snapshot and return it CREATING; CreateSnapshot in the protos states rules and errors."""
        name, time_to_live = check_snapshot_name(draft.name), check_time_to_live(draft.time_to_live)
        key = idempotency_key(ctx, request_id, _payload(draft))
        existing = find_existing(ctx, key, self._snapshots.find_by_key)
        if existing is None:
            return self._start(ctx, draft, name, time_to_live, key)
        if existing.can_retry(now()):
            return self._restart(ctx, draft, name, time_to_live, existing)
        return existing

    def get(self, ctx: RequestContext, snapshot_id: str) -> Snapshot:
        """The snapshot. Raises SnapshotNotFound."""
        return self._reader.get(ctx, snapshot_id)

    def list(self, ctx: RequestContext, query: SnapshotQuery, request: PageRequest) -> ListedPage[Snapshot]:
        """A page of the org's snapshots. Raises InvalidPageToken."""
        return self._tokens.page(
            request,
            ("snapshots", ctx.org, *dataclasses.astuple(query)),
            lambda after: self._snapshots.page(ctx.org, query, request.size, after, ctx.deadline),
            (datetime, str),
        )

    def delete(self, ctx: RequestContext, snapshot_id: str) -> Snapshot:
        """Delete a snapshot in any state and return it as it was. Raises SnapshotNotFound."""
        found = self.get(ctx, snapshot_id)
        return self._snapshots.remove(ctx.org, found.id, self._worker.capacity_free_at(), ctx.deadline)

    def _start(
        self, ctx: RequestContext, draft: SnapshotDraft, name: str, time_to_live: timedelta, key: IdempotencyKey | None
    ) -> Snapshot:
        """A new snapshot, which is being created, or the one that the same request created concurrently."""
        self._quota.check_free(ctx)
        selection = self._selection_resolver.resolve(ctx, draft.selection)
        with self._worker.runner.slot() as slot:
            created_at = now()
            snapshot = Snapshot(
                id=new_id(SNAPSHOT_PREFIX),
                name=name,
                state=CreationState.CREATING,
                datatype=selection.population.datatype,
                created_at=created_at,
                expires_at=created_at + time_to_live,
                author=ctx.caller.subject,
                sources=_sources(selection.sources),
                filter=draft.selection.filter,
                excluded_sources=_sources(selection.excluded_sources),
                purpose=draft.selection.purpose,
            )
            try:
                self._snapshots.insert(ctx.org, snapshot, slot.lease(), key, ctx.deadline)
            except RequestIdReused:
                if existing := find_existing(ctx, key, self._snapshots.find_by_key):
                    return existing
                raise
            self._quota.confirm(ctx, lambda cleanup_ctx: self._take_back(cleanup_ctx, snapshot.id))
            slot.start(self._worker.job(ctx.org, snapshot, selection))
        return snapshot

    def _take_back(self, ctx: RequestContext, snapshot_id: str) -> None:
        with contextlib.suppress(SnapshotNotFound):
            self._snapshots.remove(ctx.org, snapshot_id, self._worker.capacity_free_at(), ctx.deadline)

    def _restart(
        self, ctx: RequestContext, draft: SnapshotDraft, name: str, time_to_live: timedelta, existing: Snapshot
    ) -> Snapshot:
        """The snapshot with a new attempt, or as it is stored if another request has started one."""
        selection = self._selection_resolver.resolve(ctx, draft.selection)
        with self._worker.runner.slot() as slot:
            restarted = dataclasses.replace(
                existing,
                name=name,
                state=CreationState.CREATING,
                datatype=selection.population.datatype,
                expires_at=now() + time_to_live,
                sources=_sources(selection.sources),
                excluded_sources=_sources(selection.excluded_sources),
                attempt=existing.attempt + 1,
                error="",
                progress=0,
            )
            capacity_free_at = self._worker.capacity_free_at()
            if not self._snapshots.take_over(ctx.org, restarted, slot.lease(), capacity_free_at, ctx.deadline):
                return self._snapshots.get(ctx.org, existing.id, ctx.deadline)
            slot.start(self._worker.job(ctx.org, restarted, selection))
        return restarted


def _sources(audiences: Sequence[ResolvedAudience]) -> tuple[SnapshotSource, ...]:
    return tuple(SnapshotSource(found.id, found.version, found.filter) for found in audiences)


def _payload(draft: SnapshotDraft) -> list[Any]:
    ttl_seconds = None if draft.time_to_live is None else draft.time_to_live.total_seconds()
    return [*selection_identity(draft.selection), draft.name, ttl_seconds]
