"""Rejected rows of uploads, {_id, sk, line, column, reason, detail, expire_at}.

`_id` and `sk` are "<org>/audience_upload_rejection/<rows of the upload>/<line in 10 digits>".
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from pymongo.database import Database
from pymongo.errors import BulkWriteError

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline
from audience_service.domain.uploads.model import Rejection, Upload
from audience_service.mongo.core.collections import UPLOAD_REJECTIONS
from audience_service.mongo.core.errors import raise_unless_duplicate, with_deadline
from audience_service.mongo.core.scope import TenantScope, complete_org_match
from audience_service.mongo.uploads.row_keys import after_line, of_audience, row_key

_KIND = "audience_upload_rejection"
_TTL = timedelta(days=30)


class MongoRejected:
    """The RejectedRepository on MongoDB; domain/uploads/repository.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope
        self._collection = database[UPLOAD_REJECTIONS]

    def add(self, org: str, upload: Upload, rejections: Sequence[Rejection], deadline: Deadline) -> None:
        """Insert the rejections."""
        if not rejections:
            return
        expire_at = now() + _TTL
        documents = [
            {"_id": key, "sk": key, **asdict(rejection), "expire_at": expire_at}
            for rejection in rejections
            for key in [row_key(org, _KIND, upload.list_version_id, rejection.line)]
        ]
        try:
            with with_deadline(self._database, deadline):
                self._collection.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            raise_unless_duplicate(error)

    def page(
        self, org: str, upload: Upload, reason: str, after: int, size: int, deadline: Deadline
    ) -> Sequence[Rejection]:
        """Return a page in the order of lines, which is that of keys."""
        condition = after_line(org, _KIND, upload.list_version_id, after) | ({"reason": reason} if reason else {})
        with with_deadline(self._database, deadline):
            records = list(self._collection.find(self._scope.match(org, condition), sort=[("_id", 1)], limit=size))
        return [Rejection(record["line"], record["column"], record["reason"], record["detail"]) for record in records]

    def truncate_after(self, org: str, upload: Upload, after: int, deadline: Deadline) -> None:
        """Delete the rejections after a line, by the order of keys."""
        with with_deadline(self._database, deadline):
            condition = after_line(org, _KIND, upload.list_version_id, after)
            self._collection.delete_many(complete_org_match(org, condition))

    def delete_by_audience(self, org: str, audience_id: str, deadline: Deadline) -> None:
        """Delete the rejections of all uploads of an audience."""
        with with_deadline(self._database, deadline):
            self._collection.delete_many(complete_org_match(org, of_audience(org, _KIND, audience_id)))
