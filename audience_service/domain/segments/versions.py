"""The use cases on a segment's past: list its versions, and bring one back."""

import dataclasses

from audience_service.domain.caller import Call
from audience_service.domain.errors import InvalidArgument
from audience_service.domain.ports import VersionRepository
from audience_service.domain.segments.drafts import DraftReader
from audience_service.domain.segments.references import References
from audience_service.domain.segments.segment import Segment
from audience_service.domain.segments.version import SegmentVersion, changed_fields
from audience_service.domain.segments.writes import SegmentWriter
from audience_service.domain.tokens import TokenSealer


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

    def restore(self, call: Call, segment_id: str, version: int | None, restore_version: int | None) -> Segment:
        """Bring a deleted segment back, or an older version; RestoreSegment in the protos states rules and errors."""
        before: list[Segment] = []

        def change(current: Segment) -> Segment:
            before.append(current)
            restored = self._restored(call, current, restore_version)
            self._writer.check_name_free(call, restored.name, current.id)
            return restored

        written = self._writer.write(call, segment_id, version, change, deleted=True)
        self._references.check_written(call, before[-1], written)
        return written

    def _restored(self, call: Call, current: Segment, restore_version: int | None) -> Segment:
        deleted = current.state == "deleted"
        if restore_version is None and not deleted:
            raise InvalidArgument.at("restore_version", "is missing; without it only a deleted segment is restored")
        living = dataclasses.replace(current, state=self._state_before(call, current)) if deleted else current
        if restore_version is None:
            return self._drafts.restore(call, living, current)
        old = self._versions.get(call.org, current.id, restore_version, call.deadline)
        return self._drafts.restore(call, living, old)

    def _state_before(self, call: Call, deleted: Segment) -> str:
        """The state that a deleted segment had: that of the version below; `active` where none was kept."""
        below = self._versions.page(call.org, deleted.id, deleted.version, 1, call.deadline).versions
        return below[0].state if below and below[0].state != "deleted" else "active"
