"""Loads segments by id, as segments or as audiences."""

from collections.abc import Mapping, Sequence

from audience_service.domain.audiences.model import Audience, FilterAudience, ListAudience
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import AudienceNotFound
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.segments.model import ID_PREFIX, Segment, SegmentType
from audience_service.domain.segments.repository import SegmentRepository


def to_audience(segment: Segment) -> Audience:
    """The segment as an audience: the list of a static segment, or the filter of a dynamic one."""
    if segment.type is SegmentType.STATIC:
        return to_list_audience(segment)
    return FilterAudience(segment.id, segment.name, segment.filter, segment.version)


def to_list_audience(segment: Segment) -> ListAudience:
    """A static segment as an audience."""
    members = MemberList(segment.id, segment.filter.datatype, segment.version)
    return ListAudience(segment.id, segment.name, members, segment.version)


def get_segment(segments: SegmentRepository, ctx: RequestContext, segment_id: str) -> Segment:
    """The segment without `contact_count`. Raises AudienceNotFound, also for the id of another kind of audience."""
    if not segment_id.startswith(ID_PREFIX):
        raise AudienceNotFound.of(segment_id)
    return segments.get(ctx.org, segment_id, ctx.deadline)


class SegmentLoader:
    """Loads segments that are not deleted, within the caller's org."""

    def __init__(self, segments: SegmentRepository) -> None:
        self._segments = segments

    def load(self, ctx: RequestContext, audience_ids: Sequence[str]) -> Mapping[str, Audience]:
        """The segments that exist, as audiences, all in one query."""
        found = self._segments.get_many(ctx.org, audience_ids, ctx.deadline)
        return {segment_id: to_audience(segment) for segment_id, segment in found.items()}
