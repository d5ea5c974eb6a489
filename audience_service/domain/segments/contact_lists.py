"""The use cases on the list of a static segment: add, remove, page."""

import dataclasses

from audience_service.domain.audiences.audiences import Audiences
from audience_service.domain.caller import Call
from audience_service.domain.errors import InvalidArgument, NotStatic
from audience_service.domain.ports import ContactList, ListRepository
from audience_service.domain.segments.segment import Segment, SegmentType, check_contact_ids
from audience_service.domain.segments.writes import SegmentWriter
from audience_service.domain.tokens import TokenSealer


@dataclasses.dataclass(frozen=True, slots=True)
class ListedContacts:
    """A page of a list; the token is empty on the last page."""

    ids: tuple[str, ...]
    next_page_token: str
    total: int


class ContactLists:
    """What an org does with the lists of its static segments."""

    def __init__(self, lists: ListRepository, audiences: Audiences, writer: SegmentWriter, sealer: TokenSealer) -> None:
        self._lists = lists
        self._audiences = audiences
        self._writer = writer
        self._sealer = sealer

    def add(self, call: Call, segment_id: str, ids: tuple[str, ...]) -> tuple[int, Segment]:
        """Put contacts on the list; answers with how many were new and the segment as it is then.

        Raises InvalidArgument, AudienceNotFound, NotStatic, ContactNotFound.
        """
        ids, contacts = self._checked(ids), self._list_of(call, segment_id)
        added = self._lists.add(call.org, contacts, ids, call.deadline)
        return added, self._edited(call, segment_id, added)

    def remove(self, call: Call, segment_id: str, ids: tuple[str, ...]) -> tuple[int, Segment]:
        """Take contacts off the list; answers with how many were on it and the segment as it is then.

        Raises InvalidArgument, AudienceNotFound, NotStatic.
        """
        ids, contacts = self._checked(ids), self._list_of(call, segment_id)
        removed = self._lists.remove(call.org, contacts, ids, call.deadline)
        return removed, self._edited(call, segment_id, removed)

    def list(self, call: Call, segment_id: str, page_size: int, page_token: str) -> ListedContacts:
        """A page of the list, in sk order. Raises AudienceNotFound, NotStatic, InvalidPageToken."""
        binding = ("contacts", call.org, segment_id)
        after = self._sealer.open(page_token, binding, "page_token")[0] if page_token else ""
        contacts = self._list_of(call, segment_id)
        total = self._lists.sizes(call.org, [segment_id], call.deadline)[segment_id]
        rows = self._lists.page(call.org, contacts, page_size + 1, after, call.deadline)
        page, more = rows[:page_size], len(rows) > page_size
        token = self._sealer.seal(binding, [page[-1][1]]) if more else ""
        return ListedContacts(tuple(pk for pk, _ in page), token, total)

    def _edited(self, call: Call, segment_id: str, count: int) -> Segment:
        """The segment after an edit, which is a write of it only where it changed the list."""
        return self._writer.touch(call, segment_id) if count else self._writer.untouched(call, segment_id)

    def _list_of(self, call: Call, segment_id: str) -> ContactList:
        segment = self._audiences.get(call, segment_id)
        if segment.type is not SegmentType.STATIC:
            raise NotStatic("a dynamic segment has no list; its filter decides", metadata={"id": segment.id})
        return self._audiences.list_of(segment)

    @staticmethod
    def _checked(ids: tuple[str, ...]) -> tuple[str, ...]:
        if not ids:
            raise InvalidArgument.at("contact_ids", "is empty")
        return check_contact_ids(ids, "contact_ids")
