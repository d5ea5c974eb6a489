"""Custom audiences as audiences: what has members."""

from audience_service.domain.audiences.audience import ListedAudience, RuledAudience
from audience_service.domain.caller import Call
from audience_service.domain.custom.audience import CustomAudience, PixelSpec
from audience_service.domain.custom.pixel import pixel_filter
from audience_service.domain.custom.ports import CustomAudienceRepository


def as_audience(custom: CustomAudience) -> ListedAudience | RuledAudience:
    """The audience: those on its list that are in use, or whom a pixel's rule finds.

    One that has no list yet is unusable as long as it is not READY.
    """
    if isinstance(custom.spec, PixelSpec):
        return RuledAudience(custom.id, custom.name, pixel_filter(custom.datatype, custom.spec), custom.version)
    return ListedAudience(custom.id, custom.name, custom.contacts, custom.version, custom.creation_state)


class CustomAsAudience:
    """Finds custom audiences by id, within the call's org, as audiences."""

    def __init__(self, customs: CustomAudienceRepository) -> None:
        self._customs = customs

    def find(self, call: Call, audience_id: str) -> ListedAudience | RuledAudience:
        """The audience. Raises AudienceNotFound."""
        return as_audience(self._customs.get(call.org, audience_id, call.deadline))
