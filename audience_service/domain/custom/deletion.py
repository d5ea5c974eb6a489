"""The use case of deleting a custom audience, which its use forbids."""

import dataclasses

from audience_service.domain.audiences.use import Usage
from audience_service.domain.caller import Call, Deadline
from audience_service.domain.custom.audience import CustomAudience, check_version
from audience_service.domain.custom.audiences import CustomAudiences
from audience_service.domain.custom.ports import CustomAudienceRepository
from audience_service.domain.errors import StaleVersion
from audience_service.domain.ports import UseRepository
from audience_service.domain.segments.deletion import NAMED_USERS

_FINISH_SECONDS = 10.0
"""What looking again and taking back may take: a deletion is not left half done because its caller's time is up."""


class CustomDeletion:
    """Deletes custom audiences that nothing uses, or by force."""

    def __init__(self, customs: CustomAudienceRepository, audiences: CustomAudiences, uses: UseRepository) -> None:
        self._customs = customs
        self._audiences = audiences
        self._uses = uses

    def delete(self, call: Call, audience_id: str, version: int | None, *, force: bool) -> CustomAudience:
        """Delete for good; answers with it as it was. Raises AudienceNotFound, StaleVersion, AudienceInUse.

        As with segments, uses are registered first and look for their audience after, and a deletion marks first and
        looks for uses after: whichever comes second sees the other.
        """
        removed = self._removed(call, audience_id, version, force=force)
        if not force:
            patient = dataclasses.replace(call, deadline=Deadline.after(_FINISH_SECONDS))
            usage = self._usage(patient, audience_id)
            if usage.is_any and self._customs.restore(call.org, removed, patient.deadline):
                raise usage.refusal()
        self._audiences.cancel(removed)
        return removed

    def _removed(self, call: Call, audience_id: str, version: int | None, *, force: bool) -> CustomAudience:
        while True:
            current = self._audiences.get(call, audience_id)
            check_version(current, version)
            if not force and (usage := self._usage(call, audience_id)).is_any:
                raise usage.refusal()
            try:
                self._customs.remove(call.org, current, call.deadline)
            except StaleVersion:
                if version is not None:
                    raise
                call.deadline.check()  # it was written meanwhile; the deadline ends the tries
            else:
                return current

    def _usage(self, call: Call, audience_id: str) -> Usage:
        return self._uses.usage(call.org, audience_id, NAMED_USERS, call.deadline)
