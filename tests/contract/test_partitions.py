"""Parts of StreamMembers, on every store."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.test_unions import contact_filter
from tests.support.client import Client

Insert = Callable[..., list[str]]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64])
@pytest.mark.slow
def test_parts_are_disjoint_complete_and_in_balance(client: Client, insert: Insert, count: int) -> None:
    insert([{"id": f"{n:04}", "data": {"n": n}} for n in range(300)])
    request: dict[str, Any] = {"filter": contact_filter(n={"$lt": 200})}
    parts = [client.members(**request, partition={"index": index, "count": count}) for index in range(count)]
    assert list(itertools.chain(*parts)) == client.members(**request)
    assert max(map(len, parts)) <= 200 // count + 1


def test_another_partition_count_is_split_again(client: Client, insert: Insert) -> None:
    ids = insert([{"id": f"{n:02}"} for n in range(30)])
    for count in (2, 3, 2):
        partitions = [{"index": index, "count": count} for index in range(count)]
        parts = [client.members(filter=contact_filter(), partition=partition) for partition in partitions]
        assert list(itertools.chain(*parts)) == ids
        assert {len(part) for part in parts} == {30 // count}


def test_partitions_of_few_or_no_members_are_complete(client: Client, insert: Insert) -> None:
    ids = insert([{"id": f"{n}", "data": {"n": n}} for n in range(3, 6)])
    for where, expected in (({}, ids), ({"n": 4}, ids[1:2]), ({"n": 9}, [])):
        request = {"filter": contact_filter(**where)}
        parts = [client.members(**request, partition={"index": index, "count": 5}) for index in range(5)]
        assert list(itertools.chain(*parts)) == expected


def test_parts_read_at_other_times_fit_though_members_came_meanwhile(client: Client, insert: Insert) -> None:
    before = insert([{"id": f"b{n:02}"} for n in range(20)])
    request: dict[str, Any] = {"filter": contact_filter()}
    first = client.members(**request, partition={"index": 0, "count": 2})
    more = insert([{"id": f"{prefix}{n:02}"} for prefix, count in (("a", 20), ("c", 4)) for n in range(count)])
    second = client.members(**request, partition={"index": 1, "count": 2})
    assert not set(first) & set(second)
    assert set(before) <= {*first, *second}
    assert set(second) - set(before) <= set(more)


def test_a_partition_resumes_within_its_range_and_counts_its_exclusions(client: Client, insert: Insert) -> None:
    insert([{"id": f"{n:02}", "data": {"n": n}} for n in range(10, 50)])
    out = client.create(name="out", filter=contact_filter(n={"$in": [10, 11, 49]})).id
    left_out = 0
    for index in range(2):
        request: dict[str, Any] = {"filter": contact_filter(), "excludeAudienceIds": [out], "batchSize": 5}
        request["partition"] = {"index": index, "count": 2}
        first, *others = client.call("StreamMembers", request)
        again = list(client.call("StreamMembers", {**request, "cursor": first.cursor}))
        assert [m.id for message in again for m in message.members] == [m.id for o in others for m in o.members]
        assert again[-1].totals == others[-1].totals
        left_out += again[-1].totals.exclusions[0].count
    assert left_out == 3
