"""Publishing what an upload has found: a whole new list, in place of the one before by a single write.

The list in use is never written to. What becomes of it and the upload is put together under an id of its own, inside
the database, and published by compare-and-set; where another list has been published meanwhile, that is done anew.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from audience_service.domain.caller import Call
from audience_service.domain.clock import now
from audience_service.domain.creation import new_rows_id
from audience_service.domain.custom.audience import CustomAudience
from audience_service.domain.custom.ports import CustomAudienceRepository
from audience_service.domain.errors import StaleVersion
from audience_service.domain.uploads.intake import Storage
from audience_service.domain.uploads.upload import Mode, Upload, UploadState

_TURNS = 5
_REMEMBERED = 100
"""How many uploads a list remembers to have in it: an end that is repeated after as many others would count anew."""

_ASSEMBLED_FOR = timedelta(days=1)
"""How long a list may lie about that is put together and not published: longer than any call lasts."""


class Publisher:
    """Publishes lists of custom audiences."""

    def __init__(self, customs: CustomAudienceRepository, storage: Storage) -> None:
        self._customs = customs
        self._storage = storage

    def publish(self, call: Call, upload: Upload) -> Upload:
        """Publish an upload whose rows are all stored; once, however often it is called.

        Raises AudienceNotFound, StaleVersion (the list never stood still), UploadTakenOver.
        """
        audience = self._published(call, upload)
        mark = _mark_of(audience, upload) or {}
        published = replace(
            upload, state=UploadState.PUBLISHED, publish_time=mark["at"], contact_count=int(mark["count"])
        )
        if upload.header.mode == Mode.REPLACE:
            self._supersede(call, published)
        self._storage.uploads.save(call.org, published, call.deadline)
        if audience.rows_id != upload.rows_id:
            self._customs.reserve(call.org, audience.id, upload.rows_id, now(), call.deadline)
        return published

    def put_on(self, call: Call, audience: CustomAudience, found: str) -> CustomAudience:
        """Publish an audience's list with the rows of another one put on. Raises StaleVersion, AudienceNotFound."""
        rows_id = self.reserved(call, audience)
        if audience.rows_id:
            self._storage.lists.copy(call.org, audience.rows_id, rows_id, call.deadline)
        self._storage.lists.copy(call.org, found, rows_id, call.deadline)
        return self._customs.publish(call.org, audience, rows_id, audience.published, call.deadline)

    def reserved(self, call: Call, audience: CustomAudience) -> str:
        """The id of a new list, which is cleared away unless it is published."""
        rows_id = new_rows_id(audience.id)
        self._customs.reserve(call.org, audience.id, rows_id, now() + _ASSEMBLED_FOR, call.deadline)
        return rows_id

    def _published(self, call: Call, upload: Upload) -> CustomAudience:
        """The audience once the upload is in its list."""
        for turn in range(1, _TURNS + 1):
            audience = self._customs.get(call.org, upload.header.audience_id, call.deadline)
            if _mark_of(audience, upload) is not None:
                return audience
            rows_id = self._assemble(call, audience, upload)
            count = self._storage.lists.count(call.org, rows_id, call.deadline)
            mark = {"rows": upload.rows_id, "count": count, "at": now()}
            noted = [*audience.published.get("uploads", ()), mark][-_REMEMBERED:]
            try:
                return self._customs.publish(call.org, audience, rows_id, {"uploads": noted}, call.deadline)
            except StaleVersion:
                if turn == _TURNS:
                    raise
        raise AssertionError("the last turn returns or raises")

    def _supersede(self, call: Call, published: Upload) -> None:
        """Forget the unmatched rows of uploads before one that replaces the list."""
        others = self._storage.uploads.with_unmatched(call.org, published.header.audience_id, call.deadline)
        for other in others:
            if other.publish_time and published.publish_time and other.publish_time < published.publish_time:
                self._storage.unmatched.cut(call.org, other, 0, call.deadline)
                self._storage.uploads.supersede(call.org, other, call.deadline)

    def _assemble(self, call: Call, audience: CustomAudience, upload: Upload) -> str:
        mode = Mode(upload.header.mode)
        is_empty = not audience.rows_id or not self._storage.lists.count(call.org, audience.rows_id, call.deadline)
        if mode is Mode.REPLACE or (mode is Mode.APPEND and is_empty):
            return upload.rows_id
        rows_id = self.reserved(call, audience)
        without = upload.rows_id if mode is Mode.REMOVE else ""
        if not is_empty:
            self._storage.lists.copy(call.org, audience.rows_id, rows_id, call.deadline, without=without)
        if mode is Mode.APPEND:
            self._storage.lists.copy(call.org, upload.rows_id, rows_id, call.deadline)
        return rows_id


def _mark_of(audience: CustomAudience, upload: Upload) -> dict[str, Any] | None:
    """What the audience has noted of the upload, if it has been published."""
    noted = audience.published.get("uploads", ())
    return next((mark for mark in noted if mark["rows"] == upload.rows_id), None)
