"""StreamMembers with MEMBER_ENCODING_BSON: the members of the other encoding, as the database's documents."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Int64, ObjectId

from audience_service.domain.filters import Filter, FilterCompiler
from audience_service.pb.audience.v1.membership_service_pb2_grpc import MembershipServiceStub
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.history import PAID, MakeHarness, to_json_time
from tests.support.watch_harness import NO_DEADLINE, NOON

ALL_CONTACTS: dict[str, Any] = {"datatype": "contact", "where": {}}
BSON = {"encoding": "MEMBER_ENCODING_BSON"}
PAGE = Path(__file__).parents[2] / "docs/how-to/read-many-members.md"
Insert = Callable[..., list[str]]


def stream(client: Client, **request: Any) -> list[Any]:
    return list(client.call("StreamMembers", {**BSON, **request}))


def documents(messages: list[Any]) -> list[dict[str, Any]]:
    for message in messages:
        assert len(bson.decode_all(message.documents)) == message.document_count
        assert not message.members
    return [found for message in messages for found in bson.decode_all(message.documents)]


@pytest.fixture
def selections(client: Client, insert: Insert) -> dict[str, dict[str, Any]]:
    """Requests for each kind of population, of an org with 250 contacts."""
    ids = insert([{"id": f"{n:03d}", "data": {"n": n, "email": f"{n}@example.com"}} for n in range(250)])
    listed = client.create(name="listed", type="static", contactIds=ids[::3]).id
    saved = client.create(name="saved", filter={"datatype": "contact", "where": {"n": {"$gte": 200}}}).id
    return {
        "filter": {"filter": ALL_CONTACTS},
        "list": {"audienceId": listed},
        "snapshot": {"snapshotId": client.snapshot(filter=ALL_CONTACTS).id},
        "union without": {"audienceIds": [listed, saved], "excludeAudienceIds": [saved]},
        "partition": {"filter": ALL_CONTACTS, "partition": {"index": 1, "count": 2}},
    }


@pytest.mark.slow
def test_both_encodings_have_the_same_members_and_totals(client: Client, selections: dict[str, dict[str, Any]]) -> None:
    """For each kind of population, in the same order."""
    for name, request in selections.items():
        *batches, last = stream(client, **request, fields=["email", "n"], batchSize=40)
        *expected, totals = client.call("StreamMembers", {**request, "fields": ["email", "n"]})
        found = documents([*batches, last])
        members = [member for message in expected for member in message.members]
        assert [document["pk"] for document in found] == [member.id for member in members], name
        assert [document["data"] for document in found] == [dict(member.fields) for member in members], name
        assert (last.totals, last.document_count) == (totals.totals, 0), name
        assert max(message.document_count for message in batches) <= 40, name


def test_a_stream_resumes_after_any_cursor_in_either_encoding(client: Client, insert: Insert) -> None:
    """No member is missing and none comes twice."""
    ids = sorted(insert([{} for _ in range(10)]))
    seen = 0
    for message in stream(client, filter=ALL_CONTACTS, batchSize=3):
        seen += message.document_count
        rest = {"filter": ALL_CONTACTS, "cursor": message.cursor}
        assert [document["pk"] for document in documents(stream(client, **rest, batchSize=4))] == ids[seen:]
        *batches, last = client.call("StreamMembers", rest)
        assert [member.id for batch in batches for member in batch.members] == ids[seen:]
        assert last.totals.member_count == 10


def test_values_keep_their_types(client: Client, insert: Insert) -> None:
    """Each requested value is at its place in the record, and no other value is there."""
    created = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    values = {"at": created, "big": Int64(2**60), "ref": ObjectId(), "photo": b"\x01", "none": None, "ratio": 0.5}
    insert([{"id": "a", "createdate": created, "data": {**values, "address": {"city": "Lyon", "zip": 1}, "other": 1}}])
    [document] = documents(stream(client, filter=ALL_CONTACTS, fields=["address.city", "createdate", "pk", *values]))
    assert document.pop("sk").endswith("/contact/a")
    aware = {**values, "at": created.replace(tzinfo=None)}
    expected = {"pk": "contact-a", "createdate": aware["at"], "data": {**aware, "address": {"city": "Lyon"}}}
    assert document == expected
    assert type(document["data"]["big"]) is Int64


@pytest.mark.usefixtures("unwatched")
def test_members_at_a_time_are_documents_too(
    service: Service, org: str, client: Client, track_paid_audience: MakeHarness
) -> None:
    """They have no other values than those of other streams."""
    service.insert(org, [{"id": key, "data": {**PAID, "city": "Oslo"}} for key in "ab"])
    audience = track_paid_audience()
    audience.reconcile()
    found = documents(stream(client, audienceId=audience.audience_id, asOf=to_json_time(NOON), fields=["city"]))
    records = {key: {"pk": f"contact-{key}", "sk": f"{org}/contact/{key}", "data": {"city": "Oslo"}} for key in "ab"}
    assert found == list(records.values())


def test_messages_stay_below_the_limit_of_clients(client: Client, insert: Insert) -> None:
    """Large records make messages of fewer documents."""
    ids = sorted(insert([{"data": {"text": "x" * 60_000}} for _ in range(100)]))
    messages = stream(client, filter=ALL_CONTACTS, fields=["text"])
    assert len(messages) > 2
    assert [document["pk"] for document in documents(messages)] == ids


def test_a_person_erased_during_a_stream_is_left_out(
    service: Service, org: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command of the stream may be older than the tombstone."""
    service.insert(org, [{"id": key} for key in "abcd"])
    everyone = FilterCompiler(["contact"]).compile(Filter("contact", {}))
    batches = service.store.members.stream_documents(org, everyone, (), 1, "", NO_DEADLINE)
    first = next(batches)

    def erased(_: str) -> frozenset[str]:
        return frozenset({f"{org}/contact/b", f"{org}/contact/d"})

    monkeypatch.setattr(service.store.scope, "erased_sks", erased)
    rest = list(batches)
    found = [bson.decode(batch.content)["pk"] for batch in (first, *rest)]
    assert found == ["contact-a", "contact-c"]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({**BSON, "fields": ["email", 'data["utm.source"]']}, "fields[1]"),
        ({**BSON, "fields": ["data.$browser"]}, "fields[0]"),
        ({"encoding": 7}, "encoding"),
    ],
)
def test_what_bson_cannot_select_is_refused(
    client: Client, refused: Callable[..., Refusal], request_: dict[str, Any], field: str
) -> None:
    """A projection of such a key would send more than the requested values."""
    refusal = refused(lambda: client.call("StreamMembers", {"filter": ALL_CONTACTS, **request_}))
    assert (refusal.info.reason, refusal.fields) == ("INVALID_FIELD", [field])


def test_the_documented_client_reads_every_member(client: Client, insert: Insert) -> None:
    """The code of the guide runs unchanged."""
    ids = insert([{"data": {"email": f"{n}@example.com"}} for n in range(3)])
    segment = client.create(name="everyone", filter=ALL_CONTACTS).id
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    module: dict[str, Any] = {}
    exec(code, module)  # noqa: S102 - it is of this repository
    members = module["read"](MembershipServiceStub(client.channel), lambda: client.metadata, segment, ["email"])
    assert {member["pk"]: member["data"]["email"] for member in members} == {
        contact_id: f"{n}@example.com" for n, contact_id in enumerate(ids)
    }
