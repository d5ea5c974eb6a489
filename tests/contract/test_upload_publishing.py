"""What an upload publishes if processes crash, streams overlap and audiences are deleted."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from audience_service.domain.core.clock import now
from audience_service.domain.uploads.model import mark_abandoned
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.lists import NO_DEADLINE, rows_of
from tests.support.uploads import FAILED, StepwiseStream, Uploader, chunk, emails, header, messages, trailer, unmatched
from tests.support.waiting import eventually

Insert = Callable[..., list[str]]

LONG = timedelta(days=10)
"""Longer than anything of an upload is kept that is not published."""


@pytest.fixture
def uploader(client: Client) -> Uploader:
    return Uploader(client)


@pytest.fixture
def people(insert: Insert) -> None:
    """Contacts by the letters of their addresses."""
    insert([{"id": name, "data": {"email": f"{name}@example.com"}} for name in "abcz"])


def stored(service: Service, audience_id: str, upload_id: str = "first") -> Any:
    """The record of an upload."""
    found = {"audience": audience_id, "header.upload_id": upload_id}
    return service.store.database["audience_upload"].find_one(found)


def die_before_status_is_stored(service: Service, audience_id: str, upload_id: str = "first") -> None:
    """Leave an upload as a process does that crashes after publishing the list and before storing the status."""
    upload = stored(service, audience_id, upload_id)
    left = {"state": "open", "published_at": None, "list_size": 0}
    left["expires_at"] = upload["createdate"] + timedelta(days=7)
    service.store.database["audience_upload"].update_one({"_id": upload["_id"]}, {"$set": left})


def sweep(service: Service, timestamp: Any) -> None:
    service.store.upload_sweeper.sweep(timestamp)
    service.store.custom_audience_sweeper.sweep(timestamp)
    service.store.custom_audience_sweeper.sweep(timestamp)


def orphaned_lists(service: Service, audience_id: str) -> Any:
    record = service.store.database["custom"].find_one({"pk": audience_id})
    assert record
    return record["orphaned_lists"]


@pytest.mark.usefixtures("people")
def test_an_end_that_was_published_and_not_answered_is_published_once_and_its_list_stays(
    client: Client, uploader: Uploader, service: Service
) -> None:
    made, data = client.custom(name="list"), emails(*"ab")
    first = uploader.upload(made.id, data)
    die_before_status_is_stored(service, made.id)
    assert client.call("GetUpload", {"audienceId": made.id, "uploadId": "first"}) == first
    again = uploader.send(messages(header(made.id), data, len(data)))
    assert again == first
    assert stored(service, made.id)["state"] == "published"
    assert "expires_at" not in stored(service, made.id), "the sweeper skips it"
    assert client.call("GetCustomAudience", {"id": made.id}).version == 1
    sweep(service, now() + LONG)
    assert client.members(audienceId=made.id) == ["contact-a", "contact-b"]


@pytest.mark.usefixtures("people")
def test_a_published_upload_is_never_abandoned(client: Client, uploader: Uploader, service: Service) -> None:
    made = client.custom(name="list")
    first = uploader.upload(made.id, emails(*"ab", "nobody"))
    die_before_status_is_stored(service, made.id)
    sweep(service, now() + LONG)
    assert stored(service, made.id)["state"] == "published"
    assert client.call("GetUpload", {"audienceId": made.id, "uploadId": "first"}) == first
    assert unmatched(client, made.id) == [(4, ["nobody@example.com"])]
    assert client.members(audienceId=made.id) == ["contact-a", "contact-b"]


@pytest.mark.usefixtures("people")
def test_a_replaced_list_stays_readable_for_an_hour(client: Client, uploader: Uploader, service: Service) -> None:
    made, data = client.custom(name="list"), emails(*"ab")
    uploader.upload(made.id, data)
    die_before_status_is_stored(service, made.id)
    uploader.upload(made.id, emails("z"), uploadId="second", mode="replace")
    uploader.send(messages(header(made.id), data, len(data)))
    sweep(service, now())
    assert len(rows_of(service.store, made.id)) == 2
    sweep(service, now() + timedelta(hours=1, seconds=1))
    assert len(rows_of(service.store, made.id)) == 1
    assert client.members(audienceId=made.id) == ["contact-z"]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("died", [False, True])
def test_a_complete_upload_refuses_another_file(
    client: Client, uploader: Uploader, service: Service, refused: Callable[..., Refusal], died: bool
) -> None:
    made, data, other = client.custom(name="list"), emails(*"ab"), emails(*"az")
    first = uploader.upload(made.id, data)
    if died:
        die_before_status_is_stored(service, made.id)
    for sent in (messages(header(made.id), other), iter([header(made.id), trailer(other)])):
        refusal = refused(lambda sent=sent: uploader.send(sent))
        assert (refusal.code.name, refusal.info.reason) == ("ALREADY_EXISTS", "UPLOAD_REUSED")
    assert uploader.send(messages(header(made.id), data)) == first
    assert client.members(audienceId=made.id) == ["contact-a", "contact-b"]


@pytest.mark.usefixtures("people")
def test_a_superseded_stream_cannot_write_into_the_published_list(
    client: Client, uploader: Uploader, service: Service
) -> None:
    made, data, slow = client.custom(name="list"), emails(*"ab"), StepwiseStream()
    slow.put(header(made.id), chunk(0, data))
    first = uploader.start(iter(slow))
    eventually(lambda: bool(stored(service, made.id) and stored(service, made.id)["epoch"] == 1))
    assert uploader.upload(made.id, data).list_size == 2
    more = emails("z")[len("email\n") :]
    slow.put(chunk(len(data), more), trailer(data + more), None)
    assert Refusal(first.exception(timeout=40)).info.reason == "UPLOAD_TAKEN_OVER"
    assert client.members(audienceId=made.id) == ["contact-a", "contact-b"]
    assert client.call("GetCustomAudience", {"id": made.id}).contact_count == 2


@pytest.mark.usefixtures("people")
def test_a_superseded_stream_cannot_write(
    client: Client, uploader: Uploader, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audience_service.domain.uploads.processor.BATCH_ROWS", 1)
    made, data, streams = client.custom(name="list"), emails(*"abz"), (StepwiseStream(), StepwiseStream())
    row = len(emails("a"))
    streams[0].put(header(made.id), chunk(0, data[:row]))
    first = uploader.start(iter(streams[0]))
    eventually(lambda: bool(stored(service, made.id) and stored(service, made.id)["position"]["offset"] == row))
    streams[1].put(header(made.id), chunk(row, data[row:]))
    second = uploader.start(iter(streams[1]))
    eventually(lambda: bool(stored(service, made.id)["position"]["offset"] == len(data)))
    streams[0].put(chunk(row, data[row:]), trailer(data), None)
    assert Refusal(first.exception(timeout=40)).info.reason == "UPLOAD_TAKEN_OVER"
    streams[1].put(trailer(data), None)
    upload = second.result(timeout=40)
    assert (upload.row_count, upload.matched_row_count, upload.duplicate_row_count, upload.list_size) == (3, 3, 0, 3)


@pytest.mark.usefixtures("people")
def test_an_upload_that_has_ended_stays_as_it_ended(
    client: Client, uploader: Uploader, service: Service, org: str
) -> None:
    made = client.custom(name="list")
    upload = uploader.upload(made.id, emails(*"ab"))
    uploads = service.store.upload_storage.uploads
    # As a sweep finds it that began before it was published.
    uploads.finish(org, mark_abandoned(uploads.get(org, made.id, "first", NO_DEADLINE)), NO_DEADLINE)
    assert client.call("GetUpload", {"audienceId": made.id, "uploadId": "first"}) == upload


def test_unmatched_rows_from_before_a_replacement_are_dropped_despite_crashes(
    client: Client, insert: Insert, uploader: Uploader, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = client.custom(name="list")
    uploader.upload(made.id, emails("old"), uploadId="0")
    with monkeypatch.context() as crash:
        crash.setattr(type(service.store.upload_storage.uploads), "list_with_unmatched_rows", lambda *_: [])
        uploader.upload(made.id, emails("new"), uploadId="1", mode="replace")
    insert([{"id": name, "data": {"email": f"{name}@example.com"}} for name in ("old", "new")])
    assert [row for _, row in unmatched(client, made.id)] == [["new@example.com"]]
    assert client.refresh(made.id).contact_count == 1
    assert client.members(audienceId=made.id) == ["contact-new"]
    rows = service.store.database["audience_upload_row"]
    assert rows.count_documents({"_id": {"$regex": made.id}}) == 1
    uploader.upload(made.id, emails("new"), uploadId="2")
    assert rows.count_documents({"_id": {"$regex": made.id}}) == 0


def test_uploads_are_in_the_order_of_publishing_whatever_the_clocks_say(
    client: Client, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = client.custom(name="list")
    uploader.upload(made.id, emails("one"), uploadId="9", mode="replace")
    monkeypatch.setattr("audience_service.domain.uploads.publish_markers.now", lambda: now() - timedelta(hours=1))
    uploader.upload(made.id, emails("two"), uploadId="2")
    assert [row for _, row in unmatched(client, made.id)] == [["one@example.com"], ["two@example.com"]]


def test_an_upload_that_has_been_open_for_a_week_has_failed_before_any_sweep(
    client: Client, uploader: Uploader, service: Service, refused: Callable[..., Refusal]
) -> None:
    made, data = client.custom(name="list"), emails("nobody")
    refused(lambda: uploader.send(iter([header(made.id), chunk(0, data)])))
    begun = {"$set": {"createdate": now() - timedelta(days=7, seconds=1)}}
    service.store.database["audience_upload"].update_one({"audience": made.id}, begun)
    assert client.call("GetUpload", {"audienceId": made.id, "uploadId": "first"}).state == FAILED
    assert refused(lambda: uploader.upload(made.id, data)).info.metadata["problem"] == "abandoned"


def test_unused_rows_are_released_soon(
    client: Client, insert: Insert, uploader: Uploader, service: Service, refused: Callable[..., Refusal]
) -> None:
    made = client.custom(name="list")
    uploader.upload(made.id, emails("nobody"))
    refused(lambda: uploader.upload(made.id, b'email\n"x\n', uploadId="bad"))
    assert client.refresh(made.id).version == 1
    insert([{"id": "a", "data": {"email": "a@example.com"}}])
    for mode in ("append", "remove", "append"):
        uploader.upload(made.id, emails("a"), uploadId=uuid.uuid4().hex, mode=mode)
    latest = now() + timedelta(hours=1)
    assert {each["delete_after"] <= latest for each in orphaned_lists(service, made.id)} == {True}
    sweep(service, latest)
    assert orphaned_lists(service, made.id) == []
    assert len(rows_of(service.store, made.id)) == 1
    assert client.members(audienceId=made.id) == ["contact-a"]


def test_uploaded_rows_are_deleted_within_an_hour_of_their_audience(
    client: Client, uploader: Uploader, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audience_service.domain.uploads.processor.BATCH_ROWS", 1)
    made, data, slow = client.custom(name="list"), emails("nobody", "noone"), StepwiseStream()
    slow.put(header(made.id), chunk(0, data))
    call = uploader.start(iter(slow))
    rows = service.store.database["audience_upload_row"]
    mine = {"_id": {"$regex": made.id}}
    eventually(lambda: bool(stored(service, made.id) and stored(service, made.id)["position"]["offset"] == len(data)))
    client.call("DeleteCustomAudience", {"id": made.id})
    sweep(service, now())
    assert rows.count_documents(mine) == 2
    sweep(service, now() + timedelta(hours=1, seconds=1))
    assert (rows.count_documents(mine), stored(service, made.id)) == (0, None)
    slow.put(trailer(data), None)
    refusal = Refusal(call.exception(timeout=40))
    assert (refusal.code.name, refusal.info.reason) == ("NOT_FOUND", "UPLOAD_NOT_FOUND")
    sweep(service, now() + LONG)
    assert service.store.database["custom"].find_one({"pk": made.id}) is None
    assert rows_of(service.store, made.id) == set()
