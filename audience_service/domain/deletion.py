"""The use case of deleting a segment, which its use forbids."""

import dataclasses

from audience_service.domain.caller import Call, Deadline
from audience_service.domain.errors import AudienceInUse, NameTaken, StaleVersion
from audience_service.domain.ports import UseRepository
from audience_service.domain.segment import Segment
from audience_service.domain.use import Usage
from audience_service.domain.writes import SegmentWriter

_NAMED, _SHOWN_NAME = 3, 50
"""How many users an error names, and how much of a name: it travels in a trailer, which is small."""

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
            if not force:
                _refuse(self._usage(call, segment_id))
            before.append(current)
            return dataclasses.replace(current, state="deleted")

        deleted = self._writer.write(call, segment_id, version, mark)
        if force:
            return deleted
        patient = dataclasses.replace(call, deadline=Deadline.after(_FINISH_SECONDS))
        usage = self._usage(patient, segment_id)
        if _is_used(usage) and self._undo(patient, deleted, before[-1].state):
            raise _in_use(usage)
        return deleted

    def _usage(self, call: Call, segment_id: str) -> Usage:
        return self._uses.usage(call.org, segment_id, _NAMED, call.deadline)

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


def _is_used(usage: Usage) -> bool:
    return usage.use_count > 0 or usage.segment_count > 0


def _refuse(usage: Usage) -> None:
    if _is_used(usage):
        raise _in_use(usage)


def _in_use(usage: Usage) -> AudienceInUse:
    return AudienceInUse(
        f"the audience is in use: {usage.use_count} registered uses, {usage.segment_count} segments that refer to it; "
        "end that, or delete with force",
        metadata={
            "uses": str(usage.use_count),
            "kinds": ", ".join(dict.fromkeys(use.kind for use in usage.uses)),
            "segments": str(usage.segment_count),
            "segment_names": ", ".join(segment.name[:_SHOWN_NAME] for segment in usage.segments),
        },
    )
