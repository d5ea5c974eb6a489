"""Custom audiences as audiences: what has members."""

from audience_service.domain.audiences.model import FilterAudience, ListAudience
from audience_service.domain.core.context import RequestContext
from audience_service.domain.custom_audiences.model import CustomAudience, PixelSpec
from audience_service.domain.custom_audiences.pixel import pixel_filter
from audience_service.domain.custom_audiences.repository import CustomAudienceRepository


def to_audience(custom: CustomAudience) -> ListAudience | FilterAudience:
    """The audience: those on its list that are in use, or whom a pixel's rule finds.

    One that has no list yet is unusable as long as it is not READY.
    """
    if isinstance(custom.spec, PixelSpec):
        return FilterAudience(custom.id, custom.name, pixel_filter(custom.datatype, custom.spec), custom.version)
    return ListAudience(custom.id, custom.name, custom.contacts, custom.version, custom.creation_state)


class CustomAudienceLoader:
    """Finds custom audiences by id, within the call's org, as audiences."""

    def __init__(self, customs: CustomAudienceRepository) -> None:
        self._customs = customs

    def load(self, ctx: RequestContext, audience_id: str) -> ListAudience | FilterAudience:
        """The audience. Raises AudienceNotFound."""
        return to_audience(self._customs.get(ctx.org, audience_id, ctx.deadline))
