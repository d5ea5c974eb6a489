"""The rows of uploads that have matched nobody, {_id, sk, line, cells}.

`_id` and `sk` are "<org>/audience_upload_row/<rows of the upload>/<line in 10 digits>".
"""

import contextlib
from collections.abc import Sequence
from typing import Any

from pymongo.database import Database
from pymongo.errors import BulkWriteError

from audience_service.domain.caller import Deadline
from audience_service.domain.filters.filter import Document
from audience_service.domain.uploads.ports import UnmatchedRow
from audience_service.domain.uploads.upload import Upload
from audience_service.mongo.collections import UPLOAD_ROWS
from audience_service.mongo.failures import limited, unless_duplicates
from audience_service.mongo.scope import scoped
from audience_service.mongo.sizes import within_bytes


class MongoUnmatched:
    """The UnmatchedRepository on MongoDB; domain/uploads/ports.py states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._collection = database[UPLOAD_ROWS]

    def add(self, org: str, upload: Upload, rows: Sequence[UnmatchedRow], deadline: Deadline) -> None:
        """Insert."""
        if not rows:
            return
        keys = [_key(org, upload.rows_id, row.line) for row in rows]
        documents = [
            {"_id": key, "sk": key, "line": row.line, "cells": list(row.cells)}
            for key, row in zip(keys, rows, strict=True)
        ]
        try:
            with limited(self._database, deadline):
                self._collection.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            unless_duplicates(error)

    def page(self, org: str, upload: Upload, after: int, size: int, deadline: Deadline) -> Sequence[UnmatchedRow]:
        """In the order of their keys, which is that of lines."""
        match = scoped(org, _behind(org, upload.rows_id, after))
        with (
            limited(self._database, deadline),
            contextlib.closing(self._collection.find(match, sort=[("_id", 1)], limit=size)) as records,
        ):
            page, _ = within_bytes(records, size)
        return [UnmatchedRow(record["line"], record["cells"]) for record in page]

    def remove(self, org: str, upload: Upload, lines: Sequence[int], deadline: Deadline) -> None:
        """By key."""
        with limited(self._database, deadline):
            keys = [_key(org, upload.rows_id, line) for line in lines]
            self._collection.delete_many(scoped(org, {"_id": {"$in": keys}}))

    def cut(self, org: str, upload: Upload, after: int, deadline: Deadline) -> None:
        """By the order of keys."""
        with limited(self._database, deadline):
            self._collection.delete_many(scoped(org, _behind(org, upload.rows_id, after)))

    def drop(self, org: str, audience_id: str, deadline: Deadline) -> None:
        """Delete the rows of all uploads of an audience."""
        prefix = f"{org}/audience_upload_row/{audience_id}"
        with limited(self._database, deadline):
            self._collection.delete_many(scoped(org, {"_id": {"$gte": f"{prefix}.", "$lt": f"{prefix}/"}}))


def _key(org: str, rows_id: str, line: int) -> str:
    return f"{org}/audience_upload_row/{rows_id}/{line:010}"


def _behind(org: str, rows_id: str, line: int) -> Document:
    """The rows of an upload behind a line. ":" is the character after "9"."""
    return {"_id": {"$gt": _key(org, rows_id, line), "$lt": f"{_key(org, rows_id, 0)[:-10]}:"}}
