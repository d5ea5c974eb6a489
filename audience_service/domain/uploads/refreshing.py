"""Matching the rows again that have matched nobody."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from audience_service.domain.caller import Call
from audience_service.domain.custom.audience import CustomAudience
from audience_service.domain.custom.ports import CustomAudienceRepository
from audience_service.domain.errors import StaleVersion
from audience_service.domain.jobs import Report
from audience_service.domain.uploads.columns import Layout, resumed_layout
from audience_service.domain.uploads.intake import Storage
from audience_service.domain.uploads.marks import is_replaced
from audience_service.domain.uploads.matching import Matcher, uploadable_fields
from audience_service.domain.uploads.ports import Contact, IdentifierRepository
from audience_service.domain.uploads.publishing import Publisher
from audience_service.domain.uploads.rows import Row
from audience_service.domain.uploads.upload import Mode, Tally, Upload

_AT_ONCE = 5_000
_TURNS = 5
_MATCHED = 90
"""The progress once all rows have been matched, in per cent; the rest is for writing the list."""


@dataclass(slots=True)
class _Found:
    """What has been found of one upload: the lines of its rows, 8 bytes each, and what to add to its counts."""

    upload: Upload
    lines: "array[int]" = field(default_factory=lambda: array("q"))
    tally: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class _Progress:
    """The progress of matching so many rows."""

    total: int
    report: Report
    count: int = 0

    def add(self, count: int) -> None:
        """Report that so many more rows have been matched."""
        self.count += count
        self.report(min(_MATCHED, self.count * _MATCHED // max(self.total, 1)))


class UploadRefresh:
    """Refreshes file uploads and customer matches.

    Whom a row finds now is put on, or taken off, as of when its upload was published: a row that removes takes off whom
    uploads before it have put on, then or now, and nobody whom later ones have put on.
    """

    def __init__(
        self,
        customs: CustomAudienceRepository,
        storage: Storage,
        identifiers: IdentifierRepository,
        publisher: Publisher,
    ) -> None:
        self._customs = customs
        self._storage = storage
        self._identifiers = identifiers
        self._publisher = publisher

    def check(self, call: Call, audience: CustomAudience) -> None:
        """Accept every audience: rows can always be matched again."""

    def refresh(self, call: Call, audience: CustomAudience, report: Report) -> CustomAudience:
        """The audience with those found who were not there before; as it was, where there are none.

        It starts again, a few times, if another list is published meanwhile. Raises StaleVersion, OutOfTime,
        AudienceNotFound.
        """
        for turn in range(1, _TURNS + 1):
            try:
                return self._refreshed(call, self._customs.get(call.org, audience.id, call.deadline), report)
            except StaleVersion:
                if turn == _TURNS:
                    raise
        raise AssertionError("the last turn returns or raises")

    def _refreshed(self, call: Call, audience: CustomAudience, report: Report) -> CustomAudience:
        left = self._storage.uploads.with_unmatched(call.org, audience.id, call.deadline)
        uploads = [upload for upload in left if not is_replaced(audience, upload)]
        if not uploads:
            return audience
        on, off = self._publisher.reserved(call, audience), self._publisher.reserved(call, audience)
        matcher = Matcher(self._identifiers, audience)
        progress = _Progress(sum(upload.tally.unmatched for upload in uploads), report)
        found = [self._find(call, audience, matcher, upload, on, off, progress) for upload in uploads]
        is_any = any(one.lines for one in found)
        refreshed = self._publisher.edit(call, audience, on, off) if is_any else audience
        for rows_id in (on, off):
            self._publisher.release(call, audience.id, rows_id)
        for one in (one for one in found if one.lines):
            for start in range(0, len(one.lines), _AT_ONCE):
                lines = one.lines[start : start + _AT_ONCE].tolist()
                self._storage.unmatched.remove(call.org, one.upload, lines, call.deadline)
            tally = replace(one.upload.tally.plus(one.tally), unmatched=one.upload.tally.unmatched - len(one.lines))
            self._storage.uploads.correct(call.org, replace(one.upload, tally=tally), call.deadline)
        return refreshed

    def _find(
        self,
        call: Call,
        audience: CustomAudience,
        matcher: Matcher,
        upload: Upload,
        on: str,
        off: str,
        progress: "_Progress",
    ) -> _Found:
        """Go through the rows of one upload, and note whom they find among those to put on, or those to take off."""
        layout = resumed_layout(upload.header, uploadable_fields(audience), upload.position)
        matcher.prepare(call, layout, None)
        found = _Found(upload)
        for rows in self._rows(call, matcher, upload, layout):
            told = [(row, contacts) for row, contacts in zip(rows, matcher.match(call, rows), strict=True) if contacts]
            found.lines.extend(row.line for row, _ in told)
            lines: dict[Contact, int] = {}
            for row, contacts in told:
                for contact in contacts:
                    lines.setdefault(contact, row.line)
            keys = [contact.sk for contact in lines]
            is_off = upload.header.mode == Mode.REMOVE
            before = {*self._storage.lists.known(call.org, off if is_off else on, keys, call.deadline)}
            if not is_off:
                before |= {*self._storage.lists.known(call.org, audience.rows_id, keys, call.deadline)}
            since = upload.publish_time or upload.create_time
            self._storage.lists.put(call.org, off if is_off else on, list(lines), since, call.deadline)
            found.tally = found.tally.plus(_counted(told, lines, before))
            progress.add(len(rows))
        return found

    def _rows(self, call: Call, matcher: Matcher, upload: Upload, layout: Layout) -> Iterator[list[Row]]:
        """An upload's unmatched rows, a batch at a time."""
        reader = matcher.reader(layout, upload.header.default_region)
        after, held = 0, list[Row]()
        while page := self._storage.unmatched.page(call.org, upload, after, _AT_ONCE, call.deadline):
            read = (reader.read(row.cells, row.line) for row in page)
            held += [row for row in read if isinstance(row, Row)]
            after = page[-1].line
            if len(held) >= _AT_ONCE:
                yield held
                held = []
        yield held


def _counted(told: Sequence[tuple[Row, Sequence[Contact]]], lines: dict[Contact, int], before: set[str]) -> Tally:
    matched = sum(
        any(lines[contact] == row.line and contact.sk not in before for contact in contacts) for row, contacts in told
    )
    contacts = sum(contact.sk not in before for contact in lines)
    return Tally(matched=matched, duplicate=len(told) - matched, contacts=contacts)
