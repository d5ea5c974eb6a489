"""Processes one stream of an upload: reads, matches and writes its rows in batches, and stores the position after each.

    read and match   batch 1 │ batch 2 │ batch 3 │
    write                    │ batch 1 │ batch 2 │ batch 3      in a thread of its own

1. A stored position is always the end of a batch. If a stream breaks off, the next one continues there.
2. The rows of a batch are written before its position. The next stream first deletes rows after the stored position.
3. The epoch of the upload fences streams: a stream that lost its epoch raises UploadTakenOver at its next write.
"""

import contextvars
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NoReturn

from audience_service.domain.core.context import Deadline, RequestContext
from audience_service.domain.core.errors import AudienceError
from audience_service.domain.custom_audiences.errors import (
    ChecksumMismatch,
    InvalidFile,
    OffsetMismatch,
    UploadIncomplete,
)
from audience_service.domain.custom_audiences.model import CustomAudience
from audience_service.domain.uploads.columns import ColumnLayout, known_columns, read_layout, resume_layout
from audience_service.domain.uploads.csv_reader import CsvReader, invalid_file
from audience_service.domain.uploads.matching import Matcher, uploadable_fields
from audience_service.domain.uploads.model import (
    MAX_REJECTIONS,
    FilePosition,
    Rejection,
    RowCounts,
    Upload,
    UploadMode,
    mark_failed,
)
from audience_service.domain.uploads.repository import (
    Contact,
    ListedRow,
    ListRowRepository,
    RejectedRepository,
    UnmatchedRepository,
    UnmatchedRow,
    UploadRepository,
)
from audience_service.domain.uploads.rows import Row, RowReader
from audience_service.domain.uploads.stream_messages import UploadMessage, WrongFile, read_stream

BATCH_ROWS = 5_000
_BATCH_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class UploadStorage:
    """The repositories that an upload is stored in."""

    uploads: UploadRepository
    unmatched: UnmatchedRepository
    lists: ListRowRepository
    rejected: RejectedRepository

    def truncate_after(self, org: str, upload: Upload, after: int, deadline: Deadline) -> None:
        """Delete what a stream wrote for the rows after a line."""
        self.lists.truncate_after(org, upload.list_version_id, after, deadline)
        self.unmatched.truncate_after(org, upload, after, deadline)
        self.rejected.truncate_after(org, upload, after, deadline)

    def delete_rows(self, org: str, upload: Upload, deadline: Deadline) -> None:
        """Delete the rows of a FAILED upload. Its rejected rows stay, so that the file can be corrected."""
        self.unmatched.truncate_after(org, upload, 0, deadline)
        self.lists.truncate_after(org, upload.list_version_id, 0, deadline)


@dataclass(slots=True)
class _Batch:
    rows: list[Row] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    rejections: list[Rejection] = field(default_factory=list)
    size: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.rows) + self.rejected.total() >= BATCH_ROWS or self.size >= _BATCH_BYTES

    def add(self, result: Row | Rejection, size: int) -> None:
        self.size += size
        if isinstance(result, Row):
            self.rows.append(result)
        else:
            self.rejected[result.reason] += 1
            self.rejections.append(result)

    def reject(self, reason: str, lines: Sequence[int]) -> None:
        """Reject rows after matching, given by their lines."""
        self.rejected.update([reason] * len(lines))
        rejections = [*self.rejections, *(Rejection(line, "", reason) for line in lines)]
        self.rejections = sorted(rejections, key=lambda rejection: rejection.line)


class UploadProcessor:
    """Processes one stream, in the epoch of its upload."""

    def __init__(
        self, storage: UploadStorage, matcher: Matcher, ctx: RequestContext, audience: CustomAudience, upload: Upload
    ) -> None:
        self._storage = storage
        self._matcher = matcher
        self._ctx = ctx
        self._audience = audience
        self.upload = upload
        """The upload as it is stored."""

    def run(self, messages: Iterator[UploadMessage]) -> Upload:
        """Process the stream up to its trailer and return the upload, which is complete then but not published.

        Raises InvalidFile, with the upload FAILED; OffsetMismatch, ChecksumMismatch and UploadIncomplete, with
        `next_offset` in the metadata; UploadTakenOver; and what the repositories raise.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="upload") as writer:
            try:
                return self._read(messages, writer)
            except (OffsetMismatch, ChecksumMismatch, UploadIncomplete) as error:
                writer.shutdown()
                self._reject(error)
            except InvalidFile as error:
                writer.shutdown()
                self._fail(error)

    def _read(self, messages: Iterator[UploadMessage], writer: ThreadPoolExecutor) -> Upload:
        upload, start = self.upload, self.upload.position
        fields = uploadable_fields(self._audience)
        csv_reader = CsvReader(
            read_stream(messages, start),
            upload.header.delimiter,
            start,
            lambda cells: known_columns(upload.header, fields, cells),
        )
        layout = resume_layout(upload.header, fields, start) if start.width else None
        reader = self._reader(layout) if layout else None
        batch, pending_write = _Batch(), _completed_future()
        for cells in csv_reader:
            if not cells:
                continue
            if layout is None or reader is None:
                layout = read_layout(upload.header, fields, cells, csv_reader.first_line)
                reader = self._reader(layout)
                if upload.header.has_header:
                    continue
            batch.add(reader.read(cells, csv_reader.first_line), csv_reader.size)
            if batch.is_full:
                pending_write = self._flush(batch, _position(csv_reader, layout), pending_write, writer)
                batch = _Batch()
        if layout is None:
            raise invalid_file(1, "empty", "the file is empty; send at least one row")
        self._flush(batch, _position(csv_reader, layout), pending_write, writer).result()
        if self._storage.lists.count(self._ctx.org, self.upload.list_version_id, self._ctx.deadline) != (
            self.upload.row_counts.matched_contacts
        ):
            raise WrongFile("the stored rows are of another file; send the file again from its beginning")
        if not self.upload.row_counts.rows:
            raise invalid_file(csv_reader.line, "no_rows", "the file has a header but no rows; send at least one row")
        if self.upload.header.mode == UploadMode.REPLACE and not self.upload.row_counts.accepted:
            raise invalid_file(
                csv_reader.line,
                "no_valid_rows",
                "every row was rejected, which would replace the list by an empty one; correct the rows",
            )
        complete_upload = replace(self.upload, is_complete=True)
        self._storage.uploads.save(self._ctx.org, complete_upload, self._ctx.deadline)
        return complete_upload

    def _reader(self, layout: ColumnLayout) -> RowReader:
        """A reader for the rows, after the identifier index has been updated."""
        checked_at = self._matcher.prepare(self._ctx, layout, self.upload.checked_at)
        self.upload = replace(self.upload, checked_at=checked_at)
        return self._matcher.reader(layout, self.upload.header)

    def _flush(
        self, batch: _Batch, position: FilePosition, pending_write: "Future[None]", writer: ThreadPoolExecutor
    ) -> "Future[None]":
        """Match a batch, wait until the previous one is written, and start to write this one."""
        erased = [row.line for row in batch.rows if self._matcher.is_erased(self._ctx, row)]
        batch.reject("erased", erased)
        rows = [row for row in batch.rows if row.line not in erased] if erased else batch.rows
        found = list(zip(rows, self._matcher.match(self._ctx, rows), strict=True))
        batch.reject("too_common", [row.line for row, contacts in found if contacts is None])
        matched_rows = [(row, contacts) for row, contacts in found if contacts is not None]
        pending_write.result()
        # In the context of the call, so that the commands are part of its trace.
        return writer.submit(contextvars.copy_context().run, self._write, batch, matched_rows, position)

    def _write(
        self, batch: _Batch, matched_rows: Sequence[tuple[Row, Sequence[Contact]]], position: FilePosition
    ) -> None:
        org, deadline = self._ctx.org, self._ctx.deadline
        self._storage.uploads.check(org, self.upload, deadline)
        lines: dict[Contact, int] = {}
        for row, contacts in matched_rows:
            for contact in contacts:
                lines.setdefault(contact, row.line)
        listed = [ListedRow(contact, line) for contact, line in lines.items()]
        existing = self._storage.lists.add(org, self.upload.list_version_id, listed, deadline)
        new_contacts = {(contact, line) for contact, line in lines.items() if contact.sk not in existing}
        unmatched_rows = [row for row, contacts in matched_rows if not contacts]
        self._storage.unmatched.add(
            org, self.upload, [UnmatchedRow(row.line, row.cells) for row in unmatched_rows], deadline
        )
        self._storage.rejected.add(org, self.upload, batch.rejections, deadline)
        matched = sum(
            any((contact, row.line) in new_contacts for contact in contacts) for row, contacts in matched_rows
        )
        row_counts = RowCounts(
            matched=matched,
            duplicate=len(matched_rows) - len(unmatched_rows) - matched,
            unmatched=len(unmatched_rows),
            matched_contacts=len(new_contacts),
            rejected=batch.rejected,
            rejections=tuple(batch.rejections[:MAX_REJECTIONS]),
            changes=Counter(change for row, _ in matched_rows for change in row.changes),
        )
        upload = replace(self.upload, position=position, row_counts=self.upload.row_counts.plus(row_counts))
        self._storage.uploads.save(org, upload, deadline)
        self.upload = upload

    def _reject(self, error: AudienceError) -> NoReturn:
        """Raise the error with the next offset. An upload whose stored bytes are of another file starts again at 0."""
        if isinstance(error, WrongFile):
            restarted = replace(self.upload, position=FilePosition(), row_counts=RowCounts())
            self._storage.uploads.save(self._ctx.org, restarted, self._ctx.deadline)
            self.upload = restarted
        error.metadata["next_offset"] = str(self.upload.position.offset)
        raise error

    def _fail(self, error: InvalidFile) -> NoReturn:
        """Store the upload as FAILED, delete its rows and raise the error."""
        failed = mark_failed(self.upload, error)
        self._storage.uploads.save(self._ctx.org, failed, self._ctx.deadline)
        self.upload = failed
        with suppress(AudienceError):  # remaining rows are swept
            self._storage.delete_rows(self._ctx.org, failed, self._ctx.deadline)
        raise error


def _position(csv_reader: CsvReader, layout: ColumnLayout) -> FilePosition:
    return FilePosition(
        csv_reader.offset, csv_reader.line, csv_reader.crc32, layout.names, layout.width, csv_reader.delimiter
    )


def _completed_future() -> "Future[None]":
    future: Future[None] = Future()
    future.set_result(None)
    return future
