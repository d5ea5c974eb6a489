"""The use cases on the export log: record the rows that a call sends, and list the records.

    first rows ──> store the record, SENDING ──> send them ──> ... ──> store the end: state, rows, reason

The record precedes the rows, so that no rows leave without one. A call that sends no row has no record.
"""

import dataclasses
from collections.abc import Callable, Generator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeVar

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.errors import AudienceError, InvalidArgument, OutOfTime, StoreUnavailable
from audience_service.domain.core.idempotency import new_id
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.pages import ListedPage, PageRequest
from audience_service.domain.export_log.model import (
    EXPORT_PREFIX,
    ExportContent,
    ExportQuery,
    ExportRecord,
    ExportState,
)
from audience_service.domain.export_log.repository import ExportLogRepository

_FINISH_TIMEOUT_SECONDS = 5.0
"""The timeout of storing the end. It is independent of the caller's deadline, which may have passed."""

Part = TypeVar("Part")


class ExportLog:
    """Records exports, and lists them."""

    def __init__(self, records: ExportLogRepository, tokens: TokenCodec, retention: timedelta) -> None:
        self._records = records
        self._tokens = tokens
        self._retention = retention

    def record(
        self,
        ctx: RequestContext,
        content: ExportContent,
        parts: Generator[Part, None, None],
        count_rows: Callable[[Part], int],
    ) -> Generator[Part, None, None]:
        """The same parts, with a record of their rows. Raises StoreUnavailable, OutOfTime before the first rows."""
        record = ExportRecord(new_id(EXPORT_PREFIX), content, ctx.caller.subject, ctx.request_id, now())
        state, reason, sent, is_stored = ExportState.CANCELLED, "", 0, False
        try:
            for part in parts:
                count = count_rows(part)
                if count and not is_stored:
                    self._records.insert(ctx.org, record, record.started_at + self._retention, ctx.deadline)
                    is_stored = True
                yield part
                sent += count  # after the client's turn: rows that were not sent do not count
            state = ExportState.COMPLETED
        except Exception as error:
            if not ctx.deadline.is_cancelled:
                state, reason = ExportState.FAILED, error.reason if isinstance(error, AudienceError) else "INTERNAL"
            raise
        finally:
            parts.close()
            if is_stored:
                self._finish(
                    ctx,
                    dataclasses.replace(record, state=state, reason=reason, row_count=sent, ended_at=now()),
                )

    def list(self, ctx: RequestContext, query: ExportQuery, request: PageRequest) -> ListedPage[ExportRecord]:
        """A page of the org's exports, newest first. Raises InvalidArgument, InvalidPageToken."""
        if query.since and query.until and query.since >= query.until:
            raise InvalidArgument.at("end_time", "is not after start_time; set a later time, or omit one of them")
        binding = ("exports", ctx.org, query.audience_id, query.platform, _text(query.since), _text(query.until))
        return self._tokens.page(
            request,
            binding,
            lambda after: self._records.page(ctx.org, query, request.size, after, ctx.deadline),
            (str,),
        )

    def _finish(self, ctx: RequestContext, record: ExportRecord) -> None:
        # Without an end the record still says who was sent what: it stays SENDING.
        with suppress(StoreUnavailable, OutOfTime):
            self._records.finish(ctx.org, record, Deadline.after(_FINISH_TIMEOUT_SECONDS))


def _text(instant: datetime | None) -> str:
    return instant.isoformat() if instant else ""
