"""The records of the export log.

    {_id: sk, pk, sk: "<org>/audience_export/<start in UTC>/<id>", subject, request_id, started_at, state, ended_at,
     row_count, reason, content: {rpc, audience_ids, exclude_audience_ids, has_filter, purpose, platform, fields,
     sync_id}, expire_at}

The order of sk is that of time, so a page is one range of keys.
"""

import contextlib
import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.pages import Page, PageKey
from audience_service.domain.export_log.model import ExportContent, ExportQuery, ExportRecord, ExportState
from audience_service.domain.filters.filter import Document
from audience_service.mongo.core.collections import EXPORTS
from audience_service.mongo.core.errors import with_deadline
from audience_service.mongo.core.page_size import limit_page_bytes
from audience_service.mongo.core.scope import complete_org_match


class MongoExportLog:
    """The ExportLogRepository on MongoDB; the protocol states what each method promises."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._collection = database[EXPORTS]

    def insert(self, org: str, record: ExportRecord, expire_at: datetime, deadline: Deadline) -> None:
        """Insert by key."""
        sk = _key(org, record.started_at, record.id)
        content = dataclasses.asdict(record.content)
        stored = {
            "_id": sk,
            "pk": record.id,
            "sk": sk,
            "subject": record.subject,
            "request_id": record.request_id,
            "started_at": record.started_at,
            **_end(record),
            "content": {name: list(value) if isinstance(value, tuple) else value for name, value in content.items()},
            "expire_at": expire_at,
        }
        with with_deadline(self._database, deadline):
            self._collection.insert_one(stored)

    def finish(self, org: str, record: ExportRecord, deadline: Deadline) -> None:
        """Update by key."""
        match = complete_org_match(org, {"_id": _key(org, record.started_at, record.id)})
        with with_deadline(self._database, deadline):
            self._collection.update_one(match, {"$set": _end(record)})

    def page(
        self, org: str, query: ExportQuery, size: int, after: PageKey | None, deadline: Deadline
    ) -> Page[ExportRecord]:
        """Find by the range of keys, backwards."""
        conditions: list[Document] = []
        if query.since:
            conditions.append({"sk": {"$gte": _key(org, query.since)}})
        if query.until:
            conditions.append({"sk": {"$lt": _key(org, query.until)}})
        if after:
            conditions.append({"sk": {"$lt": after[0]}})
        if query.audience_id:
            conditions.append({"content.audience_ids": query.audience_id})
        if query.platform:
            conditions.append({"content.platform": query.platform})
        with with_deadline(self._database, deadline):
            found = self._collection.find(complete_org_match(org, *conditions), sort=[("sk", -1)], limit=size + 1)
            with contextlib.closing(found) as records:
                page, next_record = limit_page_bytes(records, size)
        return Page(page, [page[-1]["sk"]] if next_record else None).map(_read)


def _key(org: str, started_at: datetime, record_id: str = "") -> str:
    return f"{org}/{EXPORTS}/{started_at.astimezone(UTC).isoformat(timespec='microseconds')}/{record_id}"


def _end(record: ExportRecord) -> Document:
    return {
        "state": record.state.value,
        "ended_at": record.ended_at,
        "row_count": record.row_count,
        "reason": record.reason,
    }


def _read(record: Mapping[str, Any]) -> ExportRecord:
    stored: Mapping[str, Any] = record["content"]
    content: dict[str, Any] = {
        name: tuple(found) if isinstance(found, list) else found for name, found in stored.items()
    }
    return ExportRecord(
        id=record["pk"],
        content=ExportContent(**content),
        subject=record["subject"],
        request_id=record["request_id"],
        started_at=record["started_at"],
        state=ExportState(record["state"]),
        ended_at=record["ended_at"],
        row_count=int(record["row_count"]),
        reason=record["reason"],
    )
