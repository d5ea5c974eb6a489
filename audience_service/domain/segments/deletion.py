"""The use case of deleting a segment, which its use forbids."""

import dataclasses

from audience_service.domain.audiences.references import Usage
from audience_service.domain.audiences.repository import UseRepository
from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.errors import NameTaken, StaleVersion
from audience_service.domain.segments.model import Segment
from audience_service.domain.segments.writer import SegmentWriter

MAX_NAMED_USERS = 3
"""How many users of each kind an error names."""

_CLEANUP_TIMEOUT_SECONDS = 10.0
"""What looking again and taking back may take: a deletion is not left half done because its caller's time is up."""


class SegmentDeleter:
    """Deletes segments that nothing uses, or by force."""

    def __init__(self, uses: UseRepository, writer: SegmentWriter) -> None:
        self._uses = uses
        self._writer = writer

    def delete(self, ctx: RequestContext, segment_id: str, version: int | None, *, force: bool) -> Segment:
        """Mark a living segment deleted. Raises AudienceNotFound, StaleVersion, and AudienceInUse unless forced.

        A use is registered first and looks for its audience after; a deletion marks first and looks for uses after.
        Whichever comes second sees the other, so that no registered use is left without its audience.
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
        return self._uses.usage(ctx.org, segment_id, MAX_NAMED_USERS, ctx.deadline)

    def _undo(self, ctx: RequestContext, deleted: Segment, state: str) -> bool:
        """Bring the segment back; False where it has to stay deleted."""

        def revive(current: Segment) -> Segment:
            self._writer.check_name_free(ctx, current.name, current.id)
            return dataclasses.replace(current, state=state)

        try:
            self._writer.write(ctx, deleted.id, deleted.version, revive, deleted=True)
        except NameTaken:
            return False  # another segment took the freed name: two cannot have it, and the caller wanted this one gone
        except StaleVersion:
            return True  # somebody else has brought it back
        return True
