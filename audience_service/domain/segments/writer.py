"""The one way to write a segment: compare-and-set, again where no version was asked for and somebody else was first."""

import dataclasses
import secrets
import time
from collections.abc import Callable
from typing import TypeVar

from audience_service.domain.audiences.repository import ListRepository
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import NameTaken, StaleVersion
from audience_service.domain.segments.counts import with_counts
from audience_service.domain.segments.loader import get_segment
from audience_service.domain.segments.model import Segment
from audience_service.domain.segments.repository import SegmentRepository

MAX_RETRY_DELAY_MILLIS = 20

_MAX_TRIES_AT_VERSION = 100
"""How often in a row a write may fail at one and the same version. Reads of a majority may lag behind the primary, and
tell the version that was just tried for a while; a write that goes on failing at it can never be made."""

T = TypeVar("T")


class SegmentWriter:
    """Writes segments in the caller's name."""

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
        """The segment after the change, which may be asked for more than once, and as it is then.

        Without a version the caller means to overwrite. With `deleted` a deleted segment is written over as well.
        Raises AudienceNotFound, StaleVersion, NameTaken, and whatever `change` raises.
        """

        def attempt() -> Segment:
            changed = self._with_editor(ctx, change(self.current(ctx, segment_id, version, deleted=deleted)))
            return self._segments.save(ctx.org, changed, ctx.deadline, deleted=deleted)

        return self._with_count(ctx, self._retry_on_conflict(ctx, attempt, once=version is not None))

    def touch(self, ctx: RequestContext, segment_id: str) -> Segment:
        """The segment, marked as written after an edit of its list. Raises AudienceNotFound."""

        def attempt() -> Segment:
            current = self._with_editor(ctx, self.current(ctx, segment_id, None))
            return self._segments.touch(ctx.org, current, ctx.deadline)

        return self._with_count(ctx, self._retry_on_conflict(ctx, attempt, once=False))

    def reload(self, ctx: RequestContext, segment_id: str) -> Segment:
        """The segment after an edit of its list that changed nothing. Raises AudienceNotFound."""
        return self._with_count(ctx, self.current(ctx, segment_id, None))

    def remove(self, ctx: RequestContext, segment_id: str, should_remove: Callable[[Segment], bool]) -> None:
        """Remove a segment that should not have been made, for as long as it is doomed. Raises AudienceNotFound."""

        def attempt() -> None:
            current = self.current(ctx, segment_id, None, deleted=True)
            if should_remove(current):
                self._segments.remove(ctx.org, current, ctx.deadline)

        self._retry_on_conflict(ctx, attempt, once=False)

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
        """Raise NameTaken if a living segment has the name.

        The unique index alone is not enough: it knows only the records that this service has written.
        """
        if self._segments.is_name_taken(ctx.org, name, except_id, ctx.deadline):
            raise NameTaken.of(name)

    @staticmethod
    def _retry_on_conflict(ctx: RequestContext, attempt: Callable[[], T], *, once: bool) -> T:
        conflict_version, tries = "", 0
        while True:
            try:
                return attempt()
            except StaleVersion as error:
                version = error.metadata["current_version"]
                conflict_version, tries = version, tries + 1 if version == conflict_version else 1
                if once or tries == _MAX_TRIES_AT_VERSION:
                    raise
                ctx.deadline.check()  # somebody else was first; the deadline ends the tries
                time.sleep(secrets.randbelow(MAX_RETRY_DELAY_MILLIS) / 1000)

    def _with_count(self, ctx: RequestContext, segment: Segment) -> Segment:
        return with_counts(self._lists, ctx, (segment,))[0]

    @staticmethod
    def _with_editor(ctx: RequestContext, segment: Segment) -> Segment:
        return dataclasses.replace(segment, editor=ctx.caller.subject)
