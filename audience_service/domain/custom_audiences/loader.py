"""Loads custom audiences as audiences that have members."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from audience_service.domain.audiences.model import Audience, FilterAudience, ListAudience
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import AudienceNotFound
from audience_service.domain.custom_audiences.model import CustomAudience, PixelSpec
from audience_service.domain.custom_audiences.pixel import pixel_filter
from audience_service.domain.custom_audiences.repository import CustomAudienceRepository


def to_audience(custom: CustomAudience) -> Audience:
    """The custom audience as an audience: its list, or the filter of a pixel. A list has members once it is READY."""
    if isinstance(custom.spec, PixelSpec):
        return FilterAudience(custom.id, custom.name, pixel_filter(custom.datatype, custom.spec), custom.version)
    return ListAudience(custom.id, custom.name, custom.contacts, custom.version, custom.creation_state)


class CustomAudienceLoader:
    """Loads custom audiences within the caller's org."""

    def __init__(self, custom_audiences: CustomAudienceRepository) -> None:
        self._custom_audiences = custom_audiences

    def load(self, ctx: RequestContext, audience_ids: Sequence[str]) -> Mapping[str, Audience]:
        """The custom audiences that exist, one query each."""
        found: dict[str, Audience] = {}
        for audience_id in audience_ids:
            with suppress(AudienceNotFound):
                found[audience_id] = to_audience(self._custom_audiences.get(ctx.org, audience_id, ctx.deadline))
        return found
