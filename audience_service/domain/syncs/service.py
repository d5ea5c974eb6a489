"""The use cases on syncs: create, get, list, update, delete and reset."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from audience_service.domain.audiences.conflicts import retry_on_conflict
from audience_service.domain.audiences.selection_resolver import SelectionResolver
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.error_path import prefix_error_path
from audience_service.domain.core.errors import AudienceNotFound, InvalidArgument, RequestIdReused, StaleVersion
from audience_service.domain.core.idempotency import find_existing, idempotency_key, new_id
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.pages import ListedPage, PageRequest
from audience_service.domain.exports.selection import resolve_members
from audience_service.domain.identifiers import choose_rules
from audience_service.domain.identifiers.countries import read_default_region
from audience_service.domain.syncs.errors import SyncNotFound
from audience_service.domain.syncs.leases import SyncLeases
from audience_service.domain.syncs.model import (
    MAX_RECEIPTS,
    SYNC_PREFIX,
    Batch,
    Sync,
    SyncQuery,
    SyncSpec,
    apply_mask,
    check_external_id,
    check_spec,
    check_version,
)
from audience_service.domain.syncs.repository import SyncBatchRepository, SyncRepository, SyncRowRepository

RECEIPT_TTL = timedelta(days=400)
"""How long a batch is kept after its acknowledgement: match rates of a year, and a month to compare them."""

_CLEANUP_TIMEOUT_SECONDS = 10.0
"""The timeout of the second check of a written sync, and of its undo. They are independent of the caller's deadline."""


class Syncs:
    """Creates, finds, changes and deletes the syncs of an org."""

    def __init__(
        self,
        syncs: SyncRepository,
        rows: SyncRowRepository,
        batches: SyncBatchRepository,
        selection_resolver: SelectionResolver,
        tokens: TokenCodec,
    ) -> None:
        self._syncs = syncs
        self._rows = rows
        self._batches = batches
        self._selection_resolver = selection_resolver
        self._tokens = tokens
        self._leases = SyncLeases(syncs)

    def create(self, ctx: RequestContext, spec: SyncSpec, request_id: str) -> Sync:
        """Create a sync and return it; CreateSync in the protos states rules and errors."""
        key = idempotency_key(ctx, request_id, [dataclasses.asdict(spec)])
        if existing := find_existing(ctx, key, self._syncs.find_by_key):
            return existing
        checked = self._check(ctx, spec)
        created_at = now()
        sync = Sync(new_id(SYNC_PREFIX), checked, 0, created_at, created_at, ctx.caller.subject)
        try:
            self._syncs.insert(ctx.org, sync, key, ctx.deadline)
        except RequestIdReused:
            if existing := find_existing(ctx, key, self._syncs.find_by_key):
                return existing  # the same request, sent concurrently, was first
            raise
        self._confirm(ctx, sync, lambda cleanup_ctx: self._syncs.remove(ctx.org, sync, cleanup_ctx.deadline))
        return sync

    def get(self, ctx: RequestContext, sync_id: str) -> tuple[Sync, Sequence[Batch]]:
        """The sync, and its last acknowledged batches. Raises SyncNotFound."""
        sync = find_sync(ctx, self._syncs, sync_id)
        return sync, self._batches.acknowledged(ctx.org, sync.id, MAX_RECEIPTS, ctx.deadline)

    def list(self, ctx: RequestContext, query: SyncQuery, request: PageRequest) -> ListedPage[Sync]:
        """A page of the org's syncs. Raises InvalidPageToken."""
        return self._tokens.page(
            request,
            ("syncs", ctx.org, *dataclasses.astuple(query)),
            lambda after: self._syncs.page(ctx.org, query, request.size, after, ctx.deadline),
            (datetime, str),
        )

    def update(
        self, ctx: RequestContext, sync_id: str, written: SyncSpec, mask: Iterable[str], version: int | None
    ) -> Sync:
        """Change a sync and return it; UpdateSync in the protos states rules and errors."""
        if not sync_id:
            raise InvalidArgument.at("sync.id", "is missing; set the id of a sync")
        fields = frozenset(mask)

        def attempt() -> tuple[Sync, Sync]:
            current = find_sync(ctx, self._syncs, sync_id)
            check_version(current, version)
            spec = self._check(ctx, apply_mask(current.spec, written, fields, "sync"))
            return current, self._syncs.save(ctx.org, dataclasses.replace(current, spec=spec), ctx.deadline)

        before, saved = retry_on_conflict(ctx, attempt, once=version is not None)
        undone = dataclasses.replace(saved, spec=before.spec)
        self._confirm(ctx, saved, lambda cleanup_ctx: self._syncs.save(ctx.org, undone, cleanup_ctx.deadline))
        return saved

    def delete(self, ctx: RequestContext, sync_id: str, version: int | None) -> Sync:
        """Delete a sync and return it as it was. Raises SyncNotFound, StaleVersion."""

        def attempt() -> Sync:
            current = find_sync(ctx, self._syncs, sync_id)
            check_version(current, version)
            self._syncs.remove(ctx.org, current, ctx.deadline)
            return current

        return retry_on_conflict(ctx, attempt, once=version is not None)

    def reset(self, ctx: RequestContext, sync_id: str, external_id: str) -> Sync:
        """Forget all rows and open batches, and return the sync; ResetSync in the protos states rules and errors."""
        check_external_id(external_id, "external_id")
        sync = find_sync(ctx, self._syncs, sync_id)
        self._rows.check_supported()
        with self._leases.wait(ctx, sync.id):
            self._batches.discard(ctx.org, sync.id, now() + RECEIPT_TTL, ctx.deadline)
            self._rows.clear(ctx.org, sync.id, ctx.deadline)

            def attempt() -> Sync:
                # The new version makes the latest scan outdated.
                current = find_sync(ctx, self._syncs, sync_id)
                spec = dataclasses.replace(current.spec, external_id=external_id or current.spec.external_id)
                return self._syncs.save(ctx.org, dataclasses.replace(current, spec=spec), ctx.deadline)

            return retry_on_conflict(ctx, attempt)

    def _confirm(self, ctx: RequestContext, sync: Sync, undo: Callable[[RequestContext], object]) -> None:
        """Check the audiences of a sync that was just written, and undo the write if one is gone.

        A deletion writes first and checks the syncs after. Whichever writes second sees the other.
        """
        cleanup_ctx = dataclasses.replace(ctx, deadline=Deadline.after(_CLEANUP_TIMEOUT_SECONDS))
        try:
            self._check(cleanup_ctx, sync.spec)
        except AudienceNotFound:
            with suppress(StaleVersion, SyncNotFound):  # changed again since then, or deleted
                undo(cleanup_ctx)
            raise

    def _check(self, ctx: RequestContext, spec: SyncSpec) -> SyncSpec:
        """The spec, whose audiences exist and whose rules are known."""
        checked = check_spec(spec, "sync")
        with prefix_error_path("sync"):
            choose_rules(spec.platform, spec.rules_version, spec.options, spec.fields)
            read_default_region(spec.default_region, "default_region")
            resolve_members(ctx, self._selection_resolver, checked.selection, checked.consent_fields)
        return checked


def find_sync(ctx: RequestContext, syncs: SyncRepository, sync_id: str) -> Sync:
    """The sync of an id. Raises SyncNotFound."""
    if not sync_id.startswith(SYNC_PREFIX):
        raise SyncNotFound.of(sync_id)
    return syncs.get(ctx.org, sync_id, ctx.deadline)
