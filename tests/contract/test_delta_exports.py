"""What ExportIdentifiers promises of differences since a snapshot, on every store."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audience_service.pb.audience.v1.membership_service_pb2 import ExportOperation
from tests.conftest import Service
from tests.support.client import Client, Refusal

Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


def contact_filter(**where: Any) -> dict[str, Any]:
    return {"datatype": "contact", "where": where}


IN: dict[str, Any] = contact_filter(source="in")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def people(service: Service, org: str, client: Client) -> str:
    """Four people of whom 0 to 2 were in, and then 3 came, 1 left and 2 was deleted; answers with the snapshot's id."""
    emails = ["stays", "leaves", "deleted", "comes"]
    service.insert(
        org,
        [
            {"id": f"{n}", "data": {"email": f"{name}@example.com", "source": "in" if n < 3 else "out"}}
            for n, name in enumerate(emails)
        ],
    )
    snapshot = client.snapshot(filter=IN)
    assert snapshot.count == 3
    contacts = service.store.database["contact"]
    contacts.update_one({"sk": f"{org}/contact/1"}, {"$set": {"data.source": "out"}})
    contacts.update_one({"sk": f"{org}/contact/2"}, {"$set": {"state": "deleted"}})
    contacts.update_one({"sk": f"{org}/contact/3"}, {"$set": {"data.source": "in"}})
    return str(snapshot.id)


def export(client: Client, snapshot_id: str, **request: Any) -> list[Any]:
    export_request = {
        "filter": IN,
        "platform": "meta",
        "fields": ["email"],
        "sinceSnapshotId": snapshot_id,
    }
    return list(client.call("ExportIdentifiers", {**export_request, **request}))


def operation_of(message: Any) -> str:
    """`add` or `remove`."""
    return ExportOperation.Name(message.operation).removeprefix("EXPORT_OPERATION_").lower()


def read_messages(messages: list[Any]) -> list[tuple[str, int, list[str]]]:
    """Operation, batch and emails of each message with rows."""
    known = {sha256(f"{name}@example.com"): name for name in ("stays", "leaves", "deleted", "comes", "late")}
    return [
        (operation_of(message), message.batch_index, [known[row.values[0]] for row in message.rows])
        for message in messages[:-1]
    ]


def test_entered_members_are_added_and_exited_ones_removed(client: Client, people: str) -> None:
    messages = export(client, people)
    assert read_messages(messages) == [("add", 0, ["comes"]), ("remove", 1, ["leaves", "deleted"])]
    assert all(message.last_in_batch for message in messages[:-1])
    ready = messages[-1].readiness
    assert (ready.member_count, ready.valid_count, ready.distinct_count) == (2, 2, 2)
    assert (ready.removed_count, ready.retained_count, ready.unremovable_count) == (2, 0, 0)


def test_deleted_records_are_counted_as_unremovable(service: Service, org: str, client: Client, people: str) -> None:
    contacts = service.store.database["contact"]
    contacts.delete_one({"sk": f"{org}/contact/1"})
    contacts.update_one({"sk": f"{org}/contact/2"}, {"$set": {"data.email": ""}})
    messages = export(client, people)
    assert read_messages(messages) == [("add", 0, ["comes"])]
    assert (messages[-1].readiness.removed_count, messages[-1].readiness.unremovable_count) == (0, 2)


def test_identifiers_of_a_current_member_are_retained(service: Service, org: str, client: Client, people: str) -> None:
    contacts = service.store.database["contact"]
    contacts.update_one({"sk": f"{org}/contact/1"}, {"$set": {"data.email": " STAYS@example.com"}})
    contacts.update_one({"sk": f"{org}/contact/2"}, {"$set": {"data.phone": "+18005550100"}})
    contacts.update_one({"sk": f"{org}/contact/3"}, {"$set": {"data.email": "deleted@example.com"}})
    messages = export(client, people, fields=["email", "phone"])
    removed = [
        list(row.values[:2]) for message in messages if operation_of(message) == "remove" for row in message.rows
    ]
    assert removed == [["", "92cfdc5fbcd4a20fbe5d3857af6c1aba31762105bba7f21a17155e920653046c"]]
    ready = messages[-1].readiness
    assert (ready.removed_count, ready.retained_count, ready.unremovable_count) == (1, 1, 0)


def test_a_newly_excluded_member_is_removed(service: Service, org: str, client: Client, people: str) -> None:
    contacts = service.store.database["contact"]
    contacts.update_one({"sk": f"{org}/contact/0"}, {"$set": {"data.status": "unsubscribed"}})
    assert read_messages(export(client, people))[1] == ("remove", 1, ["stays", "leaves", "deleted"])


def test_a_member_without_consent_is_removed(real_service: Service) -> None:
    client = real_service.client("withdrawn")
    real_service.insert("withdrawn", [{"id": "0", "data": {"email": "stays@example.com", "ads": "no"}}])
    snapshot = client.snapshot(filter=contact_filter())
    messages = export(client, snapshot.id, filter=contact_filter(), consentFields=["ads"])
    assert read_messages(messages) == [("remove", 0, ["stays"])]


def test_a_delta_export_resumes_after_any_cursor(client: Client, people: str) -> None:
    messages = export(client, people)
    for number, message in enumerate(messages, 1):
        again = export(client, people, cursor=message.cursor)
        assert read_messages(again) == read_messages(messages)[number:]
        assert again[-1].readiness == messages[-1].readiness


def test_a_delta_export_from_the_current_snapshot_is_empty(client: Client, people: str) -> None:
    now = client.snapshot(filter=IN)
    [last] = export(client, now.id)
    assert (last.readiness.valid_count, last.readiness.removed_count, last.readiness.unremovable_count) == (2, 0, 0)


def test_a_snapshot_export_counts_inactive_members(client: Client, people: str) -> None:
    request = {"snapshotId": people, "platform": "meta", "fields": ["email"]}
    messages = list(client.call("ExportIdentifiers", request))
    assert read_messages(messages) == [("add", 0, ["stays", "leaves"])]
    assert {found.reason: found.count for found in messages[-1].readiness.exclusions}["inactive"] == 1
    assert messages[-1].readiness.member_count == 3


@pytest.mark.parametrize("selector", ["sinceSnapshotId", "snapshotId"])
def test_a_snapshot_whose_rows_go_midway_ends_it_without_readiness(
    service: Service, client: Client, people: str, refused: Refused, monkeypatch: pytest.MonkeyPatch, selector: str
) -> None:
    members = type(service.store.members)
    original = members.stream

    def stream(*arguments: Any) -> Any:
        monkeypatch.undo()
        client.call("DeleteSnapshot", {"id": people})
        later = datetime.now(UTC) + timedelta(hours=2)
        service.store.snapshot_sweeper.sweep(later, later)
        return original(*arguments)

    monkeypatch.setattr(members, "stream", stream)
    request: dict[str, Any] = {"platform": "meta", "fields": ["email"], selector: people}
    request |= {} if selector == "snapshotId" else {"filter": IN}
    refusal = refused(lambda: client.call("ExportIdentifiers", request))
    assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "SNAPSHOT_NOT_FOUND")


def test_a_snapshot_that_is_not_the_orgs_or_of_another_datatype_is_refused(
    service: Service, client: Client, people: str, refused: Refused
) -> None:
    theirs = service.client("snapshooters").snapshot(filter=contact_filter())
    for snapshot_id in (theirs.id, "snapshot-none", "segment-none"):
        refusal = refused(lambda snapshot_id=snapshot_id: export(client, snapshot_id))
        assert refusal.info.reason == "SNAPSHOT_NOT_FOUND"
    leads = client.snapshot(filter={"datatype": "lead", "where": {}})
    refusal = refused(lambda: export(client, leads.id))
    assert (refusal.info.reason, refusal.fields) == ("INVALID_FIELD", ["since_snapshot_id"])
