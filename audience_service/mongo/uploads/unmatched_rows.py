"""Rows of uploads that matched no contact, {_id, sk, line, cells}.

`_id` and `sk` are "<org>/audience_upload_row/<rows of the upload>/<line in 10 digits>".
"""

import contextlib
from collections.abc import Sequence
from typing import Any

from pymongo.database import Database
from pymongo.errors import BulkWriteError

from audience_service.domain.core.context import Deadline
from audience_service.domain.uploads.model import Upload
from audience_service.domain.uploads.repository import UnmatchedRow
from audience_service.mongo.core.collections import UPLOAD_ROWS
from audience_service.mongo.core.errors import raise_unless_duplicate, with_deadline
from audience_service.mongo.core.page_size import limit_page_bytes
from audience_service.mongo.core.scope import TenantScope, complete_org_match
from audience_service.mongo.uploads.row_keys import after_line, of_audience, row_key

_KIND = "audience_upload_row"


class MongoUnmatched:
    """The UnmatchedRepository on MongoDB; domain/uploads/repository.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]], scope: TenantScope) -> None:
        self._database = database
        self._scope = scope
        self._collection = database[UPLOAD_ROWS]

    def add(self, org: str, upload: Upload, rows: Sequence[UnmatchedRow], deadline: Deadline) -> None:
        """Insert the rows."""
        if not rows:
            return
        keys = [row_key(org, _KIND, upload.list_version_id, row.line) for row in rows]
        documents = [
            {"_id": key, "sk": key, "line": row.line, "cells": list(row.cells)}
            for key, row in zip(keys, rows, strict=True)
        ]
        try:
            with with_deadline(self._database, deadline):
                self._collection.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            raise_unless_duplicate(error)

    def page(self, org: str, upload: Upload, after: int, size: int, deadline: Deadline) -> Sequence[UnmatchedRow]:
        """Return a page in the order of lines, which is that of keys."""
        match = self._scope.match(org, after_line(org, _KIND, upload.list_version_id, after))
        with (
            with_deadline(self._database, deadline),
            contextlib.closing(self._collection.find(match, sort=[("_id", 1)], limit=size)) as records,
        ):
            page, _ = limit_page_bytes(records, size)
        return [UnmatchedRow(record["line"], record["cells"]) for record in page]

    def remove(self, org: str, upload: Upload, lines: Sequence[int], deadline: Deadline) -> None:
        """Delete the rows by key."""
        with with_deadline(self._database, deadline):
            keys = [row_key(org, _KIND, upload.list_version_id, line) for line in lines]
            self._collection.delete_many(complete_org_match(org, {"_id": {"$in": keys}}))

    def truncate_after(self, org: str, upload: Upload, after: int, deadline: Deadline) -> None:
        """Delete the rows after a line, by the order of keys."""
        with with_deadline(self._database, deadline):
            self._collection.delete_many(complete_org_match(org, after_line(org, _KIND, upload.list_version_id, after)))

    def delete_by_audience(self, org: str, audience_id: str, deadline: Deadline) -> None:
        """Delete the rows of all uploads of an audience."""
        with with_deadline(self._database, deadline):
            self._collection.delete_many(complete_org_match(org, of_audience(org, _KIND, audience_id)))
