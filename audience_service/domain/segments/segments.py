"""The use cases on segments: create, get, list, update."""

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.caller import Call
from audience_service.domain.clock import now
from audience_service.domain.creation import create_request, new_id
from audience_service.domain.errors import (
    AlreadyExists,
    AudienceError,
    InvalidArgument,
    RequestIdReused,
)
from audience_service.domain.filters import FilterWarning, identity
from audience_service.domain.located import located
from audience_service.domain.ports import ContactList, CreateRequest, ListRepository, SegmentRepository
from audience_service.domain.segments.counts import with_counts
from audience_service.domain.segments.drafts import DraftReader, SegmentPlan
from audience_service.domain.segments.references import References
from audience_service.domain.segments.segment import (
    ID_PREFIX,
    Segment,
    SegmentDraft,
    SegmentQuery,
    SegmentType,
    Source,
)
from audience_service.domain.segments.writes import SegmentWriter
from audience_service.domain.tokens import TokenSealer


@dataclasses.dataclass(frozen=True, slots=True)
class ListedSegments:
    """A page of segments as callers get it; the token is empty on the last page."""

    segments: tuple[Segment, ...]
    next_page_token: str
    total: int


class Segments:
    """What an org does with its segments."""

    def __init__(
        self,
        segments: SegmentRepository,
        lists: ListRepository,
        audiences: Audiences,
        drafts: DraftReader,
        writer: SegmentWriter,
        references: References,
        sealer: TokenSealer,
    ) -> None:
        self._segments = segments
        self._lists = lists
        self._audiences = audiences
        self._drafts = drafts
        self._writer = writer
        self._references = references
        self._sealer = sealer

    def create(
        self, call: Call, draft: SegmentDraft, source: Source | None, request_id: str, *, validate_only: bool
    ) -> Segment:
        """Save a dynamic segment or freeze a static one; CreateSegment in the protos states rules and errors."""
        request = _create_request(call, draft, source, request_id)
        if request and (made := self._made_by(call, request)):
            return made
        plan = self._drafts.plan(call, draft, source)
        try:
            self._writer.check_name_free(call, plan.name, "")
            segment = self._planned(call, plan)
            if validate_only:
                return segment
            segment = dataclasses.replace(segment, id=new_id(ID_PREFIX))
            self._fill(call, segment, plan)
            self._insert(call, segment, request)
            self._references.check_created(call, segment)
        except AlreadyExists:
            if request and (made := self._made_by(call, request)):
                return made  # the same request, sent twice at once: the other one was first
            raise
        return self._counted(call, (segment,))[0]

    def get(self, call: Call, segment_id: str) -> Segment:
        """The living segment. Raises AudienceNotFound."""
        return self._counted(call, (self._audiences.get(call, segment_id),))[0]

    def warnings(self, segment: Segment) -> Sequence[FilterWarning]:
        """What an answer with one segment says besides: what its filter probably does not mean."""
        return self._audiences.warnings(segment)

    def list(self, call: Call, query: SegmentQuery, page_size: int, page_token: str) -> ListedSegments:
        """A page of the org's segments. Raises InvalidPageToken."""
        binding = ("segments", call.org, *dataclasses.astuple(query))
        after = self._sealer.open(page_token, binding, "page_token") if page_token else None
        page = self._segments.page(call.org, query, page_size, (after[0], after[1]) if after else None, call.deadline)
        token = self._sealer.seal(binding, list(page.last)) if page.last else ""
        return ListedSegments(self._counted(call, page.segments), token, page.total)

    def update(
        self,
        call: Call,
        segment_id: str,
        draft: SegmentDraft,
        mask: Iterable[str],
        version: int | None,
        *,
        validate_only: bool,
    ) -> Segment:
        """Change a living segment; UpdateSegment in the protos states rules and errors."""
        if not segment_id:
            raise InvalidArgument.at("segment.id", "is missing; the call has to name one")
        fields = frozenset(mask)
        steps: list[tuple[Segment, Segment]] = []

        def change(current: Segment) -> Segment:
            changed = self._drafts.apply(call, current, draft, fields)
            self._writer.check_name_free(call, changed.name, current.id)
            steps.append((current, changed))
            return changed

        if validate_only:
            return self._counted(call, (change(self._writer.current(call, segment_id, version)),))[0]
        written = self._writer.write(call, segment_id, version, change)
        before, changed = steps[-1]
        self._references.check_written(call, before, dataclasses.replace(written, filter=changed.filter))
        return written

    def _made_by(self, call: Call, request: CreateRequest) -> Segment | None:
        found = self._segments.find_request(call.org, request, call.deadline)
        if found is None:
            return None
        segment, made_from = found
        if made_from != request.digest:
            raise RequestIdReused(
                "this request_id has made a segment from a different request",
                metadata={"request_id": request.request_id},
            )
        return self._counted(call, (segment,))[0]

    def _planned(self, call: Call, plan: SegmentPlan) -> Segment:
        """The segment of a plan, without an id, once all that it rests on has been found."""
        segment_filter = plan.filter
        if plan.freeze and plan.freeze.audience_id:
            source = self._audiences.find(call, plan.freeze.audience_id)
            self._audiences.members_of(call, source)
            segment_filter = source.filter
            if plan.filter.datatype not in ("", segment_filter.datatype):
                raise InvalidArgument.at(
                    "segment.filter.datatype", f"is not the source's, which is {segment_filter.datatype}"
                )
        if plan.contact_ids:
            with located("segment"):
                self._lists.check(call.org, segment_filter.datatype, plan.contact_ids, call.deadline)
        created = now()
        return Segment(
            id="",
            name=plan.name,
            description=plan.description,
            type=plan.type,
            filter=segment_filter,
            create_time=created,
            update_time=created,
            author=call.caller.subject,
            editor=call.caller.subject,
        )

    def _fill(self, call: Call, segment: Segment, plan: SegmentPlan) -> None:
        """Write a static segment's list, before the segment itself: nobody sees a half-made one."""
        contacts = ContactList(segment.id, segment.filter.datatype)
        try:
            if plan.contact_ids:
                self._lists.add(call.org, contacts, plan.contact_ids, call.deadline)
            if plan.freeze:
                population = self._audiences.population(call, plan.freeze)
                self._lists.freeze(call.org, contacts, population, call.deadline)
            call.deadline.check()
        except BaseException:
            self._drop(call, segment)
            raise

    def _insert(self, call: Call, segment: Segment, request: CreateRequest | None) -> None:
        try:
            self._segments.insert(call.org, segment, request, call.deadline)
        except AlreadyExists:
            # Certain not to be stored. After other errors it may be, and then its list must stay.
            self._drop(call, segment)
            raise

    def _drop(self, call: Call, segment: Segment) -> None:
        """Empty the list of a segment that was never stored. What a dead database keeps of it, nothing refers to."""
        if segment.type is SegmentType.STATIC:
            with contextlib.suppress(AudienceError):
                self._lists.drop(call.org, ContactList(segment.id, segment.filter.datatype))

    def _counted(self, call: Call, segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
        return with_counts(self._lists, call, segments)


def _create_request(call: Call, draft: SegmentDraft, source: Source | None, request_id: str) -> CreateRequest | None:
    asked_source = [identity(source.filter), source.audience_id] if source else None
    asked = [draft.name, draft.description, draft.type, identity(draft.filter), draft.contact_ids, asked_source]
    return create_request(call, request_id, asked)
