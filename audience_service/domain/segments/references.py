"""A second look at what a written filter refers to: other audiences may have gone, or referred back, meanwhile."""

import dataclasses
from contextlib import suppress

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.caller import Call, Deadline
from audience_service.domain.errors import AudienceNotFound, InvalidFilter, NameTaken
from audience_service.domain.filters.references import audience_references
from audience_service.domain.located import located
from audience_service.domain.segments.segment import Segment, SegmentType
from audience_service.domain.segments.writes import SegmentWriter

_FINISH_SECONDS = 10.0
"""What looking again and taking back may take: a write is not left half done because its caller's time is up."""


class References:
    """Looks after a write whether what the filter refers to is there still, and takes the write back where it is not.

    Like registrations and deletions, each of two writes that would break each other's filter writes first and looks
    after: whichever is second sees the other, so that no reference is left that leads back or nowhere.
    """

    def __init__(self, audiences: Audiences, writer: SegmentWriter) -> None:
        self._audiences = audiences
        self._writer = writer

    def check_created(self, call: Call, made: Segment) -> None:
        """Remove the new segment where its filter cannot be run, and raise why: AudienceNotFound, InvalidFilter."""
        patient = _patient(call)
        try:
            self._look(patient, made)
        except (AudienceNotFound, InvalidFilter):
            with suppress(AudienceNotFound):
                # Removed, not marked: its request_id stands for nothing, and can be tried again.
                self._writer.remove(patient, made.id, lambda current: _references(current) == _references(made))
            raise

    def check_written(self, call: Call, before: Segment, written: Segment) -> None:
        """Put back what was before where the new filter cannot be run, and raise why: AudienceNotFound, InvalidFilter.

        A write that leaves the filter of a living segment as it is rests on nothing new.
        """
        if written.filter == before.filter and before.state != "deleted":
            return
        patient = _patient(call)
        try:
            self._look(patient, written)
        except (AudienceNotFound, InvalidFilter):
            with suppress(AudienceNotFound):  # it has been deleted since, and refers to nothing
                self._put_back(patient, before, written)
            raise

    def _look(self, call: Call, segment: Segment) -> None:
        if segment.type is SegmentType.DYNAMIC and _references(segment):
            with located("segment.filter"):
                self._audiences.compile(call, segment.filter, segment.id)

    def _put_back(self, call: Call, before: Segment, written: Segment) -> None:
        old = {name: getattr(before, name) for name in ("name", "description", "state")}

        def put_back(current: Segment) -> Segment:
            """What others have written since stays."""
            mine = {name: value for name, value in old.items() if getattr(current, name) == getattr(written, name)}
            if _references(current) == _references(written):
                mine["filter"] = before.filter
            restored = dataclasses.replace(current, **mine)
            if restored.name != current.name:
                self._writer.check_name_free(call, restored.name, current.id)
            return restored

        try:
            self._writer.write(call, written.id, None, put_back)
        except NameTaken:  # another segment took the name that was free for a moment
            del old["name"]
            self._writer.write(call, written.id, None, put_back)


def _references(segment: Segment) -> frozenset[str]:
    return audience_references(segment.filter.where)


def _patient(call: Call) -> Call:
    return dataclasses.replace(call, deadline=Deadline.after(_FINISH_SECONDS))
