"""What StreamMembers promises, on every store."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS
from google.protobuf.json_format import MessageToDict

from tests.conftest import Service
from tests.support.client import Client, Refusal

ALL_CONTACTS: dict[str, Any] = {"datatype": "contact", "where": {}}
Insert = Callable[..., list[str]]


@pytest.mark.parametrize("batch_size", [0, 1, 3, 10, 11])
def test_every_member_comes_once_in_order_and_the_last_message_states_the_total(
    client: Client, insert: Insert, batch_size: int
) -> None:
    ids = insert([{"id": f"{n * 7 % 10}"} for n in range(10)])
    messages = list(client.call("StreamMembers", {"filter": ALL_CONTACTS, "batchSize": batch_size}))
    assert [m.id for message in messages for m in message.members] == sorted(ids)
    assert [message.HasField("totals") for message in messages] == [False] * (len(messages) - 1) + [True]
    assert messages[-1].totals.member_count == 10
    assert len(messages[-1].members) == 0
    assert max(len(message.members) for message in messages) == min(batch_size or 1_000, 10)


def test_a_stream_resumes_after_any_cursor(client: Client, insert: Insert) -> None:
    ids = sorted(insert([{} for _ in range(10)]))
    messages = list(client.call("StreamMembers", {"filter": ALL_CONTACTS, "batchSize": 3}))
    seen = 0
    for message in messages:
        seen += len(message.members)
        rest = list(client.call("StreamMembers", {"filter": ALL_CONTACTS, "batchSize": 4, "cursor": message.cursor}))
        assert [m.id for again in rest for m in again.members] == ids[seen:]
        assert rest[-1].totals.member_count == 10


def test_a_list_streams_and_resumes_like_a_filter(client: Client, insert: Insert) -> None:
    ids = sorted(insert([{"data": {"email": f"{n}@example.com"}} for n in range(5)]))
    made = client.create(name="list", type="static", contactIds=ids)
    request = {"audienceId": made.id, "batchSize": 2, "fields": ["email"]}
    first = next(iter(client.call("StreamMembers", request)))
    rest = list(client.call("StreamMembers", {**request, "cursor": first.cursor}))
    assert [m.id for message in [first, *rest] for m in message.members] == ids
    assert all(m.fields["email"].endswith("@example.com") for m in first.members)


def test_a_cursor_is_bound_to_its_stream(client: Client, insert: Insert, refused: Callable[..., Refusal]) -> None:
    insert([{}, {}])
    cursor = next(iter(client.call("StreamMembers", {"filter": ALL_CONTACTS, "batchSize": 1}))).cursor
    for wrong in (
        {"filter": {"datatype": "contact", "where": {"country": "US"}}, "cursor": cursor},
        {"filter": ALL_CONTACTS, "fields": ["email"], "cursor": cursor},
        {"filter": ALL_CONTACTS, "cursor": cursor + "x"},
    ):
        refusal = refused(lambda wrong=wrong: client.call("StreamMembers", wrong))
        assert (refusal.info.reason, refusal.fields) == ("INVALID_PAGE_TOKEN", ["cursor"])


def test_fields_come_keyed_as_asked_and_missing_ones_are_left_out(client: Client, insert: Insert) -> None:
    insert(
        [
            {
                "id": "a",
                "createdate": datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
                "data": {
                    "email": "a@example.com",
                    "address": [{"city": "Lyon", "zip": 1}, {"city": "Nice"}, "odd"],
                    "company": {"name": "Acme", "size": {"people": 3}},
                    "big": Int64(2**60),
                    "price": Decimal128("1.10"),
                    "ref": ObjectId("0123456789abcdef01234567"),
                    "photo": b"\x01\x02",
                    "none": None,
                    "ratio": float("inf"),
                },
            }
        ]
    )
    fields = [
        "email", "data.email", "address.city", "address", "company.size.people", "createdate", "pk", "big", "price",
        "ref", "photo", "none", "ratio", "nothing", "address.nothing",
    ]  # fmt: skip
    [message, _] = list(client.call("StreamMembers", {"filter": ALL_CONTACTS, "fields": fields}))
    [member] = message.members
    assert member.id == "contact-a"
    assert MessageToDict(member.fields) == {
        "email": "a@example.com",
        "data.email": "a@example.com",
        "address.city": ["Lyon", "Nice"],
        "address": [{"city": "Lyon", "zip": 1}, {"city": "Nice"}, "odd"],
        "company.size.people": 3,
        "createdate": "2026-01-02T03:04:05.678Z",
        "pk": "contact-a",
        "big": "1152921504606846976",
        "price": "1.10",
        "ref": "0123456789abcdef01234567",
        "photo": "AQI=",
        "none": None,
        "ratio": "inf",
        "address.nothing": [],
    }


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"fields": ["$where"]}, "fields[0]"),
        ({"fields": ["email", "a..b"]}, "fields[1]"),
        ({"fields": ["tags.0"]}, "fields[0]"),
        ({"fields": ["data"]}, "fields[0]"),
        ({"fields": ["x"] * 51}, "fields"),
        ({"batchSize": -1}, "batch_size"),
    ],
)
def test_a_bad_request_is_refused_with_its_field_path(
    client: Client, refused: Callable[..., Refusal], request_: dict[str, Any], field: str
) -> None:
    refusal = refused(lambda: client.call("StreamMembers", {"filter": ALL_CONTACTS, **request_}))
    assert (refusal.info.reason, refusal.fields) == ("INVALID_FIELD", [field])


def test_a_foreign_audience_is_not_found(service: Service, client: Client, refused: Callable[..., Refusal]) -> None:
    theirs = service.client("the-owner").create(name=f"theirs {client.metadata[1][1]}", filter=ALL_CONTACTS)
    for rpc in ("StreamMembers", "EstimateReach"):
        refusal = refused(lambda rpc=rpc: client.call(rpc, {"audienceId": theirs.id}))
        assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "AUDIENCE_NOT_FOUND")


def test_unusual_values_do_not_break_a_stream(client: Client, service: Service, org: str) -> None:
    deep: Any = "bottom"
    for _ in range(60):
        deep = {"level": [deep]}
    service.insert(org, [{"id": "deep", "data": {"custom": deep, "title": deep}}])
    [message, _] = list(client.call("StreamMembers", {"filter": ALL_CONTACTS, "fields": ["custom", "title"]}))
    assert "bottom" in str(message.members[0].fields["custom"])
    assert client.call("EstimateReach", {"filter": ALL_CONTACTS}).count == 1


def test_a_date_past_the_year_9999_is_a_value_like_any_other(real_service: Service) -> None:
    ages = DatetimeMS(10**15)
    real_service.insert("ages", [{"id": "old", "data": {"createdAt": ages}, "createdate": ages}])
    client = real_service.client("ages")
    [message, _] = list(client.call("StreamMembers", {"filter": ALL_CONTACTS, "fields": ["createdAt"]}))
    assert message.members[0].fields["createdAt"]
    assert client.call("EstimateReach", {"filter": ALL_CONTACTS}).count == 1


def test_an_oversized_batch_is_split(client: Client, insert: Insert) -> None:
    ids = sorted(insert([{"data": {"text": "x" * 60_000}} for _ in range(100)]))
    messages = list(client.call("StreamMembers", {"filter": ALL_CONTACTS, "fields": ["text"]}))
    assert len(messages) > 2
    assert [member.id for message in messages for member in message.members] == ids
    read = 0
    for message in messages:
        read += len(message.members)
        request = {"filter": ALL_CONTACTS, "fields": ["text"], "cursor": message.cursor}
        rest = list(client.call("StreamMembers", request))
        assert [m.id for message in rest for m in message.members] == ids[read:]
        assert rest[-1].totals.member_count == 100
