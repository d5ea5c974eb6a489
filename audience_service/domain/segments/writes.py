"""The one way to write a segment: compare-and-set, again where no version was asked for and somebody else was first."""

import dataclasses
import secrets
import time
from collections.abc import Callable
from typing import TypeVar

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.caller import Call
from audience_service.domain.errors import NameTaken, StaleVersion
from audience_service.domain.ports import ListRepository, SegmentRepository
from audience_service.domain.segments.counts import with_counts
from audience_service.domain.segments.segment import Segment

_RETRY_MILLIS = 20

_SAME_VERSION_TRIES = 100
"""How often in a row a write may fail at one and the same version. Reads of a majority may lag behind the primary, and
tell the version that was just tried for a while; a write that goes on failing at it can never be made."""

T = TypeVar("T")


class SegmentWriter:
    """Writes segments in the caller's name."""

    def __init__(self, segments: SegmentRepository, lists: ListRepository, audiences: Audiences) -> None:
        self._segments = segments
        self._lists = lists
        self._audiences = audiences

    def write(
        self,
        call: Call,
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
            changed = self._signed(call, change(self.current(call, segment_id, version, deleted=deleted)))
            return self._segments.save(call.org, changed, call.deadline, deleted=deleted)

        return self._counted(call, self._tried(call, attempt, once=version is not None))

    def touch(self, call: Call, segment_id: str) -> Segment:
        """The segment, marked as written after an edit of its list. Raises AudienceNotFound."""

        def attempt() -> Segment:
            current = self._signed(call, self.current(call, segment_id, None))
            return self._segments.touch(call.org, current, call.deadline)

        return self._counted(call, self._tried(call, attempt, once=False))

    def untouched(self, call: Call, segment_id: str) -> Segment:
        """The segment after an edit of its list that changed nothing. Raises AudienceNotFound."""
        return self._counted(call, self.current(call, segment_id, None))

    def remove(self, call: Call, segment_id: str, doomed: Callable[[Segment], bool]) -> None:
        """Remove a segment that should not have been made, for as long as it is doomed. Raises AudienceNotFound."""

        def attempt() -> None:
            current = self.current(call, segment_id, None, deleted=True)
            if doomed(current):
                self._segments.remove(call.org, current, call.deadline)

        self._tried(call, attempt, once=False)

    def current(self, call: Call, segment_id: str, version: int | None, *, deleted: bool = False) -> Segment:
        """The segment, if it is at that version. Raises AudienceNotFound, StaleVersion."""
        if deleted:
            segment = self._segments.find(call.org, segment_id, call.deadline)
        else:
            segment = self._audiences.get(call, segment_id)
        if version is not None and version != segment.version:
            raise StaleVersion(
                f"the segment is at version {segment.version}, not {version}",
                metadata={"current_version": str(segment.version)},
            )
        return segment

    def check_name_free(self, call: Call, name: str, except_id: str) -> None:
        """Raise NameTaken if a living segment has the name.

        The unique index alone is not enough: it knows only the records that this service has written.
        """
        if self._segments.is_name_taken(call.org, name, except_id, call.deadline):
            raise NameTaken.of(name)

    @staticmethod
    def _tried(call: Call, attempt: Callable[[], T], *, once: bool) -> T:
        told, times = "", 0
        while True:
            try:
                return attempt()
            except StaleVersion as error:
                version = error.metadata["current_version"]
                told, times = version, times + 1 if version == told else 1
                if once or times == _SAME_VERSION_TRIES:
                    raise
                call.deadline.check()  # somebody else was first; the deadline ends the tries
                time.sleep(secrets.randbelow(_RETRY_MILLIS) / 1000)

    def _counted(self, call: Call, segment: Segment) -> Segment:
        return with_counts(self._lists, call, (segment,))[0]

    @staticmethod
    def _signed(call: Call, segment: Segment) -> Segment:
        return dataclasses.replace(segment, editor=call.caller.subject)
