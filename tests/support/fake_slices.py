"""A KeyRangeRepository over keys in memory, which counts its queries and can be slow."""

import random
from collections.abc import Callable, Sequence

from audience_service.domain.audiences.key_sample import KeySample
from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import OutOfTime
from audience_service.domain.core.record import Record
from audience_service.domain.filters.population import Population


class Clock:
    """Replaces the module `time`: its time advances with the queries."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class FakeKeyRanges:
    """Keys from "000000" on; a record is a member depending on its number.

    With a clock, a query takes `seconds` for each record, or what its deadline leaves it.
    """

    def __init__(
        self, total: int, member: Callable[[int], bool], clock: Clock | None = None, seconds: float = 0.0, run: int = 4
    ) -> None:
        self.clock = clock or Clock()
        self.total = total
        self.member = member
        self.seconds = seconds
        self.queries: list[int] = []
        rng = random.Random(5)
        drawn = [start + rng.randrange(run) for start in range(0, total, run)]
        ranks = [rank for rank in drawn if rank < total]
        self.sample = KeySample([self.key(rank) for rank in ranks], ranks, total)

    @property
    def count(self) -> int:
        """How many members there are."""
        return sum(self.member(number) for number in range(self.total))

    @staticmethod
    def key(number: int) -> str:
        return f"{number:06d}"

    def key_sample(self, org: str, population: Population, deadline: Deadline) -> KeySample:
        return self.sample

    def with_prefetched_addresses(self, org: str, population: Population, deadline: Deadline) -> Population:
        return population

    def with_prefetched_joins(self, org: str, population: Population, deadline: Deadline) -> Population:
        return population

    def filter_keys(self, org: str, population: Population, keys: Sequence[str], deadline: Deadline) -> Sequence[str]:
        self._query(len(keys), deadline)
        return [key for key in keys if self.member(int(key))]

    def count_range(self, org: str, population: Population, after: str, until: str, deadline: Deadline) -> int:
        numbers = self._numbers(after, until)
        self._query(len(numbers), deadline)
        return sum(self.member(number) for number in numbers)

    def first_in_range(
        self, org: str, population: Population, after: str, until: str, deadline: Deadline
    ) -> Record | None:
        found = next((number for number in self._numbers(after, until) if self.member(number)), None)
        return None if found is None else {"sk": self.key(found), "data": {}}

    def _numbers(self, after: str, until: str) -> range:
        return range(int(after) + 1 if after else 0, int(until) + 1 if until else self.total)

    def _query(self, records: int, deadline: Deadline) -> None:
        """As the database would."""
        self.queries.append(records)
        left = deadline.remaining()
        duration = records * self.seconds
        self.clock.now += duration if left is None else min(duration, left)
        if left is not None and duration > left:
            raise OutOfTime("the query was stopped")
