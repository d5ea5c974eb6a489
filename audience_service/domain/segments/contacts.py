"""The use cases on the list of a static segment: add, remove and list contacts."""

from audience_service.domain.audiences.repository import ListRepository
from audience_service.domain.audiences.resolver import AudienceResolver
from audience_service.domain.core.context import RequestContext
from audience_service.domain.core.errors import InvalidArgument, NotStatic
from audience_service.domain.core.page_tokens import TokenCodec
from audience_service.domain.core.pages import ListedPage, Page, PageKey, PageRequest
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.segments.loader import to_list_audience
from audience_service.domain.segments.model import Segment, SegmentType, check_contact_ids
from audience_service.domain.segments.writer import SegmentWriter


class SegmentContacts:
    """Edits and lists the contacts of an org's static segments."""

    def __init__(
        self, lists: ListRepository, audiences: AudienceResolver, writer: SegmentWriter, tokens: TokenCodec
    ) -> None:
        self._lists = lists
        self._audiences = audiences
        self._writer = writer
        self._tokens = tokens

    def add(self, ctx: RequestContext, segment_id: str, ids: tuple[str, ...]) -> tuple[int, Segment]:
        """Add contacts to the list. Returns how many were new on it, and the segment afterwards.

        Raises InvalidArgument, AudienceNotFound, NotStatic, ContactNotFound.
        """
        ids, contacts = self._check_ids(ids), self._member_list(ctx, segment_id)
        added = self._lists.add(ctx.org, contacts, ids, ctx.deadline)
        return added, self._after_edit(ctx, segment_id, added)

    def remove(self, ctx: RequestContext, segment_id: str, ids: tuple[str, ...]) -> tuple[int, Segment]:
        """Remove contacts from the list. Returns how many were on it, and the segment afterwards.

        Raises InvalidArgument, AudienceNotFound, NotStatic.
        """
        ids, contacts = self._check_ids(ids), self._member_list(ctx, segment_id)
        removed = self._lists.remove(ctx.org, contacts, ids, ctx.deadline)
        return removed, self._after_edit(ctx, segment_id, removed)

    def list(self, ctx: RequestContext, segment_id: str, request: PageRequest) -> ListedPage[str]:
        """A page of the list: ids in sk order. Raises AudienceNotFound, NotStatic, InvalidPageToken."""

        def read(after: PageKey | None) -> Page[str]:
            contacts = self._member_list(ctx, segment_id)
            total = self._lists.sizes(ctx.org, [segment_id], ctx.deadline)[segment_id]
            rows = self._lists.page(ctx.org, contacts, request.size + 1, after[0] if after else "", ctx.deadline)
            return Page.cut(rows, request.size, lambda row: row[1], total).map(lambda row: row[0])

        return self._tokens.page(request, ("contacts", ctx.org, segment_id), read, (str,))

    def _after_edit(self, ctx: RequestContext, segment_id: str, count: int) -> Segment:
        """The segment after an edit. Its version rises only if the edit changed the list."""
        return self._writer.touch(ctx, segment_id) if count else self._writer.reload(ctx, segment_id)

    def _member_list(self, ctx: RequestContext, segment_id: str) -> MemberList:
        segment = self._writer.current(ctx, segment_id, None)
        if segment.type is not SegmentType.STATIC:
            raise NotStatic(
                "the segment is dynamic and has no list; change its filter instead", metadata={"id": segment.id}
            )
        return self._audiences.member_list(to_list_audience(segment))

    @staticmethod
    def _check_ids(ids: tuple[str, ...]) -> tuple[str, ...]:
        if not ids:
            raise InvalidArgument.at("contact_ids", "is empty; give the ids of contacts")
        return check_contact_ids(ids, "contact_ids")
