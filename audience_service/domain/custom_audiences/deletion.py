"""The use case of deleting a custom audience, which is refused while anything uses it.

It is permanent, unlike that of a segment: uploads are people's data, and a deletion must remove them.
"""

import dataclasses

from audience_service.domain.audiences.conflicts import retry_on_conflict
from audience_service.domain.audiences.references import Usage
from audience_service.domain.audiences.repository import UseRepository
from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.custom_audiences.model import CustomAudience, check_version
from audience_service.domain.custom_audiences.repository import CustomAudienceRepository
from audience_service.domain.custom_audiences.service import CustomAudiences
from audience_service.domain.segments.deletion import MAX_LISTED_REFERENCES

_CLEANUP_TIMEOUT_SECONDS = 10.0
"""The timeout of the second check and the restoration. They are independent of the caller's deadline."""


class CustomAudienceDeleter:
    """Deletes custom audiences that have no use, or deletes by force."""

    def __init__(
        self, custom_audiences: CustomAudienceRepository, audiences: CustomAudiences, uses: UseRepository
    ) -> None:
        self._custom_audiences = custom_audiences
        self._audiences = audiences
        self._uses = uses

    def delete(self, ctx: RequestContext, audience_id: str, version: int | None, *, force: bool) -> CustomAudience:
        """Delete a custom audience permanently and return it as it was.

        It removes first and checks the uses after, as SegmentDeleter does, so that no registered use is left without
        its audience. Raises AudienceNotFound, StaleVersion, and AudienceInUse unless forced.
        """
        removed = self._remove(ctx, audience_id, version, force=force)
        if not force:
            cleanup_ctx = dataclasses.replace(ctx, deadline=Deadline.after(_CLEANUP_TIMEOUT_SECONDS))
            usage = self._usage(cleanup_ctx, audience_id)
            if usage.is_used and self._custom_audiences.restore(ctx.org, removed, cleanup_ctx.deadline):
                raise usage.to_error()
        self._audiences.cancel(removed)
        return removed

    def _remove(self, ctx: RequestContext, audience_id: str, version: int | None, *, force: bool) -> CustomAudience:
        def attempt() -> CustomAudience:
            current = self._audiences.get(ctx, audience_id)
            check_version(current, version)
            if not force and (usage := self._usage(ctx, audience_id)).is_used:
                raise usage.to_error()
            self._custom_audiences.remove(ctx.org, current, ctx.deadline)
            return current

        return retry_on_conflict(ctx, attempt, once=version is not None)

    def _usage(self, ctx: RequestContext, audience_id: str) -> Usage:
        return self._uses.usage(ctx.org, audience_id, MAX_LISTED_REFERENCES, ctx.deadline)
