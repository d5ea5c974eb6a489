"""Publishes the matched contacts of an upload as a new list, which replaces the old one in a single write.

    list A (readers use it) ─┐
                             ├─ merge, inside the database ──> list B ── publish, compare-and-set on A ──> B is the list
    matched contacts ────────┘

1. A published list is never written to.
2. If another list is published meanwhile, the merge starts again from that one.

An upload is closed to streams before it is published. Otherwise a late stream could write into a list that readers use.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import AudienceError, StaleVersion
from audience_service.domain.core.idempotency import new_list_version_id
from audience_service.domain.custom_audiences.errors import InvalidFile
from audience_service.domain.custom_audiences.model import CustomAudience
from audience_service.domain.custom_audiences.repository import CustomAudienceRepository
from audience_service.domain.uploads.csv_reader import invalid_file
from audience_service.domain.uploads.model import Upload, UploadMode, mark_failed
from audience_service.domain.uploads.processor import UploadStorage
from audience_service.domain.uploads.publish_markers import (
    is_in_list,
    is_replaced,
    listed_since,
    next_timestamp,
    with_marker,
    with_publish_state,
)

_MAX_ATTEMPTS = 5
_ASSEMBLY_TTL = timedelta(days=1)
"""How long a merged list that is not published is kept; longer than any call."""

_READER_GRACE = timedelta(hours=1)
"""How long a reader that has begun may take to read a list."""


class Publisher:
    """Publishes lists of custom audiences."""

    def __init__(
        self, custom_audiences: CustomAudienceRepository, storage: UploadStorage, max_shrink_share: float
    ) -> None:
        self._custom_audiences = custom_audiences
        self._storage = storage
        self._max_shrink_share = max_shrink_share

    def publish(self, ctx: RequestContext, upload: Upload) -> Upload:
        """Publish a complete upload. Repeated and concurrent calls publish it once.

        Raises AudienceNotFound, StaleVersion if the list kept changing, and InvalidFile, with the upload FAILED, if it
        would empty the list or shrink it by too much.
        """
        try:
            audience = self._publish_list(ctx, upload)
        except InvalidFile as error:
            failed = mark_failed(upload, error)
            self._storage.uploads.finish(ctx.org, failed, ctx.deadline)
            with suppress(AudienceError):  # remaining rows are swept
                self._storage.delete_rows(ctx.org, failed, ctx.deadline)
                self.release(ctx, upload.header.audience_id, upload.list_version_id)
            raise
        published = with_publish_state(audience, upload)
        self._storage.uploads.finish(ctx.org, published, ctx.deadline)
        self._supersede(ctx, audience)
        self.release(ctx, audience.id, upload.list_version_id)
        return published

    def edit(self, ctx: RequestContext, audience: CustomAudience, included: str, excluded: str) -> CustomAudience:
        """Publish an audience's list plus the rows of one list, minus those of another, by the times of their rows.

        Raises StaleVersion, AudienceNotFound.
        """
        timestamp = now()
        list_version_id = self._merge(ctx, audience, {included: timestamp}, {excluded: timestamp})
        return self._custom_audiences.publish(ctx.org, audience, list_version_id, audience.publication, ctx.deadline)

    def reserve(self, ctx: RequestContext, audience: CustomAudience) -> str:
        """The id of a new list, whose rows are swept unless it is published."""
        list_version_id = new_list_version_id(audience.id)
        self._custom_audiences.reserve(ctx.org, audience.id, list_version_id, now() + _ASSEMBLY_TTL, ctx.deadline)
        return list_version_id

    def release(self, ctx: RequestContext, audience_id: str, list_version_id: str) -> None:
        """Have reserved rows swept, unless they are the list. Raises AudienceNotFound.

        They stay for an hour, for readers that began while they were the list.
        """
        with suppress(StaleVersion):  # the sweep has begun already
            self._custom_audiences.reserve(ctx.org, audience_id, list_version_id, now() + _READER_GRACE, ctx.deadline)

    def _publish_list(self, ctx: RequestContext, upload: Upload) -> CustomAudience:
        """The audience once the upload is in its list."""
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            audience = self._custom_audiences.get(ctx.org, upload.header.audience_id, ctx.deadline)
            if is_in_list(audience, upload):
                return audience
            at = next_timestamp(audience)
            list_version_id = self._assemble(ctx, audience, upload, at)
            count = self._storage.lists.count(ctx.org, list_version_id, ctx.deadline)
            self._check_shrinkage(ctx, audience, upload, count)
            try:
                published = with_marker(audience, upload, count, at)
                return self._custom_audiences.publish(ctx.org, audience, list_version_id, published, ctx.deadline)
            except StaleVersion:
                if list_version_id != upload.list_version_id:
                    self.release(ctx, audience.id, list_version_id)
                if attempt == _MAX_ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _check_shrinkage(self, ctx: RequestContext, audience: CustomAudience, upload: Upload, count: int) -> None:
        """Raise InvalidFile if a REPLACE without force would empty the list, or shrink it by more than the share."""
        if upload.header.mode is not UploadMode.REPLACE or upload.header.force or not audience.list_version_id:
            return
        before = self._storage.lists.count(ctx.org, audience.list_version_id, ctx.deadline)
        if not before or (count and before - count <= before * self._max_shrink_share):
            return
        rows, accepted = upload.row_counts.rows, upload.row_counts.accepted - upload.row_counts.unmatched
        problem = "would_empty_list" if not count else "would_shrink_list"
        raise invalid_file(
            upload.position.line,
            problem,
            f"{accepted:,} of {rows:,} rows match a contact, so the list would shrink from {before:,} contacts to "
            f"{count:,}; correct the file, or set force to replace the list anyway",
        )

    def _supersede(self, ctx: RequestContext, audience: CustomAudience) -> None:
        """Delete the unmatched rows of uploads whose list a later upload replaced."""
        for other in self._storage.uploads.list_with_unmatched_rows(ctx.org, audience.id, ctx.deadline):
            if is_replaced(audience, other):
                self._storage.unmatched.truncate_after(ctx.org, other, 0, ctx.deadline)
                self._storage.uploads.supersede(ctx.org, other, ctx.deadline)

    def _assemble(self, ctx: RequestContext, audience: CustomAudience, upload: Upload, at: datetime) -> str:
        mode = upload.header.mode
        is_empty = not audience.list_version_id or not self._storage.lists.count(
            ctx.org, audience.list_version_id, ctx.deadline
        )
        if mode is UploadMode.REPLACE or (mode is UploadMode.APPEND and is_empty):
            return upload.list_version_id
        found = {upload.list_version_id: at}
        included, excluded = (found, {}) if mode is UploadMode.APPEND else ({}, found)
        return self._merge(ctx, audience, included, excluded)

    def _merge(
        self,
        ctx: RequestContext,
        audience: CustomAudience,
        included: Mapping[str, datetime],
        excluded: Mapping[str, datetime],
    ) -> str:
        """The id of a new list: the audience's, plus the rows of `included`, minus those of `excluded`."""
        list_version_id = self.reserve(ctx, audience)
        before = {audience.list_version_id: listed_since(audience)} if audience.list_version_id else {}
        self._storage.lists.merge(ctx.org, list_version_id, {**included, **before}, excluded, ctx.deadline)
        return list_version_id
