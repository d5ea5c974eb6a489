"""An export log for tests of use cases that need none."""

from collections.abc import Callable, Generator
from typing import Any

from audience_service.domain.core.context import RequestContext
from audience_service.domain.export_log.model import ExportContent
from audience_service.domain.export_log.service import ExportLog, Part


class NoExportLog(ExportLog):
    """Records nothing."""

    def __init__(self) -> None:
        """Need no storage."""

    def record(
        self,
        ctx: RequestContext,
        content: ExportContent,
        parts: Generator[Part, None, None],
        count_rows: Callable[[Part], int],
    ) -> Generator[Part, None, Any]:
        """The same parts."""
        return parts
