"""What the use cases on segments ask of storage."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.idempotency import IdempotencyKey
from audience_service.domain.segments.model import Segment, SegmentPage, SegmentQuery
from audience_service.domain.segments.version import VersionPage


class SegmentRepository(Protocol):
    """The org's segments."""

    def insert(self, org: str, segment: Segment, key: IdempotencyKey | None, deadline: Deadline) -> None:
        """Store a new segment. Raises NameTaken, or RequestIdReused where the request has made one already."""

    def find_by_key(self, org: str, key: IdempotencyKey, deadline: Deadline) -> tuple[Segment, str] | None:
        """The segment that a request has made, deleted or not, and the digest of that request."""

    def get(self, org: str, segment_id: str, deadline: Deadline) -> Segment:
        """The living segment, its list not counted. Raises AudienceNotFound."""

    def get_many(self, org: str, ids: Sequence[str], deadline: Deadline) -> Mapping[str, Segment]:
        """Those of the segments that are living, by id, all by one query; lists not counted."""

    def find(self, org: str, segment_id: str, deadline: Deadline) -> Segment:
        """The segment, deleted or not, its list not counted. Raises AudienceNotFound where there never was one."""

    def is_name_taken(self, org: str, name: str, except_id: str, deadline: Deadline) -> bool:
        """Whether a living segment other than `except_id` has the name."""

    def page(
        self, org: str, query: SegmentQuery, size: int, after: tuple[str, str] | None, deadline: Deadline
    ) -> SegmentPage:
        """Up to `size` segments behind the key `after`, in the query's order and then by sk; lists not counted."""

    def save(self, org: str, segment: Segment, deadline: Deadline, *, deleted: bool = False) -> Segment:
        """Write name, description, filter, state and editor over the living record that still has `segment.version`.

        The record as it was is kept as a version first; of those the 1,000 newest stay. Answers with the record as
        written: version one up. With `deleted`, a deleted record is written over as well. Raises StaleVersion,
        AudienceNotFound, NameTaken, and InvalidArgument at the last version there is.
        """

    def touch(self, org: str, segment: Segment, deadline: Deadline) -> Segment:
        """Mark the living record that still has `segment.version` as written, after an edit of its list.

        Otherwise as `save`, nothing but version, time and editor being written. Raises StaleVersion, AudienceNotFound.
        """

    def remove(self, org: str, segment: Segment, deadline: Deadline) -> None:
        """Remove the record that still has `segment.version`, and its versions, as if it had never been made.

        For one that should not have been: others are marked deleted. Raises StaleVersion, AudienceNotFound.
        """


class VersionRepository(Protocol):
    """The versions of segments: the record that is there and, below it, those that were kept before each write."""

    def page(self, org: str, segment_id: str, below: int | None, size: int, deadline: Deadline) -> VersionPage:
        """Up to `size` versions below the version `below`, newest first; without it from the current one on.

        Fewer where they would not fit an answer. The segment may be deleted. Raises AudienceNotFound.
        """

    def get(self, org: str, segment_id: str, version: int, deadline: Deadline) -> Segment:
        """The segment as it was at a version. Raises AudienceNotFound, VersionNotFound."""
