"""The storage of members: members of populations, member lists, key ranges, and the uses of audiences.

These rules hold for every repository of the domain:

1. A method takes the org first and reads and writes only that org's records.
2. It raises StoreUnavailable if the database cannot be reached, and OutOfTime if the deadline passes.
3. The deadline is also sent to the database, which stops the command then.
4. A key is an sk. A range has the keys after `after`, up to and including `until`; "" is no bound.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Protocol

from audience_service.domain.audiences.key_sample import KeySample
from audience_service.domain.audiences.references import AudienceUse, Usage
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.documents import Documents
from audience_service.domain.core.record import Record
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.filters.member_list import MemberList
from audience_service.domain.filters.population import Population


class UseRepository(Protocol):
    """The uses of audiences, keyed by audience, kind and consumer id, and the other references to an audience."""

    def add(self, org: str, use: AudienceUse, deadline: Deadline) -> AudienceUse:
        """Register a use and return the stored one: the first with its key, even if later ones differ."""

    def undo_add(self, org: str, use: AudienceUse, deadline: Deadline) -> None:
        """Undo one `add` of the use. It stays registered if another `add` came before or after."""

    def remove(self, org: str, use: AudienceUse, deadline: Deadline) -> bool:
        """Remove a use, however often it was added. Returns whether it was registered."""

    def count(self, org: str, limit: int, deadline: Deadline) -> int:
        """The number of registered uses of all audiences, up to `limit`."""

    def usage(self, org: str, audience_id: str, limit: int, deadline: Deadline) -> Usage:
        """The uses of an audience, the dynamic segments and the syncs that refer to it, and the lookalikes of it.

        Up to `limit` of each are listed. Deleted segments do not count, nor does a segment's reference to itself.
        """


class ListRepository(Protocol):
    """The lists of static segments, with one document per contact on a list."""

    def add(self, org: str, member_list: MemberList, ids: Sequence[str], deadline: Deadline) -> int:
        """Add records to the list and return how many were new on it. Archived and deleted records count as missing.

        Raises ContactNotFound before the first write, with a violation `contact_ids[i]` for each of the first 20
        missing records. Adding is idempotent: after any other error the same call completes it.
        """

    def check(self, org: str, datatype: str, ids: Sequence[str], deadline: Deadline) -> None:
        """Raise what `add` would raise, without writing."""

    def remove(self, org: str, member_list: MemberList, ids: Sequence[str], deadline: Deadline) -> int:
        """Remove contacts from the list and return how many were on it."""

    def add_members(self, org: str, member_list: MemberList, population: Population, deadline: Deadline) -> None:
        """Add the members of a population to the list, inside the database."""

    def clear(self, org: str, member_list: MemberList) -> None:
        """Empty the list, with a timeout of its own instead of the caller's deadline."""

    def sizes(self, org: str, audience_ids: Sequence[str], deadline: Deadline) -> Mapping[str, int]:
        """The number of contacts on each list, 0 for an empty one."""

    def page(
        self, org: str, member_list: MemberList, size: int, after: str, deadline: Deadline
    ) -> Sequence[tuple[str, str]]:
        """Up to `size` pairs (pk, sk) after the sk `after`, in sk order."""


class MemberRepository(Protocol):
    """The members of populations."""

    def count(self, org: str, population: Population, deadline: Deadline, after: str = "", until: str = "") -> int:
        """The number of members in the range, which is the number that `stream` yields."""

    def reach(self, org: str, population: Population, deadline: Deadline) -> tuple[int, Record | None]:
        """The number of members and any one of them, or None if there is none."""

    def regions(self, org: str, populations: Sequence[Population], deadline: Deadline) -> Mapping[int, int]:
        """The sizes of the overlap regions of populations of one datatype, all counted in one command.

        The keys are masks: bit i is set if the records of the region are members of populations[i]. The regions within
        a population add up to its count. Memory does not grow with the populations.
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
        """For each reason, the number of candidates in the range that it is the first to exclude.

        One command counts all of them.
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
        """The members in the range, in sk order, in batches of up to `batch_size`; no batch is empty.

        Each record has pk, sk and `paths`. Memory holds one batch. A caller that stops early closes the generator,
        which closes the database's cursor.
        """

    def stream_documents(
        self,
        org: str,
        population: Population,
        paths: Sequence[str],
        batch_size: int,
        after: str,
        deadline: Deadline,
        until: str = "",
    ) -> Generator[Documents, None, None]:
        """As `stream`, but undecoded. A batch takes at most 3 MiB, unless its only record is larger."""


class KeyRangeRepository(Protocol):
    """Reads populations by key range, a short query each. Lists and joins of a filter are read for that range."""

    def key_sample(self, org: str, population: Population, deadline: Deadline) -> KeySample:
        """The key sample of the records that the population selects from: all of its datatype, or those on its list.

        It may be a few minutes old: newer records are missing, and deleted ones are still in it. A new sample is read
        in the background after an OutOfTime, so that a later call finds it.
        """

    def with_prefetched_addresses(self, org: str, population: Population, deadline: Deadline) -> Population:
        """The same population with its suppressed addresses read now, instead of once per range.

        It takes a few tenths of a second at most. Addresses that take longer stay a lookup for each range.
        """

    def with_prefetched_joins(self, org: str, population: Population, deadline: Deadline) -> Population:
        """The same population with its joins read now, if that is faster for many ranges than a lookup for each.

        It may take as long as a count of the population.
        """

    def filter_keys(self, org: str, population: Population, keys: Sequence[str], deadline: Deadline) -> Sequence[str]:
        """The keys that belong to members."""

    def count_range(self, org: str, population: Population, after: str, until: str, deadline: Deadline) -> int:
        """The number of members in the range."""

    def first_in_range(
        self, org: str, population: Population, after: str, until: str, deadline: Deadline
    ) -> Record | None:
        """Any one member in the range, or None if there is none."""
