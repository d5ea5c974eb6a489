"""An org's audiences in pages: segments by name, then custom audiences, the newest first."""

from dataclasses import dataclass
from datetime import datetime

from audience_service.domain.audiences.model import Audience
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.page_tokens import Shape
from audience_service.domain.core.pages import Page, PageKey
from audience_service.domain.custom_audiences.loader import to_audience
from audience_service.domain.custom_audiences.model import CustomAudienceQuery
from audience_service.domain.custom_audiences.repository import CustomAudienceRepository
from audience_service.domain.segments.loader import to_audience as segment_to_audience
from audience_service.domain.segments.model import Order, SegmentQuery
from audience_service.domain.segments.repository import SegmentRepository

_BY_NAME = SegmentQuery(order=Order.NAME, descending=False)
_SEGMENT_KEY, _CUSTOM = 2, "custom"
KEY_SHAPES: tuple[Shape, ...] = ((str, str), (str,), (str, datetime, str))
"""The shapes of a key, for page tokens."""


@dataclass(frozen=True, slots=True)
class TypedAudience:
    """An audience, and its type as a segment or custom audience."""

    audience: Audience
    type: str


class AudiencePages:
    """Pages through all audiences of an org except its snapshots."""

    def __init__(self, segments: SegmentRepository, custom_audiences: CustomAudienceRepository) -> None:
        self._segments = segments
        self._custom_audiences = custom_audiences

    def page(self, ctx: RequestContext, size: int, after: PageKey | None) -> Page[TypedAudience]:
        """Up to `size` audiences after a key, without the total.

        A key has one of two forms:
        1. Two strings: the key of a page of segments.
        2. "custom", then the key of a page of custom audiences, if any.
        """
        found: list[TypedAudience] = []
        if after is None or len(after) == _SEGMENT_KEY:
            segments = self._segments.page(ctx.org, _BY_NAME, size, after, ctx.deadline)
            found += [TypedAudience(segment_to_audience(segment), segment.type) for segment in segments.items]
            if segments.last_key:
                return Page(found, segments.last_key)
            after = [_CUSTOM]
        custom_audiences = self._custom_audiences.page(
            ctx.org, CustomAudienceQuery(), max(size - len(found), 1), after[1:] or None, ctx.deadline
        )
        if len(found) == size:
            return Page(found, [_CUSTOM] if custom_audiences.total else None)
        found += [TypedAudience(to_audience(custom), custom.type) for custom in custom_audiences.items]
        return Page(found, [_CUSTOM, *custom_audiences.last_key] if custom_audiences.last_key else None)
