"""Checks the references of a filter again after it was written, since other writes may have broken them meanwhile.

    request 1:  write A, which refers to B ──> check A: B refers to A ──> revert A, raise InvalidFilter
    request 2:  write B, which refers to A ──> check B: A refers to B ──> revert B, raise InvalidFilter

Each request writes first and checks after, so that at least the second sees the other. No stored filter refers to a
missing audience or back to its own segment.
"""

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
"""The timeout of the second check and the revert. They are independent of the caller's deadline."""


class ReferenceChecker:
    """Checks after a write that the filter's references still resolve, and reverts the write if they do not."""

    def __init__(self, audiences: AudienceResolver, writer: SegmentWriter) -> None:
        self._audiences = audiences
        self._writer = writer

    def check_created(self, ctx: RequestContext, created: Segment) -> None:
        """Remove the new segment if its filter cannot be evaluated. Raises AudienceNotFound, InvalidFilter then."""
        cleanup_ctx = _cleanup_context(ctx)
        try:
            self._check(cleanup_ctx, created)
        except (AudienceNotFound, InvalidFilter):
            with suppress(AudienceNotFound):
                # Removed instead of marked deleted, so that a retry with the same request_id creates it.
                self._writer.remove(
                    cleanup_ctx, created.id, lambda current: _referenced_ids(current) == _referenced_ids(created)
                )
            raise

    def check_written(self, ctx: RequestContext, before: Segment, written: Segment) -> None:
        """Revert the write if the new filter cannot be evaluated. Raises AudienceNotFound, InvalidFilter then.

        A write needs no check if the segment was not deleted before and keeps its filter.
        """
        if written.filter == before.filter and before.state != "deleted":
            return
        cleanup_ctx = _cleanup_context(ctx)
        try:
            self._check(cleanup_ctx, written)
        except (AudienceNotFound, InvalidFilter):
            with suppress(AudienceNotFound):  # deleted since then, so that its references do not matter
                self._revert(cleanup_ctx, before, written)
            raise

    def _check(self, ctx: RequestContext, segment: Segment) -> None:
        if segment.type is SegmentType.DYNAMIC and _referenced_ids(segment):
            with prefix_error_path("segment.filter"):
                self._audiences.compile(ctx, segment.filter, segment.id)

    def _revert(self, ctx: RequestContext, before: Segment, written: Segment) -> None:
        old = {name: getattr(before, name) for name in ("name", "description", "state")}

        def revert(current: Segment) -> Segment:
            """Revert only the fields that still have this write's value, not those that later writes changed."""
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
        except NameTaken:  # another segment has taken the old name since
            del old["name"]
            self._writer.write(ctx, written.id, None, revert)


def _referenced_ids(segment: Segment) -> frozenset[str]:
    return audience_references(segment.filter.where)


def _cleanup_context(ctx: RequestContext) -> RequestContext:
    return dataclasses.replace(ctx, deadline=Deadline.after(_CLEANUP_TIMEOUT_SECONDS))
