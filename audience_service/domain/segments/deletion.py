"""The use case of deleting a segment, which its use forbids."""

import dataclasses

from audience_service.domain.audiences.use import Usage
from audience_service.domain.caller import Call, Deadline
from audience_service.domain.errors import NameTaken, StaleVersion
from audience_service.domain.ports import UseRepository
from audience_service.domain.segments.segment import Segment
from audience_service.domain.segments.writes import SegmentWriter

NAMED_USERS = 3
"""How many users of each kind an error names."""

_FINISH_SECONDS = 10.0
"""What looking again and taking back may take: a deletion is not left half done because its caller's time is up."""


class SegmentDeletion:
    """Deletes segments that nothing uses, or by force."""

    def __init__(self, uses: UseRepository, writer: SegmentWriter) -> None:
        self._uses = uses
        self._writer = writer

    def delete(self, call: Call, segment_id: str, version: int | None, *, force: bool) -> Segment:
        """Mark a living segment deleted. Raises AudienceNotFound, StaleVersion, and AudienceInUse unless forced.

        A use is registered first and looks for its audience after; a deletion marks first and looks for uses after.
        Whichever comes second sees the other, so that no registered use is left without its audience.
        """
        before: list[Segment] = []

        def mark(current: Segment) -> Segment:
            if not force and (usage := self._usage(call, segment_id)).is_any:
                raise usage.refusal()
            before.append(current)
            return dataclasses.replace(current, state="deleted")

        deleted = self._writer.write(call, segment_id, version, mark)
        if force:
            return deleted
        patient = dataclasses.replace(call, deadline=Deadline.after(_FINISH_SECONDS))
        usage = self._usage(patient, segment_id)
        if usage.is_any and self._undo(patient, deleted, before[-1].state):
            raise usage.refusal()
        return deleted

    def _usage(self, call: Call, segment_id: str) -> Usage:
        return self._uses.usage(call.org, segment_id, NAMED_USERS, call.deadline)

    def _undo(self, call: Call, deleted: Segment, state: str) -> bool:
        """Bring the segment back; False where it has to stay deleted."""

        def revive(current: Segment) -> Segment:
            self._writer.check_name_free(call, current.name, current.id)
            return dataclasses.replace(current, state=state)

        try:
            self._writer.write(call, deleted.id, deleted.version, revive, deleted=True)
        except NameTaken:
            return False  # another segment took the freed name: two cannot have it, and the caller wanted this one gone
        except StaleVersion:
            return True  # somebody else has brought it back
        return True
