"""A second look at what a written filter refers to: other audiences may have gone, or referred back, meanwhile."""

import dataclasses
from contextlib import suppress

from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.error_path import prefix_error_path
from audience_service.domain.core.errors import AudienceNotFound, InvalidFilter, NameTaken
from audience_service.domain.filters.references import audience_references
from audience_service.domain.segments.model import Segment, SegmentType
from audience_service.domain.segments.writer import SegmentWriter

_CLEANUP_TIMEOUT_SECONDS = 10.0
"""What looking again and taking back may take: a write is not left half done because its caller's time is up."""


class ReferenceChecker:
    """Looks after a write whether what the filter refers to is there still, and takes the write back where it is not.

    Like registrations and deletions, each of two writes that would break each other's filter writes first and looks
    after: whichever is second sees the other, so that no reference is left that leads back or nowhere.
    """

    def __init__(self, audiences: AudienceResolver, writer: SegmentWriter) -> None:
        self._audiences = audiences
        self._writer = writer

    def check_created(self, ctx: RequestContext, created: Segment) -> None:
        """Remove the new segment where its filter cannot be run, and raise why: AudienceNotFound, InvalidFilter."""
        cleanup_ctx = _cleanup_context(ctx)
        try:
            self._check(cleanup_ctx, created)
        except (AudienceNotFound, InvalidFilter):
            with suppress(AudienceNotFound):
                # Removed, not marked: its request_id stands for nothing, and can be tried again.
                self._writer.remove(
                    cleanup_ctx, created.id, lambda current: _referenced_ids(current) == _referenced_ids(created)
                )
            raise

    def check_written(self, ctx: RequestContext, before: Segment, written: Segment) -> None:
        """Put back what was before where the new filter cannot be run, and raise why: AudienceNotFound, InvalidFilter.

        A write that leaves the filter of a living segment as it is rests on nothing new.
        """
        if written.filter == before.filter and before.state != "deleted":
            return
        cleanup_ctx = _cleanup_context(ctx)
        try:
            self._check(cleanup_ctx, written)
        except (AudienceNotFound, InvalidFilter):
            with suppress(AudienceNotFound):  # it has been deleted since, and refers to nothing
                self._revert(cleanup_ctx, before, written)
            raise

    def _check(self, ctx: RequestContext, segment: Segment) -> None:
        if segment.type is SegmentType.DYNAMIC and _referenced_ids(segment):
            with prefix_error_path("segment.filter"):
                self._audiences.compile(ctx, segment.filter, segment.id)

    def _revert(self, ctx: RequestContext, before: Segment, written: Segment) -> None:
        old = {name: getattr(before, name) for name in ("name", "description", "state")}

        def revert(current: Segment) -> Segment:
            """What others have written since stays."""
            reverted_fields = {
                name: value for name, value in old.items() if getattr(current, name) == getattr(written, name)
            }
            if _referenced_ids(current) == _referenced_ids(written):
                reverted_fields["filter"] = before.filter
            restored = dataclasses.replace(current, **reverted_fields)
            if restored.name != current.name:
                self._writer.check_name_free(ctx, restored.name, current.id)
            return restored

        try:
            self._writer.write(ctx, written.id, None, revert)
        except NameTaken:  # another segment took the name that was free for a moment
            del old["name"]
            self._writer.write(ctx, written.id, None, revert)


def _referenced_ids(segment: Segment) -> frozenset[str]:
    return audience_references(segment.filter.where)


def _cleanup_context(ctx: RequestContext) -> RequestContext:
    return dataclasses.replace(ctx, deadline=Deadline.after(_CLEANUP_TIMEOUT_SECONDS))
