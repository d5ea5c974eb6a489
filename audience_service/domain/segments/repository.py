"""The storage of segments and their versions. domain/audiences/repository.py has the rules for every method."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.idempotency import IdempotencyKey
from audience_service.domain.core.pages import Page, PageKey
from audience_service.domain.segments.model import Segment, SegmentQuery
from audience_service.domain.segments.version import VersionPage


class SegmentRepository(Protocol):
    """The org's segments."""

    def insert(self, org: str, segment: Segment, key: IdempotencyKey | None, deadline: Deadline) -> None:
        """Store a new segment. Raises NameTaken, or RequestIdReused if a segment has this key already."""

    def find_by_key(self, org: str, key: IdempotencyKey, deadline: Deadline) -> tuple[Segment, str] | None:
        """The segment that a request created, deleted or not, and the digest of that request."""

    def get(self, org: str, segment_id: str, deadline: Deadline) -> Segment:
        """The segment without `contact_count`. Raises AudienceNotFound if it is deleted or missing."""

    def get_many(self, org: str, ids: Sequence[str], deadline: Deadline) -> Mapping[str, Segment]:
        """The segments by id, without `contact_count`, all in one query. Deleted ones are left out."""

    def find(self, org: str, segment_id: str, deadline: Deadline) -> Segment:
        """The segment, deleted or not, without `contact_count`. Raises AudienceNotFound if it never existed."""

    def is_name_taken(self, org: str, name: str, except_id: str, deadline: Deadline) -> bool:
        """Whether a segment other than `except_id` has the name. Deleted segments do not count."""

    def count(self, org: str, limit: int, deadline: Deadline) -> int:
        """The number of segments that are not deleted, up to `limit`."""

    def page(
        self, org: str, query: SegmentQuery, size: int, after: PageKey | None, deadline: Deadline
    ) -> Page[Segment]:
        """Up to `size` segments after the key `after`, in the query's order and then by sk, without `contact_count`."""

    def save(self, org: str, segment: Segment, deadline: Deadline, *, deleted: bool = False) -> Segment:
        """Write name, description, filter, state and editor if the stored version is still `segment.version`.

        The previous record is stored as a version first; the 1,000 newest versions are kept. Returns the segment as
        written, with the version one higher. With `deleted`, a deleted segment can be written too. Raises StaleVersion,
        AudienceNotFound, NameTaken, and InvalidArgument if the version number cannot rise further.
        """

    def touch(self, org: str, segment: Segment, deadline: Deadline) -> Segment:
        """Raise the version after an edit of the list, if the stored version is still `segment.version`.

        As `save`, but it writes only version, time and editor. Raises StaleVersion, AudienceNotFound.
        """

    def remove(self, org: str, segment: Segment, deadline: Deadline) -> None:
        """Remove the record and its versions without a trace, if the stored version is still `segment.version`.

        It undoes a creation; a deletion only marks the record. Raises StaleVersion, AudienceNotFound.
        """


class VersionRepository(Protocol):
    """The versions of segments: the current record, and the previous record that each write stored."""

    def page(self, org: str, segment_id: str, below: int | None, size: int, deadline: Deadline) -> VersionPage:
        """Up to `size` versions below the version `below`, newest first; from the current one on if it is None.

        A page has fewer if more would not fit a response. The segment may be deleted. Raises AudienceNotFound.
        """

    def get(self, org: str, segment_id: str, version: int, deadline: Deadline) -> Segment:
        """The segment as it was at a version. Raises AudienceNotFound, VersionNotFound."""
