"""The progress of uploads."""

from collections.abc import Sequence
from typing import Any, NoReturn

from pymongo import ReturnDocument
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from audience_service.domain.core.context import Deadline
from audience_service.domain.custom_audiences.errors import UploadNotFound, UploadTakenOver
from audience_service.domain.filters.filter import Document
from audience_service.domain.uploads.model import Upload, UploadState
from audience_service.mongo.core.collections import UPLOADS
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.uploads.documents import new_upload, progress_fields, read_upload, upload_sk


class MongoUploads:
    """The UploadRepository on MongoDB; domain/uploads/repository.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope
        self._collection = database[UPLOADS]

    def begin(self, org: str, upload: Upload, deadline: Deadline) -> Upload:
        """Insert the upload, or read the existing one."""
        try:
            with with_deadline(self._database, deadline):
                self._collection.insert_one(new_upload(org, upload))
        except DuplicateKeyError:
            return self.get(org, upload.header.audience_id, upload.header.upload_id, deadline)
        return upload

    def get(self, org: str, audience_id: str, upload_id: str, deadline: Deadline) -> Upload:
        """Find by key."""
        with with_deadline(self._database, deadline):
            record = self._collection.find_one(self._scope.match(org, {"_id": upload_sk(org, audience_id, upload_id)}))
        if record is None:
            raise UploadNotFound.of(upload_id)
        return read_upload(record)

    def claim(self, org: str, upload: Upload, deadline: Deadline) -> Upload:
        """Increment the epoch, in one update."""
        expected = {**_open_match(org, upload), "is_complete": False}
        with with_deadline(self._database, deadline):
            record = self._collection.find_one_and_update(
                self._scope.match(org, expected), {"$inc": {"epoch": 1}}, return_document=ReturnDocument.AFTER
            )
        if record:
            return read_upload(record)
        found = self.get(org, upload.header.audience_id, upload.header.upload_id, deadline)
        if not found.is_complete:
            raise _taken_over_error(upload)
        return found

    def check(self, org: str, upload: Upload, deadline: Deadline) -> None:
        """Compare the epoch."""
        with with_deadline(self._database, deadline):
            is_claimed = (
                self._collection.find_one(self._scope.match(org, _claimed_match(org, upload)), {"_id": 1}) is not None
            )
        if not is_claimed:
            self._raise_not_writable(org, upload, deadline)

    def save(self, org: str, upload: Upload, deadline: Deadline) -> None:
        """Compare-and-set on the epoch."""
        with with_deadline(self._database, deadline):
            is_claimed = (
                self._collection.update_one(
                    self._scope.match(org, _claimed_match(org, upload)), _update_operators(upload)
                ).matched_count
                > 0
            )
        if not is_claimed:
            self._raise_not_writable(org, upload, deadline)

    def finish(self, org: str, ended: Upload, deadline: Deadline) -> None:
        """Update the upload if it is open."""
        with with_deadline(self._database, deadline):
            self._collection.update_one(self._scope.match(org, _open_match(org, ended)), _update_operators(ended))

    def update_counts(self, org: str, upload: Upload, deadline: Deadline) -> None:
        """Update only the row counts."""
        self._update(org, upload, {"row_counts": progress_fields(upload)["row_counts"]}, deadline)

    def supersede(self, org: str, upload: Upload, deadline: Deadline) -> None:
        """Mark the upload as superseded."""
        self._update(org, upload, {"is_superseded": True}, deadline)

    def list_with_unmatched_rows(self, org: str, audience_id: str, deadline: Deadline) -> Sequence[Upload]:
        """Find the audience's uploads by the prefix of their key."""
        match = {
            **_audience_match(org, audience_id),
            "state": UploadState.PUBLISHED.value,
            "row_counts.unmatched": {"$gt": 0},
            "is_superseded": {"$ne": True},
        }
        with with_deadline(self._database, deadline):
            records = self._collection.find(
                self._scope.match(org, match), sort=[("published_at", 1), ("list_version_id", 1)]
            )
            return [read_upload(record) for record in records]

    def delete_by_audience(self, org: str, audience_id: str, deadline: Deadline) -> None:
        """Delete all uploads of an audience."""
        with with_deadline(self._database, deadline):
            self._collection.delete_many(self._scope.match(org, _audience_match(org, audience_id)))

    def _raise_not_writable(self, org: str, upload: Upload, deadline: Deadline) -> NoReturn:
        """Raise the reason why a stream may not write: UploadNotFound or UploadTakenOver."""
        self.get(org, upload.header.audience_id, upload.header.upload_id, deadline)
        raise _taken_over_error(upload)

    def _update(self, org: str, upload: Upload, changes: Document, deadline: Deadline) -> None:
        with with_deadline(self._database, deadline):
            self._collection.update_one(self._scope.match(org, {"_id": _key(org, upload)}), {"$set": changes})


def _key(org: str, upload: Upload) -> str:
    return upload_sk(org, upload.header.audience_id, upload.header.upload_id)


def _audience_match(org: str, audience_id: str) -> Document:
    prefix = upload_sk(org, audience_id, "")
    return {"_id": {"$gte": prefix, "$lt": f"{prefix[:-1]}0"}}


def _taken_over_error(upload: Upload) -> UploadTakenOver:
    return UploadTakenOver(
        "another stream has taken over the upload",
        metadata={"id": upload.header.upload_id},
    )


def _open_match(org: str, upload: Upload) -> Document:
    return {"_id": _key(org, upload), "state": UploadState.OPEN.value}


def _claimed_match(org: str, upload: Upload) -> Document:
    """Return the match of an open upload that is still at this epoch."""
    return {**_open_match(org, upload), "epoch": upload.epoch}


def _update_operators(upload: Upload) -> Document:
    is_over = upload.state is not UploadState.OPEN
    return {"$set": progress_fields(upload), **({"$unset": {"expires_at": ""}} if is_over else {})}
