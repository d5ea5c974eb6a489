"""Matches unmatched rows of uploads again, when an audience is refreshed.

    upload 1 (APPEND, published Monday):   row 7 matches Ann now ──> add Ann as of Monday
    upload 2 (REMOVE, published Tuesday):  row 3 matches Ann now ──> remove Ann as of Tuesday    Ann is not on the list

A match takes effect as of the time when its upload was published, not as of the refresh. A row of a REMOVE upload
removes contacts that earlier uploads added, and none that later uploads added.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.erased import ErasedKeys
from audience_service.domain.core.errors import StaleVersion
from audience_service.domain.core.jobs import Report
from audience_service.domain.custom_audiences.model import CustomAudience
from audience_service.domain.custom_audiences.repository import CustomAudienceRepository
from audience_service.domain.uploads.columns import ColumnLayout, resume_layout
from audience_service.domain.uploads.matching import Matcher, uploadable_fields
from audience_service.domain.uploads.model import RowCounts, Upload, UploadMode
from audience_service.domain.uploads.processor import UploadStorage
from audience_service.domain.uploads.publish_markers import is_replaced
from audience_service.domain.uploads.publisher import Publisher
from audience_service.domain.uploads.repository import Contact, IdentifierRepository
from audience_service.domain.uploads.rows import Row

_BATCH_SIZE = 5_000
_MAX_ATTEMPTS = 5
_MATCHED_PROGRESS = 90
"""The progress in per cent once all rows have been matched; the rest is for writing the list."""


@dataclass(slots=True)
class _Rematch:
    """The new matches of one upload: the lines of its rows, 8 bytes each, and the counts to add."""

    upload: Upload
    lines: "array[int]" = field(default_factory=lambda: array("q"))
    row_counts: RowCounts = field(default_factory=RowCounts)


@dataclass(slots=True)
class _Progress:
    """The progress of matching `total` rows."""

    total: int
    report: Report
    count: int = 0

    def add(self, count: int) -> None:
        """Report that `count` more rows have been matched."""
        self.count += count
        self.report(min(_MATCHED_PROGRESS, self.count * _MATCHED_PROGRESS // max(self.total, 1)))


class UploadRematcher:
    """Refreshes the lists of file uploads and customer matches."""

    def __init__(
        self,
        custom_audiences: CustomAudienceRepository,
        storage: UploadStorage,
        identifiers: IdentifierRepository,
        publisher: Publisher,
        hash_secret: bytes,
        erased: ErasedKeys,
    ) -> None:
        self._custom_audiences = custom_audiences
        self._storage = storage
        self._identifiers = identifiers
        self._publisher = publisher
        self._hash_secret = hash_secret
        self._erased = erased

    def check(self, ctx: RequestContext, audience: CustomAudience) -> None:
        """Accept every audience, since rows can always be matched again."""

    def refresh(self, ctx: RequestContext, audience: CustomAudience, report: Report) -> CustomAudience:
        """The audience with the new matches published, or unchanged if there are none.

        It starts again, up to five times, if another list is published meanwhile. Raises StaleVersion, OutOfTime,
        AudienceNotFound.
        """
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                return self._refreshed(ctx, self._custom_audiences.get(ctx.org, audience.id, ctx.deadline), report)
            except StaleVersion:
                if attempt == _MAX_ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _refreshed(self, ctx: RequestContext, audience: CustomAudience, report: Report) -> CustomAudience:
        candidates = self._storage.uploads.list_with_unmatched_rows(ctx.org, audience.id, ctx.deadline)
        uploads = [upload for upload in candidates if not is_replaced(audience, upload)]
        if not uploads:
            return audience
        included_id, excluded_id = self._publisher.reserve(ctx, audience), self._publisher.reserve(ctx, audience)
        matcher = Matcher(self._identifiers, audience, self._hash_secret, self._erased)
        progress = _Progress(sum(upload.row_counts.unmatched for upload in uploads), report)
        found = [
            self._rematch(ctx, audience, matcher, upload, included_id, excluded_id, progress) for upload in uploads
        ]
        is_any = any(one.lines for one in found)
        refreshed = self._publisher.edit(ctx, audience, included_id, excluded_id) if is_any else audience
        for list_version_id in (included_id, excluded_id):
            self._publisher.release(ctx, audience.id, list_version_id)
        for one in (one for one in found if one.lines):
            for start in range(0, len(one.lines), _BATCH_SIZE):
                lines = one.lines[start : start + _BATCH_SIZE].tolist()
                self._storage.unmatched.remove(ctx.org, one.upload, lines, ctx.deadline)
            row_counts = replace(
                one.upload.row_counts.plus(one.row_counts), unmatched=one.upload.row_counts.unmatched - len(one.lines)
            )
            self._storage.uploads.update_counts(ctx.org, replace(one.upload, row_counts=row_counts), ctx.deadline)
        return refreshed

    def _rematch(
        self,
        ctx: RequestContext,
        audience: CustomAudience,
        matcher: Matcher,
        upload: Upload,
        included_id: str,
        excluded_id: str,
        progress: "_Progress",
    ) -> _Rematch:
        """Match the rows of one upload, and write the contacts to the list of included or of excluded ones."""
        layout = resume_layout(upload.header, uploadable_fields(audience), upload.position)
        matcher.prepare(ctx, layout, None)
        found = _Rematch(upload)
        for rows in self._rows(ctx, matcher, upload, layout):
            matched_rows = [
                (row, contacts) for row, contacts in zip(rows, matcher.match(ctx, rows), strict=True) if contacts
            ]
            found.lines.extend(row.line for row, _ in matched_rows)
            lines: dict[Contact, int] = {}
            for row, contacts in matched_rows:
                for contact in contacts:
                    lines.setdefault(contact, row.line)
            keys = [contact.sk for contact in lines]
            is_removal = upload.header.mode == UploadMode.REMOVE
            existing = {
                *self._storage.lists.filter_existing(
                    ctx.org, excluded_id if is_removal else included_id, keys, ctx.deadline
                )
            }
            if not is_removal:
                existing |= {
                    *self._storage.lists.filter_existing(ctx.org, audience.list_version_id, keys, ctx.deadline)
                }
            as_of = upload.published_at or upload.created_at
            self._storage.lists.upsert(
                ctx.org, excluded_id if is_removal else included_id, list(lines), as_of, ctx.deadline
            )
            found.row_counts = found.row_counts.plus(_count(matched_rows, lines, existing))
            progress.add(len(rows))
        return found

    def _rows(self, ctx: RequestContext, matcher: Matcher, upload: Upload, layout: ColumnLayout) -> Iterator[list[Row]]:
        """An upload's unmatched rows, in batches."""
        reader = matcher.reader(layout, upload.header)
        after, buffered = 0, list[Row]()
        while page := self._storage.unmatched.page(ctx.org, upload, after, _BATCH_SIZE, ctx.deadline):
            read = (reader.read(row.cells, row.line) for row in page)
            buffered += [row for row in read if isinstance(row, Row)]
            after = page[-1].line
            if len(buffered) >= _BATCH_SIZE:
                yield buffered
                buffered = []
        yield buffered


def _count(
    matched_rows: Sequence[tuple[Row, Sequence[Contact]]], lines: dict[Contact, int], existing: set[str]
) -> RowCounts:
    matched = sum(
        any(lines[contact] == row.line and contact.sk not in existing for contact in contacts)
        for row, contacts in matched_rows
    )
    contacts = sum(contact.sk not in existing for contact in lines)
    return RowCounts(matched=matched, duplicate=len(matched_rows) - matched, matched_contacts=contacts)
