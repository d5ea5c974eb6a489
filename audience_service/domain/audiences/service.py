"""The use cases on the use of audiences: register, release and list."""

import dataclasses
from collections.abc import Callable, Mapping

from audience_service.domain.audiences.references import AudienceUse, Usage, check_use
from audience_service.domain.audiences.repository import UseRepository
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.error_path import prefix_error_path
from audience_service.domain.core.errors import AudienceNotFound, NotFound
from audience_service.domain.core.quotas import UNLIMITED, Quota

MAX_LISTED = 1_000
"""The most uses, segments, lookalikes and syncs in a response, each."""

FindRecord = Callable[[str, str, Deadline], object]
"""Finds the record of an audience by org and id. Raises NotFound if there is none."""


@dataclasses.dataclass(frozen=True, slots=True)
class RecordFinder:
    """Finds the records of one kind of audience: `get` those that are not deleted, `find` all that are stored."""

    get: FindRecord
    find: FindRecord


class AudienceUses:
    """Records which consumers use an audience, and lists everything that uses one.

    A use can be registered on each kind of audience that `finders` has, by the prefix of its ids.
    """

    def __init__(self, uses: UseRepository, finders: Mapping[str, RecordFinder], quota: Quota = UNLIMITED) -> None:
        self._uses = uses
        self._quota = quota
        self._finders = finders

    def register(self, ctx: RequestContext, use: AudienceUse) -> AudienceUse:
        """The use as it was first registered. Raises InvalidArgument, AudienceNotFound, QuotaExceeded.

        A registration writes first and checks the audience after; a deletion writes first and checks the uses after.
        Whichever writes second sees the other, so that no registered use is left without its audience. A repeated
        registration adds no use, so it succeeds also if the org's quota is used up.
        """
        with prefix_error_path("use"):
            check_use(use)
        self._check_exists(ctx, use.audience_id)
        stamped = dataclasses.replace(use, registrant=ctx.caller.subject, created_at=now())
        registered = self._uses.add(ctx.org, stamped, ctx.deadline)
        if registered == stamped:
            self._quota.confirm(
                ctx, lambda cleanup_ctx: self._uses.undo_add(cleanup_ctx.org, stamped, cleanup_ctx.deadline)
            )
        try:
            # A deletion that missed the use has written before this second check.
            self._check_exists(ctx, use.audience_id)
        except AudienceNotFound:
            self._uses.undo_add(ctx.org, stamped, ctx.deadline)
            raise
        return registered

    def release(self, ctx: RequestContext, use: AudienceUse) -> bool:
        """Remove the use and return whether it was registered. Raises InvalidArgument."""
        return self._uses.remove(ctx.org, check_use(use), ctx.deadline)

    def usage(self, ctx: RequestContext, audience_id: str) -> Usage:
        """The usage of an audience. Raises AudienceNotFound if it has no use and the org has no such audience.

        Deleted segments count as audiences of the org. Other kinds are removed permanently, while their uses stay
        registered. They are listed as long as they exist, so that their consumers can release them.
        """
        usage = self._uses.usage(ctx.org, audience_id, MAX_LISTED, ctx.deadline)
        if not usage.is_used:
            self._check_exists(ctx, audience_id, deleted=True)
        return usage

    def _check_exists(self, ctx: RequestContext, audience_id: str, *, deleted: bool = False) -> None:
        """Raise AudienceNotFound if the org has no such audience. With `deleted`, a deleted segment is enough."""
        finder = next((finder for prefix, finder in self._finders.items() if audience_id.startswith(prefix)), None)
        if finder is None:
            raise AudienceNotFound.of(audience_id)
        try:
            (finder.find if deleted else finder.get)(ctx.org, audience_id, ctx.deadline)
        except NotFound:
            raise AudienceNotFound.of(audience_id) from None
