"""What every use case on members asks of storage: members, member lists, slices, and the uses of audiences.

Every method takes the org first and sees nothing of any other org. All raise StoreUnavailable if the database cannot be
reached, and OutOfTime if the deadline passes. The deadline is also the database's: it stops the query there.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Protocol

from audience_service.domain.audiences.key_sample import KeySample
from audience_service.domain.audiences.references import AudienceUse, Usage
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.record import Record
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.population import Population


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
