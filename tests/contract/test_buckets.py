"""$bucket on the real engine: a stable share, and a warning if the database hashes in another way than MongoDB."""

from typing import Any

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters.buckets import HASH_VECTOR, bucket_of
from tests.conftest import Service
from tests.contract.test_explain_membership import explain
from tests.support.oracles import oracle_size

CONTACTS, _ = oracle_size(400, 0)


def bucket(first: int, below: int, salt: str = "spring-test", by: str = "pk") -> dict[str, Any]:
    return {"$bucket": {"salt": salt, "of": 20, "from": first, "below": below, "by": by}}


def test_buckets_partition_the_contacts_in_every_rpc(real_service: Service) -> None:
    org = f"buckets{next(real_service.names)}"
    client = real_service.client(org)
    ids = real_service.insert(org, [{"data": {"account": number // 2}} for number in range(CONTACTS)])

    def members(where: dict[str, Any]) -> set[str]:
        found = client.members(filter={"datatype": "contact", "where": where})
        assert client.count(filter={"datatype": "contact", "where": where}) == len(found)
        return set(found)

    parts = [members(bucket(first, first + 5)) for first in range(0, 20, 5)]
    assert (sum(map(len, parts)), set().union(*parts)) == (CONTACTS, set(ids))
    assert members({"$nor": [bucket(0, 5)]}) == set(ids) - parts[0]
    assert members(bucket(0, 5, salt="autumn-test")) != parts[0]
    accounts = members(bucket(0, 10, by="account"))
    assert all((ids[number] in accounts) == (ids[number + 1] in accounts) for number in range(0, CONTACTS, 2))
    assert 0 < len(accounts) < CONTACTS
    [member] = sorted(parts[0])[:1]
    answer = explain(client, member, bucket(0, 5))
    [condition, _] = answer.condition.conditions
    assert (answer.member, condition.value.string_value, answer.next_change_unknown) == (True, member, False)

    text, expected = HASH_VECTOR
    is_mongodb = real_service.store.plans.hash_text(text, Deadline.after(5)) == expected
    if is_mongodb:
        assert parts[0] == {found for found in ids if bucket_of(found, "spring-test", 20) < 5}
    written = {"datatype": "contact", "where": {"$nor": [bucket(0, 5)]}}
    warnings = client.call("ExplainFilter", {"filter": written}).warnings
    reported = [(found.reason, found.field_path) for found in warnings]
    assert reported == ([] if is_mongodb else [("BUCKETS_DIFFER", "filter.where.$nor[0].$bucket")])
