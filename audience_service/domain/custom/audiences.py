"""The use cases on custom audiences: create, get, list, refresh."""

import dataclasses
import secrets
import time
from collections.abc import Iterable

from audience_service.domain.caller import Call, Deadline
from audience_service.domain.clock import now
from audience_service.domain.creation import create_request, new_id
from audience_service.domain.custom.audience import (
    CUSTOM_PREFIX,
    PLACE,
    CustomAudience,
    CustomDraft,
    CustomQuery,
    Work,
    WorkKind,
    apply_draft,
    check_custom_type,
    check_draft,
    check_version,
)
from audience_service.domain.custom.errors import NotRefreshable
from audience_service.domain.custom.ports import CustomAudienceRepository, Plans, Refresher, Refreshers
from audience_service.domain.errors import (
    AlreadyExists,
    AudienceNotFound,
    InvalidArgument,
    NameTaken,
    RequestIdReused,
    StaleVersion,
)
from audience_service.domain.jobs import Job, Report
from audience_service.domain.ports import CreateRequest, ListRepository
from audience_service.domain.tokens import TokenSealer

_RETRY_MILLIS = 20


@dataclasses.dataclass(frozen=True, slots=True)
class ListedCustoms:
    """A page of custom audiences as callers get it; the token is empty on the last page."""

    audiences: tuple[CustomAudience, ...]
    next_page_token: str
    total: int


class CustomAudiences:
    """What an org does with its custom audiences."""

    def __init__(
        self,
        customs: CustomAudienceRepository,
        lists: ListRepository,
        plans: Plans,
        refreshers: Refreshers,
        sealer: TokenSealer,
    ) -> None:
        self._customs = customs
        self._lists = lists
        self._plans = plans
        self._refreshers = refreshers
        self._sealer = sealer

    def create(self, call: Call, draft: CustomDraft, request_id: str, *, validate_only: bool) -> CustomAudience:
        """Make a custom audience; CreateCustomAudience in the protos states rules and errors."""
        request = create_request(call, request_id, [dataclasses.asdict(draft)])
        if made := self._made_by(call, request):
            return made
        drafted = check_draft(draft)
        if drafted.type not in self._plans:
            raise InvalidArgument.at(f"{PLACE}.type", f"{drafted.type} is not served")
        try:
            if self._customs.is_name_taken(call.org, drafted.name, call.deadline):
                raise NameTaken.of(drafted.name, "custom audience")
            planned = self._plans[drafted.type](call, drafted)
            if validate_only:
                return planned
            return self._counted(call, (self._stored(call, planned, request),))[0]
        except AlreadyExists:
            if made := self._made_by(call, request):
                return made  # the same request, sent twice at once: the other one was first
            raise

    def get(self, call: Call, audience_id: str) -> CustomAudience:
        """The custom audience. Raises AudienceNotFound."""
        return self._counted(call, (self._found(call, audience_id),))[0]

    def list(self, call: Call, query: CustomQuery, page_size: int, page_token: str) -> ListedCustoms:
        """A page of the org's custom audiences. Raises InvalidArgument, InvalidPageToken."""
        if query.type:
            check_custom_type(query.type, "type")
        binding = ("custom audiences", call.org, *dataclasses.astuple(query))
        after = self._sealer.open(page_token, binding, "page_token") if page_token else None
        page = self._customs.page(call.org, query, page_size, (after[0], after[1]) if after else None, call.deadline)
        token = self._sealer.seal(binding, list(page.last)) if page.last else ""
        return ListedCustoms(self._counted(call, page.audiences), token, page.total)

    def update(
        self,
        call: Call,
        audience_id: str,
        draft: CustomDraft,
        mask: Iterable[str],
        version: int | None,
        *,
        validate_only: bool,
    ) -> CustomAudience:
        """Change name and description; UpdateCustomAudience in the protos states rules and errors."""
        if not audience_id:
            raise InvalidArgument.at(f"{PLACE}.id", "is missing; set the id of a custom audience")
        fields = frozenset(mask)
        while True:
            current = self._found(call, audience_id)
            check_version(current, version)
            changed = apply_draft(current, draft, fields)
            if self._customs.is_name_taken(call.org, changed.name, call.deadline, current.id):
                raise NameTaken.of(changed.name, "custom audience")
            if validate_only:
                return self._counted(call, (changed,))[0]
            try:
                return self._counted(call, (self._customs.save(call.org, changed, call.deadline),))[0]
            except StaleVersion:
                if version is not None:
                    raise
            call.deadline.check()  # another write came first; the deadline ends the attempts
            time.sleep(secrets.randbelow(_RETRY_MILLIS) / 1000)

    def refresh(self, call: Call, audience_id: str) -> CustomAudience:
        """Start to bring an audience up to date; RefreshCustomAudience in the protos states rules and errors."""
        found = self._found(call, audience_id)
        refresher = self._refreshers.get(found.type)
        if refresher is None:
            raise NotRefreshable.of(found.type)
        if not found.is_working:
            with refresher.runner.slot() as slot:
                refresher.check(call, found)
                started = self._customs.start_work(call.org, found.id, slot.lease(), call.deadline)
                if started:
                    slot.start(self._job(call, started, refresher))
            found = started or self._found(call, audience_id)
        return self._counted(call, (found,))[0]

    def cancel(self, audience: CustomAudience) -> None:
        """Stop the work on a deleted audience if it runs here; another process stops at its next renewal."""
        if refresher := self._refreshers.get(audience.type):
            refresher.runner.cancel(audience.id)

    def _found(self, call: Call, audience_id: str) -> CustomAudience:
        if not audience_id.startswith(CUSTOM_PREFIX):
            raise AudienceNotFound.of(audience_id)
        return self._customs.get(call.org, audience_id, call.deadline)

    def _made_by(self, call: Call, request: CreateRequest | None) -> CustomAudience | None:
        """What the request has made, as it is now."""
        found = self._customs.find_request(call.org, request, call.deadline) if request else None
        if request is None or found is None:
            return None
        audience, made_from = found
        if made_from != request.digest:
            raise RequestIdReused(
                "this request_id has made a custom audience from a different request",
                metadata={"request_id": request.request_id},
            )
        return self._counted(call, (audience,))[0]

    def _stored(self, call: Call, planned: CustomAudience, request: CreateRequest | None) -> CustomAudience:
        """The new audience; a type that is created in the background is CREATING, and its work has started."""
        created = now()
        audience = dataclasses.replace(
            planned,
            id=new_id(CUSTOM_PREFIX),
            create_time=created,
            update_time=created,
            author=call.caller.subject,
        )
        refresher = self._refreshers.get(audience.type)
        if refresher is None or not refresher.creates:
            self._customs.insert(call.org, audience, request, call.deadline)
            return audience
        audience = dataclasses.replace(audience, work=Work(WorkKind.CREATION, 1, created))
        with refresher.runner.slot() as slot:
            refresher.check(call, audience)
            self._customs.insert(call.org, audience, request, call.deadline, slot.lease())
            slot.start(self._job(call, audience, refresher))
        return audience

    def _job(self, call: Call, audience: CustomAudience, refresher: Refresher) -> Job:
        """The work on an audience, which is stored, as a job."""

        def run(deadline: Deadline, report: Report) -> None:
            refresher.refresh(dataclasses.replace(call, deadline=deadline), audience, report)

        return Job(
            audience.id,
            run,
            lambda lease, progress, until: self._customs.renew_work(call.org, audience, lease, progress, until),
            lambda error, until: self._customs.end_work(call.org, audience, error, until),
        )

    def _counted(self, call: Call, audiences: tuple[CustomAudience, ...]) -> tuple[CustomAudience, ...]:
        """The audiences with the lengths of their lists, counted as they are asked for, by one query."""
        listed = {audience.contacts.audience_id: audience.id for audience in audiences if audience.is_listed}
        sizes = self._lists.sizes(call.org, list(listed), call.deadline) if listed else {}
        counts = {audience_id: sizes.get(rows_id, 0) for rows_id, audience_id in listed.items()}
        return tuple(dataclasses.replace(each, contact_count=counts.get(each.id)) for each in audiences)
