"""The use cases on a segment's versions: list them, undelete the segment, roll it back to one."""

import dataclasses
from collections.abc import Callable

from audience_service.domain.caller import Call
from audience_service.domain.errors import NotDeleted
from audience_service.domain.ports import VersionRepository
from audience_service.domain.segments.drafts import DraftReader
from audience_service.domain.segments.references import References
from audience_service.domain.segments.segment import Segment
from audience_service.domain.segments.version import SegmentVersion, changed_fields
from audience_service.domain.segments.writes import SegmentWriter
from audience_service.domain.tokens import TokenSealer

_DELETED = "deleted"


@dataclasses.dataclass(frozen=True, slots=True)
class ListedVersions:
    """A page of versions as callers get it; the token is empty on the last page."""

    versions: tuple[SegmentVersion, ...]
    next_page_token: str
    total: int


class SegmentVersions:
    """What an org does with what its segments have been."""

    def __init__(
        self,
        versions: VersionRepository,
        drafts: DraftReader,
        writer: SegmentWriter,
        references: References,
        sealer: TokenSealer,
    ) -> None:
        self._versions = versions
        self._drafts = drafts
        self._writer = writer
        self._references = references
        self._sealer = sealer

    def list(self, call: Call, segment_id: str, page_size: int, page_token: str) -> ListedVersions:
        """A page of a segment's versions, newest first. Raises AudienceNotFound, InvalidPageToken."""
        binding = ("versions", call.org, segment_id)
        below = int(self._sealer.open(page_token, binding, "page_token")[0]) if page_token else None
        page = self._versions.page(call.org, segment_id, below, page_size, call.deadline)
        befores = (*page.versions[1:], page.behind)
        versions = tuple(
            SegmentVersion(segment, changed_fields(before, segment))
            for segment, before in zip(page.versions, befores, strict=False)
        )
        token = self._sealer.seal(binding, [page.versions[-1].version]) if page.behind else ""
        return ListedVersions(versions, token, page.total)

    def undelete(self, call: Call, segment_id: str, version: int | None) -> Segment:
        """The deleted segment, brought back; UndeleteSegment in the protos states rules and errors."""

        def change(current: Segment) -> Segment:
            if current.state != _DELETED:
                raise NotDeleted.of(current.id)
            return self._drafts.restore(call, self._brought_back(call, current), current)

        return self._write(call, segment_id, version, change)

    def rollback(self, call: Call, segment_id: str, target_version: int, version: int | None) -> Segment:
        """The segment with the content of an older version; RollbackSegment in the protos states rules and errors."""

        def change(current: Segment) -> Segment:
            target = self._versions.get(call.org, current.id, target_version, call.deadline)
            return self._drafts.restore(call, self._brought_back(call, current), target)

        return self._write(call, segment_id, version, change)

    def _write(self, call: Call, segment_id: str, version: int | None, change: Callable[[Segment], Segment]) -> Segment:
        """The segment after the change, once its name is free and its filter refers to existing audiences."""
        before: list[Segment] = []

        def checked(current: Segment) -> Segment:
            before.append(current)
            changed = change(current)
            self._writer.check_name_free(call, changed.name, current.id)
            return changed

        written = self._writer.write(call, segment_id, version, checked, deleted=True)
        self._references.check_written(call, before[-1], written)
        return written

    def _brought_back(self, call: Call, current: Segment) -> Segment:
        """The segment in the state that it had before it was deleted; unchanged if it is not deleted.

        The state is that of the version before the deletion, or `active` if that one was not kept.
        """
        if current.state != _DELETED:
            return current
        below = self._versions.page(call.org, current.id, current.version, 1, call.deadline).versions
        state = below[0].state if below and below[0].state != _DELETED else "active"
        return dataclasses.replace(current, state=state)
