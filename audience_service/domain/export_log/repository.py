"""The storage of the export log. domain/audiences/repository.py has the rules for every method."""

from datetime import datetime
from typing import Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.pages import Page, PageKey
from audience_service.domain.export_log.model import ExportQuery, ExportRecord


class ExportLogRepository(Protocol):
    """The records of exports."""

    def insert(self, org: str, record: ExportRecord, expire_at: datetime, deadline: Deadline) -> None:
        """Store a new record. It is deleted at `expire_at`."""

    def finish(self, org: str, record: ExportRecord, deadline: Deadline) -> None:
        """Store how an export ended."""

    def page(
        self, org: str, query: ExportQuery, size: int, after: PageKey | None, deadline: Deadline
    ) -> Page[ExportRecord]:
        """Up to `size` records after the key `after`, newest first. They are not counted."""
