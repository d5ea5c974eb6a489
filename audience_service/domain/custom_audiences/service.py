"""The use cases on custom audiences: create, get, list, update and refresh."""

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from datetime import datetime

from audience_service.domain.audiences.conflicts import retry_on_conflict
from audience_service.domain.audiences.repository import ListRepository
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.errors import (
    AlreadyExists,
    AudienceNotFound,
    InvalidArgument,
    NameTaken,
)
from audience_service.domain.core.idempotency import IdempotencyKey, find_existing, idempotency_key, new_id
from audience_service.domain.core.jobs import Job, Report
from audience_service.domain.core.lease import Lease
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.pages import ListedPage, PageRequest
from audience_service.domain.core.quotas import UNLIMITED, Quota
from audience_service.domain.custom_audiences.errors import NotRefreshable
from audience_service.domain.custom_audiences.model import (
    CUSTOM_PREFIX,
    FIELD_PATH,
    CustomAudience,
    CustomAudienceDraft,
    CustomAudienceQuery,
    Work,
    WorkKind,
    apply_draft,
    check_custom_type,
    check_draft,
    check_version,
)
from audience_service.domain.custom_audiences.repository import (
    CustomAudienceRepository,
    Refresher,
    Refreshers,
    SpecValidators,
)


class CustomAudiences:
    """Creates, finds, updates and refreshes the custom audiences of an org."""

    def __init__(
        self,
        custom_audiences: CustomAudienceRepository,
        lists: ListRepository,
        validators: SpecValidators,
        refreshers: Refreshers,
        tokens: TokenCodec,
        quota: Quota = UNLIMITED,
    ) -> None:
        self._custom_audiences = custom_audiences
        self._lists = lists
        self._validators = validators
        self._refreshers = refreshers
        self._tokens = tokens
        self._quota = quota

    def create(
        self, ctx: RequestContext, draft: CustomAudienceDraft, request_id: str, *, validate_only: bool
    ) -> CustomAudience:
        """Create a custom audience and return it; CreateCustomAudience in the protos states rules and errors."""
        key = idempotency_key(ctx, request_id, [dataclasses.asdict(draft)])
        if existing := self._find_existing(ctx, key):
            return existing
        self._quota.check_free(ctx)
        checked = check_draft(draft)
        if checked.type not in self._validators:
            raise InvalidArgument.at(f"{FIELD_PATH}.type", f"{checked.type} is not available on this server")
        try:
            if self._custom_audiences.is_name_taken(ctx.org, checked.name, ctx.deadline):
                raise NameTaken.of(checked.name, "custom audience")
            validated = self._validators[checked.type](ctx, checked)
            if validate_only:
                return validated
            return self._with_counts(ctx, (self._store(ctx, validated, key),))[0]
        except AlreadyExists:
            if existing := self._find_existing(ctx, key):
                return existing  # the same request, sent concurrently, was first
            raise

    def get(self, ctx: RequestContext, audience_id: str) -> CustomAudience:
        """The custom audience. Raises AudienceNotFound."""
        return self._with_counts(ctx, (self._get(ctx, audience_id),))[0]

    def list(self, ctx: RequestContext, query: CustomAudienceQuery, request: PageRequest) -> ListedPage[CustomAudience]:
        """A page of the org's custom audiences. Raises InvalidArgument, InvalidPageToken."""
        if query.type:
            check_custom_type(query.type, "type")
        binding = ("custom audiences", ctx.org, *dataclasses.astuple(query))
        page = self._tokens.page(
            request,
            binding,
            lambda after: self._custom_audiences.page(ctx.org, query, request.size, after, ctx.deadline),
            (datetime, str),
        )
        return dataclasses.replace(page, items=self._with_counts(ctx, page.items))

    def update(
        self,
        ctx: RequestContext,
        audience_id: str,
        draft: CustomAudienceDraft,
        mask: Iterable[str],
        version: int | None,
        *,
        validate_only: bool,
    ) -> CustomAudience:
        """Change name, description and external; UpdateCustomAudience in the protos states rules and errors."""
        if not audience_id:
            raise InvalidArgument.at(f"{FIELD_PATH}.id", "is missing; set the id of a custom audience")
        fields = frozenset(mask)

        def attempt() -> CustomAudience:
            current = self._get(ctx, audience_id)
            check_version(current, version)
            changed = apply_draft(current, draft, fields)
            if self._custom_audiences.is_name_taken(ctx.org, changed.name, ctx.deadline, current.id):
                raise NameTaken.of(changed.name, "custom audience")
            return changed if validate_only else self._custom_audiences.save(ctx.org, changed, ctx.deadline)

        return self._with_counts(ctx, (retry_on_conflict(ctx, attempt, once=version is not None),))[0]

    def refresh(self, ctx: RequestContext, audience_id: str) -> CustomAudience:
        """Start a refresh and return the audience; RefreshCustomAudience in the protos states rules and errors."""
        found = self._get(ctx, audience_id)
        refresher = self._refreshers.get(found.type)
        if refresher is None:
            raise NotRefreshable.of(found.type)
        if not found.is_working:
            with refresher.runner.slot() as slot:
                refresher.check(ctx, found)
                started = self._custom_audiences.start_work(ctx.org, found.id, slot.lease(), ctx.deadline)
                if started:
                    slot.start(self._job(ctx, started, refresher))
            found = started or self._get(ctx, audience_id)
        return self._with_counts(ctx, (found,))[0]

    def cancel(self, audience: CustomAudience) -> None:
        """Stop the work on a deleted audience if it runs here; another process stops at its next renewal."""
        if refresher := self._refreshers.get(audience.type):
            refresher.runner.cancel(audience.id)

    def _get(self, ctx: RequestContext, audience_id: str) -> CustomAudience:
        if not audience_id.startswith(CUSTOM_PREFIX):
            raise AudienceNotFound.of(audience_id)
        return self._custom_audiences.get(ctx.org, audience_id, ctx.deadline)

    def _find_existing(self, ctx: RequestContext, key: IdempotencyKey | None) -> CustomAudience | None:
        found = find_existing(ctx, key, self._custom_audiences.find_by_key)
        return self._with_counts(ctx, (found,))[0] if found else None

    def _store(self, ctx: RequestContext, validated: CustomAudience, key: IdempotencyKey | None) -> CustomAudience:
        """The new audience; a type that is created in the background is CREATING, and its work has started."""
        created = now()
        audience = dataclasses.replace(
            validated,
            id=new_id(CUSTOM_PREFIX),
            created_at=created,
            updated_at=created,
            author=ctx.caller.subject,
        )
        refresher = self._refreshers.get(audience.type)
        if refresher is None or not refresher.creates:
            self._insert(ctx, audience, key)
            return audience
        audience = dataclasses.replace(audience, work=Work(WorkKind.CREATION, 1, created))
        with refresher.runner.slot() as slot:
            refresher.check(ctx, audience)
            self._insert(ctx, audience, key, slot.lease())
            slot.start(self._job(ctx, audience, refresher))
        return audience

    def _insert(
        self, ctx: RequestContext, audience: CustomAudience, key: IdempotencyKey | None, lease: Lease | None = None
    ) -> None:
        self._custom_audiences.insert(ctx.org, audience, key, ctx.deadline, lease)

        def take_back(cleanup_ctx: RequestContext) -> None:
            def attempt() -> None:
                self._custom_audiences.remove(ctx.org, self._get(cleanup_ctx, audience.id), cleanup_ctx.deadline)

            with contextlib.suppress(AudienceNotFound):
                retry_on_conflict(cleanup_ctx, attempt)

        self._quota.confirm(ctx, take_back)

    def _job(self, ctx: RequestContext, audience: CustomAudience, refresher: Refresher) -> Job:
        """The work on an audience, which is stored, as a job."""

        def run(deadline: Deadline, report: Report) -> None:
            refresher.refresh(dataclasses.replace(ctx, deadline=deadline), audience, report)

        return Job(
            audience.id,
            run,
            lambda lease, progress, until: self._custom_audiences.renew_work(ctx.org, audience, lease, progress, until),
            lambda error, until: self._custom_audiences.end_work(ctx.org, audience, error, until),
        )

    def _with_counts(self, ctx: RequestContext, audiences: Sequence[CustomAudience]) -> tuple[CustomAudience, ...]:
        """The audiences with `contact_count` set. One query counts all their lists."""
        ids_by_list = {audience.contacts.list_id: audience.id for audience in audiences if audience.has_list}
        sizes = self._lists.sizes(ctx.org, list(ids_by_list), ctx.deadline) if ids_by_list else {}
        counts = {audience_id: sizes.get(list_version_id, 0) for list_version_id, audience_id in ids_by_list.items()}
        return tuple(dataclasses.replace(each, contact_count=counts.get(each.id)) for each in audiences)
