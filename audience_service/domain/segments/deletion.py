"""The use case of deleting a segment, which is refused while anything uses the segment."""

import dataclasses

from audience_service.domain.audiences.references import Usage
from audience_service.domain.audiences.repository import UseRepository
from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.errors import NameTaken, StaleVersion
from audience_service.domain.segments.model import Segment
from audience_service.domain.segments.writer import SegmentWriter

MAX_LISTED_REFERENCES = 3
"""The most segments, lookalikes and syncs that an error names, each."""

_CLEANUP_TIMEOUT_SECONDS = 10.0
"""The timeout of the second check and the undo. They are independent of the caller's deadline."""


class SegmentDeleter:
    """Deletes segments that have no use, or deletes by force."""

    def __init__(self, uses: UseRepository, writer: SegmentWriter) -> None:
        self._uses = uses
        self._writer = writer

    def delete(self, ctx: RequestContext, segment_id: str, version: int | None, *, force: bool) -> Segment:
        """Mark a segment deleted and return it. Raises AudienceNotFound, StaleVersion, and AudienceInUse unless forced.

        A registration writes first and checks the audience after; a deletion writes first and checks the uses after.
        Whichever writes second sees the other, so that no registered use is left without its audience.
        """
        before: list[Segment] = []

        def mark(current: Segment) -> Segment:
            if not force and (usage := self._usage(ctx, segment_id)).is_used:
                raise usage.to_error()
            before.append(current)
            return dataclasses.replace(current, state="deleted")

        deleted = self._writer.write(ctx, segment_id, version, mark)
        if force:
            return deleted
        cleanup_ctx = dataclasses.replace(ctx, deadline=Deadline.after(_CLEANUP_TIMEOUT_SECONDS))
        usage = self._usage(cleanup_ctx, segment_id)
        if usage.is_used and self._undo(cleanup_ctx, deleted, before[-1].state):
            raise usage.to_error()
        return deleted

    def _usage(self, ctx: RequestContext, segment_id: str) -> Usage:
        return self._uses.usage(ctx.org, segment_id, MAX_LISTED_REFERENCES, ctx.deadline)

    def _undo(self, ctx: RequestContext, deleted: Segment, state: str) -> bool:
        """Restore the segment. Returns False if it must stay deleted."""

        def restore(current: Segment) -> Segment:
            self._writer.check_name_free(ctx, current.name, current.id)
            return dataclasses.replace(current, state=state)

        try:
            self._writer.write(ctx, deleted.id, deleted.version, restore, deleted=True)
        except NameTaken:
            return False  # another segment took the name; the caller requested the deletion, so it stays
        except StaleVersion:
            return True  # another request has restored it
        return True
