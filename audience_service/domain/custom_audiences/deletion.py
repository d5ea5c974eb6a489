"""The use case of deleting a custom audience, which its use forbids."""

import dataclasses

from audience_service.domain.audiences.references import Usage
from audience_service.domain.audiences.repository import UseRepository
from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.errors import StaleVersion
from audience_service.domain.custom_audiences.model import CustomAudience, check_version
from audience_service.domain.custom_audiences.repository import CustomAudienceRepository
from audience_service.domain.custom_audiences.service import CustomAudiences
from audience_service.domain.segments.deletion import MAX_NAMED_USERS

_CLEANUP_TIMEOUT_SECONDS = 10.0
"""What looking again and taking back may take: a deletion is not left half done because its caller's time is up."""


class CustomAudienceDeleter:
    """Deletes custom audiences that nothing uses, or by force."""

    def __init__(self, customs: CustomAudienceRepository, audiences: CustomAudiences, uses: UseRepository) -> None:
        self._customs = customs
        self._audiences = audiences
        self._uses = uses

    def delete(self, ctx: RequestContext, audience_id: str, version: int | None, *, force: bool) -> CustomAudience:
        """Delete for good; answers with it as it was. Raises AudienceNotFound, StaleVersion, AudienceInUse.

        As with segments, uses are registered first and look for their audience after, and a deletion marks first and
        looks for uses after: whichever comes second sees the other.
        """
        removed = self._remove(ctx, audience_id, version, force=force)
        if not force:
            cleanup_ctx = dataclasses.replace(ctx, deadline=Deadline.after(_CLEANUP_TIMEOUT_SECONDS))
            usage = self._usage(cleanup_ctx, audience_id)
            if usage.is_used and self._customs.restore(ctx.org, removed, cleanup_ctx.deadline):
                raise usage.to_error()
        self._audiences.cancel(removed)
        return removed

    def _remove(self, ctx: RequestContext, audience_id: str, version: int | None, *, force: bool) -> CustomAudience:
        while True:
            current = self._audiences.get(ctx, audience_id)
            check_version(current, version)
            if not force and (usage := self._usage(ctx, audience_id)).is_used:
                raise usage.to_error()
            try:
                self._customs.remove(ctx.org, current, ctx.deadline)
            except StaleVersion:
                if version is not None:
                    raise
                ctx.deadline.check()  # it was written meanwhile; the deadline ends the tries
            else:
                return current

    def _usage(self, ctx: RequestContext, audience_id: str) -> Usage:
        return self._uses.usage(ctx.org, audience_id, MAX_NAMED_USERS, ctx.deadline)
