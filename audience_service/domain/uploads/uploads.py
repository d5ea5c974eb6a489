"""The use cases on uploads: taking them in, telling how far they have come, and what has matched nobody."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

from audience_service.domain.caller import Call
from audience_service.domain.clock import now
from audience_service.domain.creation import new_rows_id
from audience_service.domain.custom.audience import CustomAudience, CustomType
from audience_service.domain.custom.errors import InvalidFile, NotUploadable, UploadReused
from audience_service.domain.custom.ports import CustomAudienceRepository
from audience_service.domain.errors import AudienceError
from audience_service.domain.tokens import TokenSealer
from audience_service.domain.uploads.arrivals import Part, check_repeated, read_header
from audience_service.domain.uploads.formulas import neutralised
from audience_service.domain.uploads.intake import Intake, Storage
from audience_service.domain.uploads.marks import as_published, is_in_list, is_replaced
from audience_service.domain.uploads.matching import Matcher, uploadable_fields
from audience_service.domain.uploads.ports import IdentifierRepository, UnmatchedRow
from audience_service.domain.uploads.publishing import Publisher
from audience_service.domain.uploads.upload import OPEN_FOR, Upload, UploadState, as_abandoned

_ROWS_OUTLIVE = timedelta(days=1)
"""How long behind the end of an upload its rows may be written by streams that have not noticed."""

_UNMATCHED_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class UnmatchedBatch:
    """Rows of one upload that have matched nobody; the last batch has the total and no rows."""

    upload_id: str
    columns: Sequence[str]
    rows: Sequence[UnmatchedRow]
    cursor: str
    total: int | None = None


class Uploads:
    """Takes uploads in and tells of them."""

    def __init__(
        self,
        customs: CustomAudienceRepository,
        storage: Storage,
        identifiers: IdentifierRepository,
        publisher: Publisher,
        sealer: TokenSealer,
    ) -> None:
        self._customs = customs
        self._storage = storage
        self._identifiers = identifiers
        self._publisher = publisher
        self._sealer = sealer

    def receive(self, call: Call, parts: Iterator[Part]) -> Upload:
        """Take in one stream up to its end, and publish. One that is published already is answered with as it is.

        Raises InvalidArgument, AudienceNotFound, NotUploadable, UploadReused, InvalidFile, OffsetMismatch,
        ChecksumMismatch, UploadIncomplete, UploadTakenOver, StaleVersion.
        """
        header = read_header(parts)
        audience = self._uploadable(call, header.audience_id)
        header = header.checked(uploadable_fields(audience))
        fresh = Upload(header, UploadState.OPEN, new_rows_id(audience.id), now())
        upload = _as_of_now(audience, self._storage.uploads.begin(call.org, fresh, call.deadline))
        if upload.header != header:
            raise UploadReused("this upload_id stands for another upload", metadata={"id": header.upload_id})
        if upload.state is UploadState.FAILED:
            metadata = {"line": str(upload.failure_line), "problem": upload.failure_problem}
            raise InvalidFile(f"the upload has failed: {upload.failure}", metadata=metadata)
        if not upload.is_whole:
            upload = self._go_on(call, upload)
        if upload.is_whole:
            check_repeated(parts, upload.position)
        else:
            upload = self._taken_in(call, audience, upload, parts)
        return upload if upload.state is UploadState.PUBLISHED else self._publisher.publish(call, upload)

    def get(self, call: Call, audience_id: str, upload_id: str) -> Upload:
        """How far an upload has come. Raises AudienceNotFound, UploadNotFound."""
        audience = self._customs.get(call.org, audience_id, call.deadline)
        upload = self._storage.uploads.get(call.org, audience_id, upload_id, call.deadline)
        return as_published(audience, _as_of_now(audience, upload))

    def unmatched(
        self, call: Call, audience_id: str, cursor: str, *, raw: bool
    ) -> Generator[UnmatchedBatch, None, None]:
        """The rows that have matched nobody yet, upload by upload in the order of publishing, then the total.

        Raises AudienceNotFound, NotUploadable, InvalidPageToken at the first batch.
        """
        audience = self._uploadable(call, audience_id)
        binding = ("unmatched", call.org, audience.id, raw)
        at, after, sent = self._sealer.open(cursor, binding, "cursor") if cursor else ("", 0, 0)
        left = self._storage.uploads.with_unmatched(call.org, audience.id, call.deadline)
        uploads = [upload for upload in left if not is_replaced(audience, upload)]
        places = [_place(upload) for upload in uploads]
        for upload, place in zip(uploads, places, strict=True):
            if place < at:
                continue
            after = after if place == at else 0
            while rows := self._storage.unmatched.page(call.org, upload, after, _UNMATCHED_AT_ONCE, call.deadline):
                at, after, sent = place, rows[-1].line, sent + len(rows)
                shown = rows if raw else [replace(row, cells=_shown(row.cells)) for row in rows]
                names = upload.position.names if raw else _shown(upload.position.names)
                cursor = self._sealer.seal(binding, [at, after, sent])
                yield UnmatchedBatch(upload.header.upload_id, names, shown, cursor)
        yield UnmatchedBatch("", (), (), self._sealer.seal(binding, [at, after, sent]), sent)

    def _uploadable(self, call: Call, audience_id: str) -> CustomAudience:
        audience = self._customs.get(call.org, audience_id, call.deadline)
        if audience.type not in (CustomType.FILE_UPLOAD, CustomType.CUSTOMER_MATCH):
            raise NotUploadable.of(audience.type)
        return audience

    def _taken_in(self, call: Call, audience: CustomAudience, upload: Upload, parts: Iterator[Part]) -> Upload:
        """The upload once it is whole."""
        try:
            return Intake(self._storage, Matcher(self._identifiers, audience), call, audience, upload).run(parts)
        except InvalidFile:
            with suppress(AudienceError):  # what is left is swept, but later
                self._publisher.release(call, audience.id, upload.rows_id)
            raise

    def _go_on(self, call: Call, upload: Upload) -> Upload:
        """Take an upload over from whatever stream had it, and clear away what that one wrote and did not store.

        It may have become whole meanwhile.
        """
        until = upload.create_time + OPEN_FOR + _ROWS_OUTLIVE
        self._customs.reserve(call.org, upload.header.audience_id, upload.rows_id, until, call.deadline)
        taken = self._storage.uploads.take(call.org, upload, call.deadline)
        if taken.epoch > 1 and not taken.is_whole:
            self._storage.lists.cut(call.org, taken.rows_id, taken.position.line, call.deadline)
            self._storage.unmatched.cut(call.org, taken, taken.position.line, call.deadline)
        return taken


def _as_of_now(audience: CustomAudience, upload: Upload) -> Upload:
    """The upload, failed if it has been open for too long."""
    is_over = upload.state is not UploadState.OPEN or is_in_list(audience, upload)
    return upload if is_over or now() < upload.expire_time else as_abandoned(upload)


def _shown(cells: Sequence[str]) -> Sequence[str]:
    return list(map(neutralised, cells))


def _place(upload: Upload) -> str:
    """Where an upload is among those of its audience."""
    assert upload.publish_time  # noqa: S101 - those with unmatched rows are published
    return f"{upload.publish_time.isoformat()} {upload.rows_id}"
