"""Taking in one stream of an upload: rows are read, matched and kept a batch at a time, and where that is is stored.

While one batch is written, the next is read and matched. What is stored is always a whole number of batches: a stream
that breaks off loses what lies behind, and the next one sends it again.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NoReturn

from audience_service.domain.caller import Call
from audience_service.domain.custom.audience import CustomAudience
from audience_service.domain.custom.errors import ChecksumMismatch, InvalidFile, OffsetMismatch, UploadIncomplete
from audience_service.domain.errors import AudienceError
from audience_service.domain.uploads.arrivals import Part, WrongFile, pieces
from audience_service.domain.uploads.columns import Layout, read_layout, resumed_layout
from audience_service.domain.uploads.lines import Records, invalid_file
from audience_service.domain.uploads.matching import Matcher, uploadable_fields
from audience_service.domain.uploads.ports import (
    Contact,
    ListedRow,
    ListRowRepository,
    UnmatchedRepository,
    UnmatchedRow,
    UploadRepository,
)
from audience_service.domain.uploads.rows import Row, RowReader
from audience_service.domain.uploads.upload import (
    MAX_REJECTIONS,
    Mode,
    Position,
    Rejection,
    Tally,
    Upload,
    UploadState,
)

_BATCH_ROWS = 5_000
_BATCH_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Storage:
    """Where what is taken in is kept."""

    uploads: UploadRepository
    unmatched: UnmatchedRepository
    lists: ListRowRepository


@dataclass(slots=True)
class _Batch:
    rows: list[Row] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    rejections: list[Rejection] = field(default_factory=list)
    size: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.rows) + self.rejected.total() >= _BATCH_ROWS or self.size >= _BATCH_BYTES

    def add(self, read: Row | Rejection, size: int) -> None:
        self.size += size
        if isinstance(read, Row):
            self.rows.append(read)
        else:
            self.rejected[read.reason] += 1
            if len(self.rejections) < MAX_REJECTIONS:
                self.rejections.append(read)

    def reject(self, reason: str, lines: Sequence[int]) -> None:
        """Reject rows that have been read, by their lines, for what is known of them only now."""
        self.rejected.update([reason] * len(lines))
        rejections = [*self.rejections, *(Rejection(line, "", reason) for line in lines)]
        self.rejections = sorted(rejections, key=lambda rejection: rejection.line)[:MAX_REJECTIONS]


class Intake:
    """Takes one stream in, under the epoch of its upload."""

    def __init__(
        self, storage: Storage, matcher: Matcher, call: Call, audience: CustomAudience, upload: Upload
    ) -> None:
        self._storage = storage
        self._matcher = matcher
        self._call = call
        self._audience = audience
        self.upload = upload
        """The upload as it is stored."""

    def run(self, parts: Iterator[Part]) -> Upload:
        """Take in everything up to the end; answers with the upload, which is whole then, and not published.

        Raises InvalidFile, with the upload failed; OffsetMismatch, ChecksumMismatch and UploadIncomplete, which tell
        where the upload goes on; UploadTakenOver; and what the parts raise.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="upload") as writer:
            try:
                return self._read(parts, writer)
            except (OffsetMismatch, ChecksumMismatch, UploadIncomplete) as error:
                writer.shutdown()
                self._send_back(error)
            except InvalidFile as error:
                writer.shutdown()
                self._fail(error)

    def _read(self, parts: Iterator[Part], writer: ThreadPoolExecutor) -> Upload:
        upload, start = self.upload, self.upload.position
        records = Records(pieces(parts, start), upload.header.delimiter, start)
        fields = uploadable_fields(self._audience)
        layout = resumed_layout(upload.header, fields, start) if start.width else None
        reader = self._reader(layout) if layout else None
        batch, written = _Batch(), _done()
        for cells in records:
            if not cells:
                continue
            if layout is None or reader is None:
                layout = read_layout(upload.header, fields, cells, records.first_line)
                reader = self._reader(layout)
                if not upload.header.no_header:
                    continue
            batch.add(reader.read(cells, records.first_line), records.size)
            if batch.is_full:
                written = self._hand_over(batch, _position(records, layout), written, writer)
                batch = _Batch()
        if layout is None:
            raise invalid_file(1, "empty", "the file is empty")
        self._hand_over(batch, _position(records, layout), written, writer).result()
        if self._storage.lists.count(self._call.org, self.upload.rows_id, self._call.deadline) != (
            self.upload.tally.contacts
        ):
            raise WrongFile("rows of another file were sent for this upload; send it again from its beginning")
        if not self.upload.tally.rows:
            raise invalid_file(records.line, "no_rows", "the file has a header and no rows")
        if self.upload.header.mode == Mode.REPLACE and not self.upload.tally.accepted:
            raise invalid_file(
                records.line, "no_valid_rows", "every row was rejected, and a list is not replaced by nothing"
            )
        whole = replace(self.upload, is_whole=True)
        self._storage.uploads.save(self._call.org, whole, self._call.deadline)
        return whole

    def _reader(self, layout: Layout) -> RowReader:
        """What reads the rows, once they can be matched."""
        checked_at = self._matcher.prepare(self._call, layout, self.upload.checked_at)
        self.upload = replace(self.upload, checked_at=checked_at)
        return self._matcher.reader(layout, self.upload.header.default_region)

    def _hand_over(
        self, batch: _Batch, position: Position, written: "Future[None]", writer: ThreadPoolExecutor
    ) -> "Future[None]":
        """Match a batch, wait for the one before it, and have it written."""
        found = list(zip(batch.rows, self._matcher.match(self._call, batch.rows), strict=True))
        batch.reject("too_common", [row.line for row, contacts in found if contacts is None])
        told = [(row, contacts) for row, contacts in found if contacts is not None]
        written.result()
        return writer.submit(self._write, batch, told, position)

    def _write(self, batch: _Batch, told: Sequence[tuple[Row, Sequence[Contact]]], position: Position) -> None:
        org, deadline = self._call.org, self._call.deadline
        self._storage.uploads.check(org, self.upload, deadline)
        lines: dict[Contact, int] = {}
        for row, contacts in told:
            for contact in contacts:
                lines.setdefault(contact, row.line)
        listed = [ListedRow(contact, line) for contact, line in lines.items()]
        known = self._storage.lists.add(org, self.upload.rows_id, listed, deadline)
        fresh = {(contact, line) for contact, line in lines.items() if contact.sk not in known}
        alone = [row for row, contacts in told if not contacts]
        self._storage.unmatched.add(org, self.upload, [UnmatchedRow(row.line, row.cells) for row in alone], deadline)
        matched = sum(any((contact, row.line) in fresh for contact in contacts) for row, contacts in told)
        tally = Tally(
            matched=matched,
            duplicate=len(told) - len(alone) - matched,
            unmatched=len(alone),
            contacts=len(fresh),
            rejected=batch.rejected,
            rejections=tuple(batch.rejections),
        )
        upload = replace(self.upload, position=position, tally=self.upload.tally.plus(tally))
        self._storage.uploads.save(org, upload, deadline)
        self.upload = upload

    def _send_back(self, error: AudienceError) -> NoReturn:
        """Tell where the upload goes on. One whose bytes are not the caller's begins anew."""
        if isinstance(error, WrongFile):
            again = replace(self.upload, position=Position(), tally=Tally())
            self._storage.uploads.save(self._call.org, again, self._call.deadline)
            self.upload = again
        error.metadata["next_offset"] = str(self.upload.position.offset)
        raise error

    def _fail(self, error: InvalidFile) -> NoReturn:
        """The upload has failed, and nothing of it is kept."""
        failed = replace(
            self.upload,
            state=UploadState.FAILED,
            failure=error.message,
            failure_problem=error.metadata["problem"],
            failure_line=int(error.metadata["line"]),
        )
        self._storage.uploads.save(self._call.org, failed, self._call.deadline)
        self.upload = failed
        with suppress(AudienceError):  # what is left is swept
            self._storage.unmatched.cut(self._call.org, failed, 0, self._call.deadline)
            self._storage.lists.cut(self._call.org, failed.rows_id, 0, self._call.deadline)
        raise error


def _position(records: Records, layout: Layout) -> Position:
    return Position(records.offset, records.line, records.crc32, layout.names, layout.width)


def _done() -> "Future[None]":
    done: Future[None] = Future()
    done.set_result(None)
    return done
