"""The use cases on uploads: receive them, get their state, and stream their unmatched rows."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.erased import ErasedKeys
from audience_service.domain.core.errors import AudienceError, InvalidArgument
from audience_service.domain.core.idempotency import new_list_version_id
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.pages import ListedPage, Page, PageKey, PageRequest
from audience_service.domain.custom_audiences.errors import InvalidFile, NotUploadable, UploadReused
from audience_service.domain.custom_audiences.model import CustomAudience, CustomType
from audience_service.domain.custom_audiences.repository import CustomAudienceRepository
from audience_service.domain.uploads.columns import resume_layout
from audience_service.domain.uploads.csv_injection import escape_controls, escape_formula
from audience_service.domain.uploads.matching import Matcher, uploadable_fields
from audience_service.domain.uploads.model import MAX_OPEN_TIME, Rejection, Upload, UploadState, mark_abandoned
from audience_service.domain.uploads.processor import UploadProcessor, UploadStorage
from audience_service.domain.uploads.publish_markers import is_in_list, is_replaced, with_publish_state
from audience_service.domain.uploads.publisher import Publisher
from audience_service.domain.uploads.repository import IdentifierRepository, UnmatchedRow
from audience_service.domain.uploads.rows import REASONS, Row
from audience_service.domain.uploads.stream_messages import UploadMessage, check_repeated, read_header

_ROW_SWEEP_MARGIN = timedelta(days=1)
"""How long after the end of an upload a stream that has not noticed it may still write rows."""

UNMATCHED_BATCH_SIZE = 1_000


@dataclass(frozen=True, slots=True)
class UnmatchedBatch:
    """Unmatched rows of one upload. The last batch of a stream has the total and no rows."""

    upload_id: str
    columns: Sequence[str]
    rows: Sequence[UnmatchedRow]
    cursor: str
    total: int | None = None


class Uploads:
    """Receives an org's uploads and reports their state."""

    def __init__(
        self,
        custom_audiences: CustomAudienceRepository,
        storage: UploadStorage,
        identifiers: IdentifierRepository,
        publisher: Publisher,
        tokens: TokenCodec,
        hash_secret: bytes,
        erased: ErasedKeys,
    ) -> None:
        self._custom_audiences = custom_audiences
        self._storage = storage
        self._identifiers = identifiers
        self._publisher = publisher
        self._tokens = tokens
        self._hash_secret = hash_secret
        self._erased = erased

    def receive(self, ctx: RequestContext, messages: Iterator[UploadMessage]) -> Upload:
        """Receive one stream up to its trailer and publish the upload; returns the published upload.

        A published upload is returned unchanged.

        Raises InvalidArgument, AudienceNotFound, NotUploadable, UploadReused, InvalidFile, OffsetMismatch,
        ChecksumMismatch, UploadIncomplete, UploadTakenOver, StaleVersion.
        """
        header = read_header(messages)
        audience = self._uploadable(ctx, header.audience_id)
        header = header.validate(uploadable_fields(audience))
        new_upload = Upload(header, UploadState.OPEN, new_list_version_id(audience.id), now())
        upload = _expire_if_abandoned(audience, self._storage.uploads.begin(ctx.org, new_upload, ctx.deadline))
        if upload.header != header:
            raise UploadReused(
                "this upload_id belongs to an upload with another header; use a new upload_id",
                metadata={"id": header.upload_id},
            )
        if upload.state is UploadState.FAILED:
            metadata = {"line": str(upload.error_line), "problem": upload.error_problem}
            raise InvalidFile(f"the upload has failed: {upload.error}", metadata=metadata)
        if not upload.is_complete:
            upload = self._resume(ctx, upload)
        if upload.is_complete:
            check_repeated(messages, upload.position)
        else:
            upload = self._process(ctx, audience, upload, messages)
        return upload if upload.state is UploadState.PUBLISHED else self._publisher.publish(ctx, upload)

    def get(self, ctx: RequestContext, audience_id: str, upload_id: str) -> Upload:
        """The upload in its current state. Raises AudienceNotFound, UploadNotFound."""
        audience = self._custom_audiences.get(ctx.org, audience_id, ctx.deadline)
        upload = self._storage.uploads.get(ctx.org, audience_id, upload_id, ctx.deadline)
        return with_publish_state(audience, _expire_if_abandoned(audience, upload))

    def unmatched(
        self, ctx: RequestContext, audience_id: str, cursor: str, *, unescaped: bool
    ) -> Generator[UnmatchedBatch, None, None]:
        """The unmatched rows, upload by upload in the order of publication, then the total.

        Raises AudienceNotFound, NotUploadable, InvalidPageToken at the first batch.
        """
        audience = self._uploadable(ctx, audience_id)
        binding = ("unmatched rows", ctx.org, audience.id, unescaped)
        shape = (str, int, int)
        position, after, sent = self._tokens.decode(cursor, binding, "cursor", shape) if cursor else ("", 0, 0)
        candidates = self._storage.uploads.list_with_unmatched_rows(ctx.org, audience.id, ctx.deadline)
        uploads = [upload for upload in candidates if not is_replaced(audience, upload)]
        sort_keys = [_sort_key(upload) for upload in uploads]
        for upload, sort_key in zip(uploads, sort_keys, strict=True):
            if sort_key < position:
                continue
            after = after if sort_key == position else 0
            while rows := self._storage.unmatched.page(ctx.org, upload, after, UNMATCHED_BATCH_SIZE, ctx.deadline):
                visible = self._without_erased(ctx, audience, upload, rows)
                position, after, sent = sort_key, rows[-1].line, sent + len(visible)
                if not visible:
                    continue
                shown = visible if unescaped else [replace(row, cells=_escape_cells(row.cells)) for row in visible]
                names = upload.position.names if unescaped else _escape_cells(upload.position.names)
                cursor = self._tokens.encode(binding, [position, after, sent])
                yield UnmatchedBatch(upload.header.upload_id, names, shown, cursor)
        yield UnmatchedBatch("", (), (), self._tokens.encode(binding, [position, after, sent]), sent)

    def rejected(
        self, ctx: RequestContext, audience_id: str, upload_id: str, reason: str, request: PageRequest
    ) -> ListedPage[Rejection]:
        """A page of an upload's rejected rows by line; with a `reason`, of those rejected for it.

        Raises AudienceNotFound, UploadNotFound, InvalidArgument, InvalidPageToken.
        """
        if reason and reason not in REASONS:
            raise InvalidArgument.at("reason", f"{reason[:50]!r} is not a reason; set one of {', '.join(REASONS)}")
        upload = self.get(ctx, audience_id, upload_id)
        counts = upload.row_counts.rejected
        total = counts.get(reason, 0) if reason else sum(counts.values())

        def read(after: PageKey | None) -> Page[Rejection]:
            line = after[0] if after else 0
            found = self._storage.rejected.page(ctx.org, upload, reason, line, request.size + 1, ctx.deadline)
            return Page.cut(found, request.size, lambda rejection: rejection.line, total)

        return self._tokens.page(request, ("rejected rows", ctx.org, upload.list_version_id, reason), read, (int,))

    def _without_erased(
        self, ctx: RequestContext, audience: CustomAudience, upload: Upload, rows: Sequence[UnmatchedRow]
    ) -> Sequence[UnmatchedRow]:
        """The rows without those of erased people, which a running upload may have written after the removal."""
        if not self._erased.keys(ctx.org):
            return rows
        matcher = Matcher(self._identifiers, audience, self._hash_secret, self._erased)
        layout = resume_layout(upload.header, uploadable_fields(audience), upload.position)
        reader = matcher.reader(layout, upload.header)
        read_rows = ((row, reader.read(row.cells, row.line)) for row in rows)
        return [row for row, read in read_rows if not (isinstance(read, Row) and matcher.is_erased(ctx, read))]

    def _uploadable(self, ctx: RequestContext, audience_id: str) -> CustomAudience:
        audience = self._custom_audiences.get(ctx.org, audience_id, ctx.deadline)
        if audience.type not in (CustomType.FILE_UPLOAD, CustomType.CUSTOMER_MATCH):
            raise NotUploadable.of(audience.type)
        return audience

    def _process(
        self, ctx: RequestContext, audience: CustomAudience, upload: Upload, messages: Iterator[UploadMessage]
    ) -> Upload:
        """The complete upload."""
        try:
            return UploadProcessor(
                self._storage,
                Matcher(self._identifiers, audience, self._hash_secret, self._erased),
                ctx,
                audience,
                upload,
            ).run(messages)
        except InvalidFile:
            with suppress(AudienceError):  # the sweep comes later then
                self._publisher.release(ctx, audience.id, upload.list_version_id)
            raise

    def _resume(self, ctx: RequestContext, upload: Upload) -> Upload:
        """Claim an upload from an earlier stream, and delete the rows that it wrote after the stored position.

        The upload may have become complete meanwhile.
        """
        until = upload.created_at + MAX_OPEN_TIME + _ROW_SWEEP_MARGIN
        self._custom_audiences.reserve(ctx.org, upload.header.audience_id, upload.list_version_id, until, ctx.deadline)
        claimed = self._storage.uploads.claim(ctx.org, upload, ctx.deadline)
        if claimed.epoch > 1 and not claimed.is_complete:
            self._storage.truncate_after(ctx.org, claimed, claimed.position.line, ctx.deadline)
        return claimed


def _expire_if_abandoned(audience: CustomAudience, upload: Upload) -> Upload:
    """The upload, as FAILED if it has been open for too long."""
    is_finished = upload.state is not UploadState.OPEN or is_in_list(audience, upload)
    return upload if is_finished or now() < upload.expires_at else mark_abandoned(upload)


def _escape_cells(cells: Sequence[str]) -> Sequence[str]:
    return [escape_formula(escape_controls(cell)) for cell in cells]


def _sort_key(upload: Upload) -> str:
    """The upload's sort key among those of its audience."""
    assert upload.published_at  # noqa: S101 - those with unmatched rows are published
    return f"{upload.published_at.isoformat()} {upload.list_version_id}"
