"""Writes segments by compare-and-set on their version. Every write of a stored segment passes through here."""

import dataclasses
from collections.abc import Callable

from audience_service.domain.audiences.conflicts import retry_on_conflict
from audience_service.domain.audiences.repository import ListRepository
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import NameTaken, StaleVersion
from audience_service.domain.segments.counts import with_counts
from audience_service.domain.segments.loader import get_segment
from audience_service.domain.segments.model import Segment
from audience_service.domain.segments.repository import SegmentRepository


class SegmentWriter:
    """Writes segments, with the caller as editor."""

    def __init__(self, segments: SegmentRepository, lists: ListRepository) -> None:
        self._segments = segments
        self._lists = lists

    def write(
        self,
        ctx: RequestContext,
        segment_id: str,
        version: int | None,
        change: Callable[[Segment], Segment],
        *,
        deleted: bool = False,
    ) -> Segment:
        """The segment after the change.

        `change` is called with the stored segment, again after each conflict. Without a version, other writes are no
        conflict. With `deleted`, a deleted segment can be written too. Raises AudienceNotFound, StaleVersion, NameTaken
        and what `change` raises.
        """

        def attempt() -> Segment:
            changed = self._with_editor(ctx, change(self.current(ctx, segment_id, version, deleted=deleted)))
            return self._segments.save(ctx.org, changed, ctx.deadline, deleted=deleted)

        return self._with_count(ctx, retry_on_conflict(ctx, attempt, once=version is not None))

    def touch(self, ctx: RequestContext, segment_id: str) -> Segment:
        """The segment with its version raised, after an edit of its list. Raises AudienceNotFound."""

        def attempt() -> Segment:
            current = self._with_editor(ctx, self.current(ctx, segment_id, None))
            return self._segments.touch(ctx.org, current, ctx.deadline)

        return self._with_count(ctx, retry_on_conflict(ctx, attempt))

    def reload(self, ctx: RequestContext, segment_id: str) -> Segment:
        """The segment as it is stored now. Raises AudienceNotFound."""
        return self._with_count(ctx, self.current(ctx, segment_id, None))

    def remove(self, ctx: RequestContext, segment_id: str, should_remove: Callable[[Segment], bool]) -> None:
        """Remove a segment to undo its creation, if `should_remove` holds for it. Raises AudienceNotFound."""

        def attempt() -> None:
            current = self.current(ctx, segment_id, None, deleted=True)
            if should_remove(current):
                self._segments.remove(ctx.org, current, ctx.deadline)

        retry_on_conflict(ctx, attempt)

    def current(self, ctx: RequestContext, segment_id: str, version: int | None, *, deleted: bool = False) -> Segment:
        """The segment, if it is at that version. Raises AudienceNotFound, StaleVersion."""
        if deleted:
            segment = self._segments.find(ctx.org, segment_id, ctx.deadline)
        else:
            segment = get_segment(self._segments, ctx, segment_id)
        if version is not None and version != segment.version:
            raise StaleVersion(
                f"the segment is at version {segment.version}, not {version}",
                metadata={"current_version": str(segment.version)},
            )
        return segment

    def check_name_free(self, ctx: RequestContext, name: str, except_id: str) -> None:
        """Raise NameTaken if another segment has the name. Deleted segments do not count.

        The unique index alone is not enough: it has only the records that this service wrote.
        """
        if self._segments.is_name_taken(ctx.org, name, except_id, ctx.deadline):
            raise NameTaken.of(name)

    def _with_count(self, ctx: RequestContext, segment: Segment) -> Segment:
        return with_counts(self._lists, ctx, (segment,))[0]

    @staticmethod
    def _with_editor(ctx: RequestContext, segment: Segment) -> Segment:
        return dataclasses.replace(segment, editor=ctx.caller.subject)
