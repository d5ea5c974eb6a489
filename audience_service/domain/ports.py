"""What the use cases ask of storage. Every method takes the org first and sees nothing of any other org.

All of them raise StoreUnavailable when the database cannot be reached, and OutOfTime when the deadline passes. The
deadline is also the database's: a query that outlives it is stopped there.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from audience_service.domain.audiences.references import AudienceUse, Usage
from audience_service.domain.core.context import Deadline
from audience_service.domain.explain.query_plan import ExistingIndex, QueryPlan
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.filter import Document
from audience_service.domain.filters.member_list import MemberList as MemberList
from audience_service.domain.insights.dimensions import Dimension
from audience_service.domain.insights.model import Breakdown
from audience_service.domain.reach.key_sample import KeySample
from audience_service.domain.schema.sample import Sample
from audience_service.domain.segments.model import Segment, SegmentPage, SegmentQuery
from audience_service.domain.segments.version import VersionPage

Record = Mapping[str, Any]
"""A record in the platform's envelope: pk, sk, state, data and so on. Dates are aware."""


Population = CompiledFilter | MemberList
"""Anything that has members. The members of a list are those on it that still exist and are in use."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """What makes a creation safe to repeat: the subject's own id for it and a digest of what it asks."""

    subject: str
    request_id: str
    digest: str


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


class UseRepository(Protocol):
    """The uses of audiences, each by audience, kind and user id, and what else refers to an audience."""

    def add(self, org: str, use: AudienceUse, deadline: Deadline) -> AudienceUse:
        """Register a use. Answers with the one that stands: the first of its key, whatever later ones say."""

    def withdraw(self, org: str, use: AudienceUse, deadline: Deadline) -> None:
        """Take one `add` of the use back; it stays registered if it had been added before, or has been since."""

    def remove(self, org: str, use: AudienceUse, deadline: Deadline) -> bool:
        """End a use, however often it was added; answers with whether there was one."""

    def usage(self, org: str, audience_id: str, limit: int, deadline: Deadline) -> Usage:
        """The uses of an audience, the living dynamic segments that refer to it, and the lookalikes of it.

        Up to `limit` of each are named. A segment's reference to itself does not count.
        """


class ListRepository(Protocol):
    """The lists of static segments, a document for each contact on one."""

    def add(self, org: str, member_list: MemberList, ids: Sequence[str], deadline: Deadline) -> int:
        """Put living records on the list; answers with how many were new to it.

        Raises ContactNotFound, before anything is written, with a violation `contact_ids[i]` for each of the first 20
        that are not there. Adding is idempotent: after any other error the same call completes it.
        """

    def check(self, org: str, datatype: str, ids: Sequence[str], deadline: Deadline) -> None:
        """Raise as `add` would, writing nothing."""

    def remove(self, org: str, member_list: MemberList, ids: Sequence[str], deadline: Deadline) -> int:
        """Take contacts off the list; answers with how many were on it."""

    def add_members(self, org: str, member_list: MemberList, population: Population, deadline: Deadline) -> None:
        """Put the members of a population on the list, inside the database."""

    def clear(self, org: str, member_list: MemberList) -> None:
        """Empty the list, however little time the call has left."""

    def sizes(self, org: str, audience_ids: Sequence[str], deadline: Deadline) -> Mapping[str, int]:
        """How many contacts stand on each list, 0 for an empty one."""

    def page(
        self, org: str, member_list: MemberList, size: int, after: str, deadline: Deadline
    ) -> Sequence[tuple[str, str]]:
        """Up to `size` (pk, sk) behind the sk `after`, in sk order."""


class MemberRepository(Protocol):
    """The members of populations."""

    def count(self, org: str, population: Population, deadline: Deadline, after: str = "", until: str = "") -> int:
        """How many members there are behind the sk `after` up to `until`: as many as `stream` yields."""

    def reach(self, org: str, population: Population, deadline: Deadline) -> tuple[int, Record | None]:
        """The count, and any one member, or None where there is none."""

    def regions(self, org: str, populations: Sequence[Population], deadline: Deadline) -> Mapping[int, int]:
        """How many records are in exactly which of some populations of one datatype, all counted by one command.

        By a mask whose bit i stands for populations[i]. The regions that a population has a part in add up to its
        count. Memory does not grow with the populations.
        """

    def exclusions(
        self,
        org: str,
        candidates: Population,
        reasons: Sequence[CompiledFilter],
        deadline: Deadline,
        after: str = "",
        until: str = "",
    ) -> Sequence[int]:
        """For how many of the candidates each reason is the first that holds, all counted by one command.

        In the part behind the sk `after` up to and including `until`; "" is no bound.
        """

    def stream(
        self,
        org: str,
        population: Population,
        paths: Sequence[str],
        batch_size: int,
        after: str,
        deadline: Deadline,
        until: str = "",
    ) -> Generator[list[Record], None, None]:
        """The members behind the sk `after`, up to `until`, in sk order, in batches of `batch_size`, none empty.

        Each record has pk, sk and `paths`. Memory holds one batch. Whoever stops early closes the generator, which
        closes the database's cursor.
        """


class PlanRepository(Protocol):
    """How the database answers populations."""

    def plan(self, org: str, population: Population, deadline: Deadline, *, analyze: bool) -> QueryPlan:
        """The plan of the population's count; with its figures where it is run.

        Raises UnsupportedByStore on the embedded store.
        """

    def indexes(self, org: str, datatype: str, deadline: Deadline) -> Sequence[ExistingIndex]:
        """The indexes on the records of a datatype, which all orgs share."""


class SampleRepository(Protocol):
    """A look at an org's records without reading all of them."""

    def sample(self, org: str, datatype: str, deadline: Deadline) -> Sample:
        """Up to SAMPLE_SIZE records in use, from all over the org's; all of them where there are no more."""

    def schema(self, org: str, datatype: str, deadline: Deadline) -> Mapping[str, Any]:
        """The `$jsonSchema` that records of the datatype, of all orgs, are held to; empty where there is none."""

    def count_matching(
        self, org: str, datatype: str, keys: Sequence[str], matches: Sequence[Document], deadline: Deadline
    ) -> Sequence[int]:
        """How many of the records with these sks meet each match."""


class SliceRepository(Protocol):
    """Populations in parts, each by a short query. Lists and joins that a filter holds are read for the part alone.

    A key is an sk. Parts are the keys behind `after` up to and including `until`; "" is no bound.
    """

    def key_sample(self, org: str, population: Population, deadline: Deadline) -> KeySample:
        """Landmarks of the records that the population is drawn from: the datatype's, or those on the list.

        They may be some minutes old: records that have come since are missing from them, those that went stand there.
        Reading them anew goes on after an OutOfTime, so that a later call finds them.
        """

    def with_prefetched_addresses(self, org: str, population: Population, deadline: Deadline) -> Population:
        """The same population, whose suppressed addresses are read now rather than for every part of it.

        It takes no more than some tenths of a second: addresses that take longer are looked up for each part.
        """

    def with_prefetched_joins(self, org: str, population: Population, deadline: Deadline) -> Population:
        """The same population, for many parts of it: what of its joins is better read once has been read.

        It may take as long as it takes to count the population.
        """

    def filter_keys(self, org: str, population: Population, keys: Sequence[str], deadline: Deadline) -> Sequence[str]:
        """Those of the keys that are members'."""

    def count_range(self, org: str, population: Population, after: str, until: str, deadline: Deadline) -> int:
        """How many members there are in the part."""

    def first_in_range(
        self, org: str, population: Population, after: str, until: str, deadline: Deadline
    ) -> Record | None:
        """Any one member in the part, or None where there is none."""


class PartitionRepository(Protocol):
    """Where populations are cut into parts, agreed on by all who read them at about the same time."""

    def find(self, org: str, name: str, deadline: Deadline) -> Sequence[str] | None:
        """The keys that were agreed on under a name and used within the hour; this counts as a use."""

    def get_or_create(self, org: str, name: str, keys: Sequence[str], deadline: Deadline) -> Sequence[str]:
        """The keys that hold: those that somebody else has agreed on meanwhile, else these."""


class InsightRepository(Protocol):
    """Populations broken down by dimensions."""

    def breakdown(
        self,
        org: str,
        population: Population,
        dimensions: Sequence[Dimension],
        as_of: datetime,
        max_values: int,
        deadline: Deadline,
    ) -> Breakdown:
        """The cells of each dimension, all from one pass, dates as seen from `moment`, which is in whole seconds.

        The `most` frequent values of a dimension are told one by one, the rest in one cell. Cells come the most
        frequent first, those of bands in the bands' order, empty ones too.
        """
