"""The use cases on a segment's versions: list them, undelete the segment, roll it back."""

import dataclasses
from collections.abc import Callable

from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import NotDeleted
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.pages import ListedPage, Page, PageKey, PageRequest
from audience_service.domain.core.quotas import UNLIMITED, Quota
from audience_service.domain.segments.model import Segment
from audience_service.domain.segments.reference_checker import ReferenceChecker
from audience_service.domain.segments.repository import VersionRepository
from audience_service.domain.segments.validation import SegmentValidator
from audience_service.domain.segments.version import SegmentVersion, changed_fields
from audience_service.domain.segments.writer import SegmentWriter

_DELETED = "deleted"


class SegmentVersions:
    """Lists the versions of an org's segments and restores them."""

    def __init__(
        self,
        versions: VersionRepository,
        validator: SegmentValidator,
        writer: SegmentWriter,
        reference_checker: ReferenceChecker,
        tokens: TokenCodec,
        quota: Quota = UNLIMITED,
    ) -> None:
        self._versions = versions
        self._validator = validator
        self._writer = writer
        self._reference_checker = reference_checker
        self._tokens = tokens
        self._quota = quota

    def list(self, ctx: RequestContext, segment_id: str, request: PageRequest) -> ListedPage[SegmentVersion]:
        """A page of a segment's versions, newest first. Raises AudienceNotFound, InvalidPageToken."""

        def read(after: PageKey | None) -> Page[SegmentVersion]:
            page = self._versions.page(ctx.org, segment_id, after[0] if after else None, request.size, ctx.deadline)
            predecessors = (*page.versions[1:], page.preceding)
            versions = tuple(
                SegmentVersion(segment, changed_fields(before, segment))
                for segment, before in zip(page.versions, predecessors, strict=False)
            )
            return Page(versions, [page.versions[-1].version] if page.preceding else None, page.total)

        return self._tokens.page(request, ("versions", ctx.org, segment_id), read, (int,))

    def undelete(self, ctx: RequestContext, segment_id: str, version: int | None) -> Segment:
        """The deleted segment, restored; UndeleteSegment in the protos states rules and errors."""

        def change(current: Segment) -> Segment:
            if current.state != _DELETED:
                raise NotDeleted.of(current.id)
            return self._validator.restore(ctx, self._with_state_before_deletion(ctx, current), current)

        return self._write(ctx, segment_id, version, change)

    def rollback(self, ctx: RequestContext, segment_id: str, target_version: int, version: int | None) -> Segment:
        """The segment with the content of an older version; RollbackSegment in the protos states rules and errors."""

        def change(current: Segment) -> Segment:
            target = self._versions.get(ctx.org, current.id, target_version, ctx.deadline)
            return self._validator.restore(ctx, self._with_state_before_deletion(ctx, current), target)

        return self._write(ctx, segment_id, version, change)

    def _write(
        self, ctx: RequestContext, segment_id: str, version: int | None, change: Callable[[Segment], Segment]
    ) -> Segment:
        """The segment after the change, whose name is free and whose filter refers to existing audiences."""
        before: list[Segment] = []

        def checked(current: Segment) -> Segment:
            before.append(current)
            if current.state == _DELETED:
                self._quota.check_free(ctx)
            changed = change(current)
            self._writer.check_name_free(ctx, changed.name, current.id)
            return changed

        written = self._writer.write(ctx, segment_id, version, checked, deleted=True)
        if before[-1].state == _DELETED:
            self._quota.confirm(ctx, lambda cleanup_ctx: self._delete_again(cleanup_ctx, segment_id))
        self._reference_checker.check_written(ctx, before[-1], written)
        return written

    def _delete_again(self, ctx: RequestContext, segment_id: str) -> None:
        self._writer.write(
            ctx, segment_id, None, lambda current: dataclasses.replace(current, state=_DELETED), deleted=True
        )

    def _with_state_before_deletion(self, ctx: RequestContext, current: Segment) -> Segment:
        """The segment in the state that it had before it was deleted; unchanged if it is not deleted.

        The state is that of the version before the deletion, or `active` if that version is not stored.
        """
        if current.state != _DELETED:
            return current
        below = self._versions.page(ctx.org, current.id, current.version, 1, ctx.deadline).versions
        state = below[0].state if below and below[0].state != _DELETED else "active"
        return dataclasses.replace(current, state=state)
