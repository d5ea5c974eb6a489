"""What ListFields promises, on every store."""

from collections.abc import Callable
from typing import Any

import pytest

from audience_service.domain.core.context import Deadline
from audience_service.domain.filters.operators import OPERATORS
from audience_service.domain.schema.sample import SAMPLE_SIZE
from audience_service.sample_data import sample_contacts
from tests.conftest import Service
from tests.support.client import Client, Refusal

NEVER = Deadline(None)


def listed(client: Client, **request: Any) -> dict[str, Any]:
    answer = client.call("ListFields", {"datatype": "contact", **request})
    return {field.path: field for field in answer.fields}


@pytest.mark.slow
def test_fields_are_listed_with_types_shares_values_and_operators(client: Client, service: Service, org: str) -> None:
    service.store.insert(list(sample_contacts(org, 200)))
    answer = client.call("ListFields", {"datatype": "contact"})
    fields = {field.path: field for field in answer.fields}
    assert answer.complete
    assert answer.sampled_count == client.count(filter={"datatype": "contact", "where": {}})
    assert answer.omitted_count == 0
    assert list(fields) == sorted(fields)
    assert {"country", "tags", "address.city", "createdate", "state", "pk", "score"} <= set(fields)
    assert [kind.name for kind in fields["tags"].types] == ["array", "string"]
    assert 0 < fields["lastEmailOpenedAt"].fill_rate < 1
    top = fields["country"].top_values[0]
    us = client.count(filter={"datatype": "contact", "where": {"country": "US"}})
    assert (top.value.string_value, top.share) == ("US", us / answer.sampled_count)
    assert not any(fields[name].top_values for name in ("email", "phone", "firstName", "name", "address.street1"))
    assert "$elemMatch" in fields["tags"].operators
    assert "$mod" in fields["score"].operators
    assert set(fields["createdAt"].operators) >= {"$gt", "$lte"}
    assert all(set(field.operators) <= {*OPERATORS, "$elemMatch"} for field in answer.fields)


def test_listed_paths_are_valid_in_filters(client: Client, service: Service, insert: Callable[..., list[str]]) -> None:
    insert([{"name": "Ann", "owner": {"id": "o"}, "data": {"name": "x", "version": 3, "owner": "y", "data": {"z": 1}}}])
    fields = listed(client)
    assert {"data.name", "data.version", "data.owner", "data.data", "data.data.z", "name", "owner.id"} <= set(fields)
    if service.kind == "mongodb":
        for path in fields:
            if fields[path].fill_rate:
                assert client.count(filter={"datatype": "contact", "where": {path: {"$exists": True}}}) == 1, path


def test_a_prefix_narrows(client: Client, insert: Callable[..., list[str]]) -> None:
    insert([{"data": {"address": {"city": "Lyon", "zip": "1"}, "country": "FR"}}])
    assert set(listed(client, prefix="address.")) == {"address.city", "address.zip"}


def test_fields_past_the_limit_are_counted(client: Client, insert: Callable[..., list[str]]) -> None:
    insert([{"data": {f"f{number:04d}": number for number in range(600)}}, {"data": {"f0599": 1}}])
    answer = client.call("ListFields", {"datatype": "contact"})
    assert len(answer.fields) == 500
    assert answer.omitted_count == 600 + 4 - 500
    assert "f0599" in [field.path for field in answer.fields], "the most filled ones are kept"
    assert client.call("ListFields", {"datatype": "contact", "prefix": "f01"}).omitted_count == 0


def test_only_active_records_of_the_org_are_sampled(client: Client, service: Service, org: str) -> None:
    service.insert(org, [{"data": {"mine": 1}}, {"state": "deleted", "data": {"gone": 1}}])
    for other in (f"{org}2", f"{org}-x", org[:-1]):
        service.insert(other, [{"data": {"theirs": 1}}])
    fields = listed(client)
    assert "mine" in fields
    assert "theirs" not in fields
    assert "gone" not in fields
    answer = client.call("ListFields", {"datatype": "lead"})
    assert (list(answer.fields), answer.sampled_count, answer.complete) == ([], 0, True)


@pytest.mark.slow
def test_a_sample_of_many_is_bounded_and_of_the_org_alone(service: Service, org: str) -> None:
    count = SAMPLE_SIZE + 500
    contacts: list[dict[str, Any]] = [{"id": f"{number:06d}", "data": {"n": number}} for number in range(count)]
    for contact in contacts[::10]:
        contact["state"] = "archived"
    service.insert(org, contacts)
    for other in (f"{org}2", f"{org}-x", org[:-1]):
        service.insert(other, [{"id": f"{number:06d}"} for number in range(100)])
    sample = service.store.samples.sample(org, "contact", NEVER)
    keys = [record["sk"] for record in sample.records]
    assert not sample.is_complete
    assert 200 < len(keys) == len(set(keys)) <= SAMPLE_SIZE
    assert all(key.startswith(f"{org}/") for key in keys)
    assert not any(record.get("state") for record in sample.records)
    numbers = [record["data"]["n"] for record in sample.records]
    assert min(numbers) < count / 3
    assert max(numbers) > count * 2 / 3


def test_counts_among_keys_are_of_the_org_alone(service: Service, org: str) -> None:
    service.insert(org, [{"id": "a", "data": {"n": 1}}, {"id": "b", "data": {"n": 2}}])
    service.insert(f"{org}2", [{"id": "a", "data": {"n": 1}}])
    keys = [f"{org}/contact/a", f"{org}/contact/b", f"{org}2/contact/a"]
    matches: list[dict[str, Any]] = [{"data.n": 1}, {"data.n": {"$gte": 1}}, {"data.n": 9}]
    assert list(service.store.samples.count_matching(org, "contact", keys, matches, NEVER)) == [1, 2, 0]
    assert list(service.store.samples.count_matching(org, "contact", [], matches, NEVER)) == [0, 0, 0]


def test_the_schema_adds_fields_missing_from_the_sample(real_service: Service) -> None:
    org = f"schema{next(real_service.names)}"
    stages = {"bsonType": "string", "enum": ["new", "lead", "lost"]}
    schema = {"properties": {"data": {"properties": {"leadStage": stages, "unseen": {"bsonType": "date"}}}}}
    real_service.store.database.command("collMod", "customer", validator={"$jsonSchema": schema})
    real_service.insert(org, [{"data": {"leadStage": "lead"}}] * 3, "customer")
    fields = listed(real_service.client(org), datatype="customer")
    assert [(top.value.string_value, top.share) for top in fields["leadStage"].top_values] == [
        ("lead", 1.0),
        ("new", 0.0),
        ("lost", 0.0),
    ]
    assert fields["unseen"].fill_rate == 0
    assert [kind.name for kind in fields["unseen"].types] == ["date"]
    assert "$gte" in fields["unseen"].operators


@pytest.mark.parametrize(("datatype", "reason"), [("segment", "DATATYPE_NOT_ALLOWED"), ("", "INVALID_FILTER")])
def test_the_datatype_must_be_served(
    client: Client, refused: Callable[..., Refusal], datatype: str, reason: str
) -> None:
    refusal = refused(lambda: client.call("ListFields", {"datatype": datatype}))
    assert (refusal.info.reason, refusal.fields) == (reason, ["datatype"])


def test_fields_of_related_datatypes_are_listed(client: Client, service: Service, org: str) -> None:
    """A filter can read them in $related."""
    service.insert(org, [{"data": {"contactId": "contact-a", "total": 5}}], "order")
    listed = client.call("ListFields", {"datatype": "order"})
    assert {"contactId", "total"} <= {field.path for field in listed.fields}


def test_keys_with_dots_and_dollars_are_listed_and_streamed(client: Client, service: Service, org: str) -> None:
    """Their paths are those that StreamMembers takes in `fields`."""
    service.insert(org, [{"data": {"utm.source": "ads", "$browser": "Firefox", "props": {"a.b": 1}}}])
    paths = ['data["utm.source"]', "data.$browser", 'props["a.b"]']
    listed = {field.path for field in client.call("ListFields", {"datatype": "contact"}).fields}
    assert set(paths) <= listed
    stream = client.call("StreamMembers", {"filter": {"datatype": "contact", "where": {}}, "fields": paths})
    [member] = [member for message in stream for member in message.members]
    assert dict(member.fields) == {paths[0]: "ads", paths[1]: "Firefox", paths[2]: 1}
