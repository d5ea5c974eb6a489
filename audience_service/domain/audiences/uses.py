"""The use cases on the use of audiences: register, release, tell."""

import dataclasses

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.audiences.use import AudienceUse, Usage, check_use
from audience_service.domain.caller import Call
from audience_service.domain.clock import now
from audience_service.domain.custom.audience import CUSTOM_PREFIX
from audience_service.domain.custom.ports import CustomAudienceRepository
from audience_service.domain.errors import AudienceNotFound
from audience_service.domain.located import located
from audience_service.domain.ports import SegmentRepository, UseRepository

MAX_LISTED = 1_000
"""How many uses, and how many segments, one answer names."""


class AudienceUses:
    """What an org's campaigns and the like say of the audiences that they use."""

    def __init__(
        self,
        segments: SegmentRepository,
        customs: CustomAudienceRepository,
        uses: UseRepository,
        audiences: Audiences,
    ) -> None:
        self._segments = segments
        self._customs = customs
        self._uses = uses
        self._audiences = audiences

    def register(self, call: Call, use: AudienceUse) -> AudienceUse:
        """The use, as it was first registered. Raises InvalidArgument, AudienceNotFound."""
        with located("use"):
            check_use(use)
        self._look(call, use.audience_id)
        signed = dataclasses.replace(use, subject=call.caller.subject, create_time=now())
        registered = self._uses.add(call.org, signed, call.deadline)
        try:
            # Again, now that a deletion would see the use: one that did not was first.
            self._look(call, use.audience_id)
        except AudienceNotFound:
            self._uses.withdraw(call.org, signed, call.deadline)
            raise
        return registered

    def release(self, call: Call, use: AudienceUse) -> bool:
        """Whether there was such a use to end. Raises InvalidArgument."""
        return self._uses.remove(call.org, check_use(use), call.deadline)

    def usage(self, call: Call, segment_id: str) -> Usage:
        """What uses a segment, deleted or not. Raises AudienceNotFound."""
        segment = self._segments.find(call.org, segment_id, call.deadline)
        return self._uses.usage(call.org, segment.id, MAX_LISTED, call.deadline)

    def _look(self, call: Call, audience_id: str) -> None:
        """Raise AudienceNotFound where there is no such segment or custom audience; others cannot be held by a use."""
        if audience_id.startswith(CUSTOM_PREFIX):
            self._customs.get(call.org, audience_id, call.deadline)
        else:
            self._audiences.get(call, audience_id)
