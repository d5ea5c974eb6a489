"""Counts the lists of the static segments in a response."""

import dataclasses
from collections.abc import Sequence

from audience_service.domain.audiences.repository import ListRepository
from audience_service.domain.core.context import RequestContext
from audience_service.domain.segments.model import Segment, SegmentType


def with_counts(lists: ListRepository, ctx: RequestContext, segments: Sequence[Segment]) -> Sequence[Segment]:
    """The segments, with `contact_count` set on each static one. One query counts all of them.

    A stored count would be wrong after an interrupted write, so each response counts again.
    """
    static = [segment.id for segment in segments if segment.type is SegmentType.STATIC and segment.id]
    if not static:
        return segments
    sizes = lists.sizes(ctx.org, static, ctx.deadline)
    return tuple(
        dataclasses.replace(segment, contact_count=sizes[segment.id]) if segment.id in sizes else segment
        for segment in segments
    )
