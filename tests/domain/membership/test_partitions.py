"""Where populations are cut: at quantiles of a sample, or of all members where a sample would have too few."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from audience_service.domain.audiences.selection_resolver import ResolvedSelection
from audience_service.domain.core.context import Caller, Deadline, RequestContext
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.membership.partitions import KeyRange, Partition, Partitioner

CTX = RequestContext(Caller("tester", "org", frozenset()), Deadline(None))
ALL_CONTACTS = CompiledFilter("contact", {})
CHOICE = ResolvedSelection(ALL_CONTACTS, ALL_CONTACTS, ["everyone"])


def key(number: int) -> str:
    return f"org/contact/{number:06}"


def fake(**methods: Any) -> Any:
    """A repository that has these methods alone."""
    return SimpleNamespace(**methods)


def partition_sizes(
    count: int, sampled: Sequence[str], batches: Callable[..., Iterator[list[dict[str, str]]]], **limits: int
) -> list[int]:
    """How many of the numbers below the last key are in each part, by the bounds of all parts."""
    agreed: dict[str, Sequence[str]] = {}
    kept = fake(
        find=lambda _org, name, _deadline: agreed.get(name),
        get_or_create=lambda _org, name, keys, _deadline: agreed.setdefault(name, keys),
    )
    drawn = fake(key_sample=lambda *_: fake(keys=()), filter_keys=lambda *_: list(reversed(sampled)))
    cuts = Partitioner(kept, drawn, fake(stream=batches), **limits)
    bounds = [cuts.key_range(CTX, CHOICE, Partition(index, count)) for index in range(count)]
    assert all(left.until == right.after for left, right in pairwise(bounds))
    assert (bounds[0].after, bounds[-1].until) == ("", "")
    ends = [0, *(int(part.until.rpartition("/")[2] or 0) + 1 for part in bounds[:-1])]
    return [end - start for start, end in pairwise(ends)]


def test_a_sample_of_enough_members_cuts_without_reading_all() -> None:
    def unread(*_: object) -> Iterator[list[dict[str, str]]]:
        raise AssertionError

    assert partition_sizes(4, [key(number) for number in range(40)], unread, sample_per_partition=10) == [10, 10, 10]
    with pytest.raises(AssertionError):
        partition_sizes(4, [key(number) for number in range(39)], unread, sample_per_partition=10)


@pytest.mark.parametrize("members", [1_000, 1_003, 4_096, 5_000])
@pytest.mark.parametrize("batch", [1, 7, 100])
def test_of_many_members_every_so_many_cut_as_all_would(members: int, batch: int) -> None:
    def read(*_: object) -> Iterator[list[dict[str, str]]]:
        for start in range(0, members, batch):
            yield [{"sk": key(number)} for number in range(start, min(start + batch, members))]

    sizes = partition_sizes(4, [], read, min_split_keys=128)
    assert max(abs(size - members / 4) for size in sizes) <= members / 128 + 1


def test_without_a_partition_all_members_are_one_part() -> None:
    assert Partitioner(fake(), fake(), fake()).key_range(CTX, CHOICE, None) == KeyRange()
