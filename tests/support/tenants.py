"""What two orgs have of the very same ids."""

from datetime import UTC, datetime

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.idempotency import IdempotencyKey
from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.segments.model import Segment, SegmentType

NO_DEADLINE = Deadline(None)
LIST = MemberList("segment-shared", "contact")
ALL_CONTACTS = FilterCompiler(["contact"]).compile(Filter("contact", {}))
REQUEST = IdempotencyKey("ann", "r1", "digest")
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2100, 1, 1, tzinfo=UTC)


def segment(name: str) -> Segment:
    """A static segment with the id that both orgs use."""
    return Segment(LIST.list_id, name, "", SegmentType.STATIC, Filter("contact", None))
