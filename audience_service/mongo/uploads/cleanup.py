"""Cleans up abandoned uploads, for all orgs.

Any process may run it, also concurrently: every step is compare-and-set or idempotent.
"""

from datetime import datetime
from typing import Any

from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import AudienceNotFound
from audience_service.domain.uploads.model import Upload, UploadState, mark_abandoned
from audience_service.domain.uploads.publish_markers import with_publish_state
from audience_service.mongo.core.collections import UPLOADS
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import TenantScope, org_of
from audience_service.mongo.custom_audiences.repository import MongoCustomAudiences
from audience_service.mongo.uploads.documents import Record, read_upload
from audience_service.mongo.uploads.rejected_rows import MongoRejected
from audience_service.mongo.uploads.repository import MongoUploads
from audience_service.mongo.uploads.unmatched_rows import MongoUnmatched

_COMMAND_TIMEOUT_SECONDS = 30.0
_DELETE_TIMEOUT_SECONDS = 600.0
_BATCH_SIZE = 100


class UploadSweeper:
    """Fails uploads that stayed open for too long, and deletes what belongs to deleted audiences."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._collection = database[UPLOADS]
        self._uploads = MongoUploads(database, scope)
        self._unmatched_rows = MongoUnmatched(database, scope)
        self._rejected_rows = MongoRejected(database, scope)
        self._custom_audiences = MongoCustomAudiences(database, scope)

    def sweep(self, now: datetime) -> None:
        """Fail the uploads whose time has expired, and delete their unmatched rows.

        The cleanup of custom audiences deletes the contacts that they matched, as it does for every unpublished list.
        A process may have crashed after it published a list and before it recorded that. Such an upload does not
        fail: the sweeper records that it was published.

        Raises StoreUnavailable, OutOfTime.
        """
        with with_deadline(self._database, Deadline.after(_COMMAND_TIMEOUT_SECONDS)):
            records: list[Record] = list(self._collection.find({"expires_at": {"$lt": now}}, limit=_BATCH_SIZE))
        for record in records:
            org, upload = org_of(record["sk"]), read_upload(record)
            ended = self._check_published(org, upload)
            if ended.state is UploadState.OPEN:
                self._unmatched_rows.truncate_after(org, upload, 0, Deadline.after(_DELETE_TIMEOUT_SECONDS))
                ended = mark_abandoned(upload)
            self._uploads.finish(org, ended, Deadline.after(_COMMAND_TIMEOUT_SECONDS))

    def _check_published(self, org: str, upload: Upload) -> Upload:
        deadline = Deadline.after(_COMMAND_TIMEOUT_SECONDS)
        try:
            return with_publish_state(self._custom_audiences.get(org, upload.header.audience_id, deadline), upload)
        except AudienceNotFound:
            return upload

    def delete_children(self, org: str, audience_id: str, deadline: Deadline) -> None:
        """Delete the uploads of a deleted audience, and their unmatched and rejected rows."""
        self._unmatched_rows.delete_by_audience(org, audience_id, deadline)
        self._rejected_rows.delete_by_audience(org, audience_id, deadline)
        self._uploads.delete_by_audience(org, audience_id, deadline)
