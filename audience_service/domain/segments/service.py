"""The use cases on segments: create, get, list and update."""

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from datetime import datetime

from audience_service.domain.audiences.model import to_response_form
from audience_service.domain.audiences.repository import ListRepository
from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.core.clock import now
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.error_path import prefix_error_path
from audience_service.domain.core.errors import (
    AlreadyExists,
    AudienceError,
    AudienceNotFound,
    InvalidArgument,
)
from audience_service.domain.core.idempotency import IdempotencyKey, find_existing, idempotency_key, new_id
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.pages import ListedPage, PageRequest
from audience_service.domain.core.quotas import UNLIMITED, Quota
from audience_service.domain.filters import FilterWarning, identity
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.schema.filter_linter import FilterLinter
from audience_service.domain.segments.counts import with_counts
from audience_service.domain.segments.loader import get_segment, to_audience
from audience_service.domain.segments.model import (
    ID_PREFIX,
    ListSource,
    Order,
    Segment,
    SegmentDraft,
    SegmentQuery,
    SegmentType,
)
from audience_service.domain.segments.reference_checker import ReferenceChecker
from audience_service.domain.segments.repository import SegmentRepository
from audience_service.domain.segments.validation import SegmentValidator, ValidatedSegment
from audience_service.domain.segments.writer import SegmentWriter


class Segments:
    """Creates, finds and updates the segments of an org."""

    def __init__(
        self,
        segments: SegmentRepository,
        lists: ListRepository,
        audiences: AudienceResolver,
        validator: SegmentValidator,
        writer: SegmentWriter,
        reference_checker: ReferenceChecker,
        linter: FilterLinter,
        tokens: TokenCodec,
        quota: Quota = UNLIMITED,
    ) -> None:
        self._segments = segments
        self._lists = lists
        self._audiences = audiences
        self._validator = validator
        self._writer = writer
        self._reference_checker = reference_checker
        self._linter = linter
        self._tokens = tokens
        self._quota = quota

    def create(
        self,
        ctx: RequestContext,
        draft: SegmentDraft,
        source: ListSource | None,
        request_id: str,
        *,
        validate_only: bool,
    ) -> Segment:
        """Create a dynamic or static segment and return it; CreateSegment in the protos states rules and errors."""
        key = _idempotency_key(ctx, draft, source, request_id)
        if existing := self._find_existing(ctx, key):
            return existing
        self._quota.check_free(ctx)
        self._read_fields(ctx, draft)
        validated = self._validator.validate(ctx, draft, source)
        try:
            self._writer.check_name_free(ctx, validated.name, "")
            segment = self._new_segment(ctx, validated)
            if validate_only:
                return segment
            segment = dataclasses.replace(segment, id=new_id(ID_PREFIX))
            self._fill(ctx, segment, validated)
            self._insert(ctx, segment, key)
            self._quota.confirm(ctx, lambda cleanup_ctx: self._take_back(cleanup_ctx, segment))
            self._reference_checker.check_created(ctx, segment)
        except AlreadyExists:
            if existing := self._find_existing(ctx, key):
                return existing  # the same request, sent concurrently, was first
            raise
        return self._with_counts(ctx, (segment,))[0]

    def get(self, ctx: RequestContext, segment_id: str) -> Segment:
        """The segment. Raises AudienceNotFound if it is deleted or missing."""
        return self._with_counts(ctx, (get_segment(self._segments, ctx, segment_id),))[0]

    def warnings(self, ctx: RequestContext, segment: Segment) -> Sequence[FilterWarning]:
        """Warnings about a dynamic segment's filter, for responses with one segment; none if it cannot be evaluated."""
        pending = self._linter.begin(ctx, to_response_form(to_audience(segment).filter))
        return pending.get(ctx.deadline) if pending else ()

    def list(self, ctx: RequestContext, query: SegmentQuery, request: PageRequest) -> ListedPage[Segment]:
        """A page of the org's segments. Raises InvalidPageToken."""
        binding = ("segments", ctx.org, *dataclasses.astuple(query))
        page = self._tokens.page(
            request,
            binding,
            lambda after: self._segments.page(ctx.org, query, request.size, after, ctx.deadline),
            (str if query.order is Order.NAME else datetime, str),
        )
        return dataclasses.replace(page, items=self._with_counts(ctx, page.items))

    def update(
        self,
        ctx: RequestContext,
        segment_id: str,
        draft: SegmentDraft,
        mask: Iterable[str],
        version: int | None,
        *,
        validate_only: bool,
    ) -> Segment:
        """Update a segment and return it; UpdateSegment in the protos states rules and errors."""
        if not segment_id:
            raise InvalidArgument.at("segment.id", "is missing; set the id of a segment")
        self._read_fields(ctx, draft)
        fields = frozenset(mask)
        changes: list[tuple[Segment, Segment]] = []

        def change(current: Segment) -> Segment:
            changed = self._validator.apply_update(ctx, current, draft, fields)
            self._writer.check_name_free(ctx, changed.name, current.id)
            changes.append((current, changed))
            return changed

        if validate_only:
            return self._with_counts(ctx, (change(self._writer.current(ctx, segment_id, version)),))[0]
        written = self._writer.write(ctx, segment_id, version, change)
        before, changed = changes[-1]
        self._reference_checker.check_written(ctx, before, dataclasses.replace(written, filter=changed.filter))
        return written

    def _read_fields(self, ctx: RequestContext, draft: SegmentDraft) -> None:
        """Begin to read the samples that the warnings need, while the segment is written."""
        if draft.filter:
            self._linter.read_ahead(ctx, draft.filter)

    def _find_existing(self, ctx: RequestContext, key: IdempotencyKey | None) -> Segment | None:
        found = find_existing(ctx, key, self._segments.find_by_key)
        return self._with_counts(ctx, (found,))[0] if found else None

    def _new_segment(self, ctx: RequestContext, validated: ValidatedSegment) -> Segment:
        """The segment without an id, once its source and its contacts have been found."""
        segment_filter = validated.filter
        if validated.list_source and validated.list_source.audience_id:
            source = self._audiences.find(ctx, validated.list_source.audience_id)
            self._audiences.population_of(ctx, source)
            is_segment = source.id.startswith(ID_PREFIX)  # keeps the filter that a static source was filled from
            segment_filter = get_segment(self._segments, ctx, source.id).filter if is_segment else source.filter
            if validated.filter.datatype not in ("", segment_filter.datatype):
                raise InvalidArgument.at(
                    "segment.filter.datatype",
                    f"differs from the source's datatype; set {segment_filter.datatype} or leave it empty",
                )
        if validated.contact_ids:
            with prefix_error_path("segment"):
                self._lists.check(ctx.org, segment_filter.datatype, validated.contact_ids, ctx.deadline)
        created_at = now()
        return Segment(
            id="",
            name=validated.name,
            description=validated.description,
            type=validated.type,
            filter=segment_filter,
            created_at=created_at,
            updated_at=created_at,
            author=ctx.caller.subject,
            editor=ctx.caller.subject,
        )

    def _fill(self, ctx: RequestContext, segment: Segment, validated: ValidatedSegment) -> None:
        """Write a static segment's list before the segment itself, so that no reader sees an incomplete segment."""
        contacts = MemberList(segment.id, segment.filter.datatype)
        try:
            if validated.contact_ids:
                self._lists.add(ctx.org, contacts, validated.contact_ids, ctx.deadline)
            if validated.list_source:
                population = self._audiences.population(ctx, validated.list_source)
                self._lists.add_members(ctx.org, contacts, population, ctx.deadline)
            ctx.deadline.check()
        except BaseException:
            self._drop_list(ctx, segment)
            raise

    def _insert(self, ctx: RequestContext, segment: Segment, key: IdempotencyKey | None) -> None:
        try:
            self._segments.insert(ctx.org, segment, key, ctx.deadline)
        except AlreadyExists:
            # The segment was not stored. After other errors it may be, and then its list must stay.
            self._drop_list(ctx, segment)
            raise

    def _take_back(self, ctx: RequestContext, segment: Segment) -> None:
        """Remove a new segment. It is not marked deleted, so that a retry with the same request_id creates it."""
        with contextlib.suppress(AudienceNotFound):
            self._writer.remove(ctx, segment.id, lambda _: True)
        self._drop_list(ctx, segment)

    def _drop_list(self, ctx: RequestContext, segment: Segment) -> None:
        """Empty the list of a segment that was never stored. If that fails, the rows have no segment and do no harm."""
        if segment.type is SegmentType.STATIC:
            with contextlib.suppress(AudienceError):
                self._lists.clear(ctx.org, MemberList(segment.id, segment.filter.datatype))

    def _with_counts(self, ctx: RequestContext, segments: Sequence[Segment]) -> Sequence[Segment]:
        return with_counts(self._lists, ctx, segments)


def _idempotency_key(
    ctx: RequestContext, draft: SegmentDraft, source: ListSource | None, request_id: str
) -> IdempotencyKey | None:
    source_payload = [identity(source.filter), source.audience_id] if source else None
    payload = [draft.name, draft.description, draft.type, identity(draft.filter), draft.contact_ids, source_payload]
    return idempotency_key(ctx, request_id, payload)
