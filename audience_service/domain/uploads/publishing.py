"""Publishing what an upload has found: a whole new list, in place of the one before by a single write.

The list in use is never written to. What becomes of it and the upload is put together under an id of its own, inside
the database, and published by compare-and-set; where another list has been published meanwhile, that is done anew.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from audience_service.domain.caller import Call
from audience_service.domain.clock import now
from audience_service.domain.creation import new_rows_id
from audience_service.domain.custom.audience import CustomAudience
from audience_service.domain.custom.ports import CustomAudienceRepository
from audience_service.domain.errors import StaleVersion
from audience_service.domain.uploads.intake import Storage
from audience_service.domain.uploads.marks import (
    as_published,
    is_in_list,
    is_replaced,
    listed_since,
    next_moment,
    noted,
)
from audience_service.domain.uploads.upload import Mode, Upload

_TURNS = 5
_ASSEMBLED_FOR = timedelta(days=1)
"""How long a list may lie about that is put together and not published: longer than any call lasts."""

_READ_FOR = timedelta(hours=1)
"""How long those may take who have begun to read a list."""


class Publisher:
    """Publishes lists of custom audiences."""

    def __init__(self, customs: CustomAudienceRepository, storage: Storage) -> None:
        self._customs = customs
        self._storage = storage

    def publish(self, call: Call, upload: Upload) -> Upload:
        """Publish an upload that is whole; once, however often it is called, by several at once as well.

        Raises AudienceNotFound, StaleVersion (the list never stood still).
        """
        audience = self._published(call, upload)
        published = as_published(audience, upload)
        self._storage.uploads.finish(call.org, published, call.deadline)
        self._supersede(call, audience)
        self.release(call, audience.id, upload.rows_id)
        return published

    def edit(self, call: Call, audience: CustomAudience, on: str, off: str) -> CustomAudience:
        """Publish an audience's list with those of one put on and those of another taken off, as of when they say.

        Raises StaleVersion, AudienceNotFound.
        """
        moment = now()
        rows_id = self._combined(call, audience, {on: moment}, {off: moment})
        return self._customs.publish(call.org, audience, rows_id, audience.published, call.deadline)

    def reserved(self, call: Call, audience: CustomAudience) -> str:
        """The id of a new list, which is cleared away unless it is published."""
        rows_id = new_rows_id(audience.id)
        self._customs.reserve(call.org, audience.id, rows_id, now() + _ASSEMBLED_FOR, call.deadline)
        return rows_id

    def release(self, call: Call, audience_id: str, rows_id: str) -> None:
        """Let rows go that were reserved, unless they are the list; not at once: they may have been until just now.

        Raises AudienceNotFound.
        """
        with suppress(StaleVersion):  # they are going already
            self._customs.reserve(call.org, audience_id, rows_id, now() + _READ_FOR, call.deadline)

    def _published(self, call: Call, upload: Upload) -> CustomAudience:
        """The audience once the upload is in its list."""
        for turn in range(1, _TURNS + 1):
            audience = self._customs.get(call.org, upload.header.audience_id, call.deadline)
            if is_in_list(audience, upload):
                return audience
            at = next_moment(audience)
            rows_id = self._assemble(call, audience, upload, at)
            count = self._storage.lists.count(call.org, rows_id, call.deadline)
            try:
                published = noted(audience, upload, count, at)
                return self._customs.publish(call.org, audience, rows_id, published, call.deadline)
            except StaleVersion:
                if rows_id != upload.rows_id:
                    self.release(call, audience.id, rows_id)
                if turn == _TURNS:
                    raise
        raise AssertionError("the last turn returns or raises")

    def _supersede(self, call: Call, audience: CustomAudience) -> None:
        """Forget the unmatched rows of uploads that a whole new list has followed."""
        for other in self._storage.uploads.with_unmatched(call.org, audience.id, call.deadline):
            if is_replaced(audience, other):
                self._storage.unmatched.cut(call.org, other, 0, call.deadline)
                self._storage.uploads.supersede(call.org, other, call.deadline)

    def _assemble(self, call: Call, audience: CustomAudience, upload: Upload, at: datetime) -> str:
        mode = upload.header.mode
        is_empty = not audience.rows_id or not self._storage.lists.count(call.org, audience.rows_id, call.deadline)
        if mode is Mode.REPLACE or (mode is Mode.APPEND and is_empty):
            return upload.rows_id
        found = {upload.rows_id: at}
        on, off = (found, {}) if mode is Mode.APPEND else ({}, found)
        return self._combined(call, audience, on, off)

    def _combined(
        self, call: Call, audience: CustomAudience, on: Mapping[str, datetime], off: Mapping[str, datetime]
    ) -> str:
        """The id of a new list: the audience's, with those of some lists put on and those of others taken off."""
        rows_id = self.reserved(call, audience)
        before = {audience.rows_id: listed_since(audience)} if audience.rows_id else {}
        self._storage.lists.combine(call.org, rows_id, {**on, **before}, off, call.deadline)
        return rows_id
