"""The lengths of static segments' lists, put into the segments that an answer holds."""

import dataclasses

from audience_service.domain.audiences.repository import ListRepository
from audience_service.domain.core.context import RequestContext
from audience_service.domain.segments.model import Segment, SegmentType


def with_counts(lists: ListRepository, ctx: RequestContext, segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """The segments with the length of every static one's list, all counted by one query.

    Counted as they are asked for: a stored count would be wrong after a write that was cut short.
    """
    static = [segment.id for segment in segments if segment.type is SegmentType.STATIC and segment.id]
    if not static:
        return segments
    sizes = lists.sizes(ctx.org, static, ctx.deadline)
    return tuple(
        dataclasses.replace(segment, contact_count=sizes[segment.id]) if segment.id in sizes else segment
        for segment in segments
    )
