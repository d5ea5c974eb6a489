"""When an upload reads the identifier index, and which line adds a contact to the list."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from audience_service.domain.core.clock import now
from audience_service.domain.uploads.repository import Contact, ListedRow
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.lists import NO_DEADLINE
from tests.support.uploads import Uploader, chunk, emails, header, messages


@pytest.mark.parametrize(("later", "found"), [(timedelta(minutes=59), 0), (timedelta(minutes=61), 1)])
def test_an_upload_resumed_after_an_hour_updates_the_identifier_index(
    client: Client,
    insert: Callable[..., list[str]],
    refused: Callable[..., Refusal],
    monkeypatch: pytest.MonkeyPatch,
    later: timedelta,
    found: int,
) -> None:
    monkeypatch.setattr("audience_service.domain.uploads.processor.BATCH_ROWS", 1)
    made, data = client.custom(name="list"), emails("nobody", "new")
    first = data[: len(emails("nobody"))]
    refused(lambda: Uploader(client).send(iter([header(made.id), chunk(0, first)])))
    insert([{"data": {"email": "new@example.com"}}])
    monkeypatch.setattr("audience_service.domain.uploads.matching.now", lambda: now() + later)
    upload = Uploader(client).send(messages(header(made.id), data, len(first)))
    assert (upload.matched_row_count, upload.unmatched_row_count) == (found, 2 - found)


def test_a_contact_is_on_a_list_by_one_line_however_often_that_line_is_written(service: Service, org: str) -> None:
    lists = service.store.upload_storage.lists
    ann, bob = (Contact(f"contact-{name}", f"{org}/contact/{name}") for name in ("ann", "bob"))
    rows: Any = [ListedRow(ann, 2), ListedRow(bob, 3)]
    assert list(lists.add(org, "custom-x.1", rows, NO_DEADLINE)) == []
    assert list(lists.add(org, "custom-x.1", rows, NO_DEADLINE)) == []
    assert list(lists.add(org, "custom-x.1", [ListedRow(ann, 4)], NO_DEADLINE)) == [ann.sk]
    assert lists.count(org, "custom-x.1", NO_DEADLINE) == 2


def test_the_first_hundred_rejections_are_returned_and_all_are_counted(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audience_service.domain.uploads.processor.BATCH_ROWS", 60)
    made = client.custom(name="list")
    upload = Uploader(client).upload(made.id, "email\n" + "none\n" * 150)
    assert (upload.row_count, dict(upload.rejected_row_counts)) == (150, {"invalid_email": 150})
    assert [each.line for each in upload.rejections] == list(range(2, 102))


def test_records_of_the_audiences_datatype_alone_are_matched(client: Client, insert: Callable[..., list[str]]) -> None:
    insert([{"data": {"email": "ann@example.com"}}])
    [lead] = insert([{"data": {"email": "ann@example.com"}}], "lead")
    contacts, leads = client.custom(name="contacts"), client.custom(name="leads", datatype="lead")
    for made in (contacts, leads):
        assert Uploader(client).upload(made.id, emails("ann")).matched_contact_count == 1
    assert client.members(audienceId=leads.id) == [lead]


def test_a_byte_order_mark_is_skipped_and_counted_in_offsets(
    client: Client, insert: Callable[..., list[str]], refused: Callable[..., Refusal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audience_service.domain.uploads.processor.BATCH_ROWS", 1)
    insert([{"data": {"email": f"{name}@example.com"}} for name in "ab"])
    made, data = client.custom(name="list"), b'\xef\xbb\xbf"email"\na@example.com\nb@example.com'
    refused(lambda: Uploader(client).send(iter([header(made.id), chunk(0, data)])))
    start = client.call("GetUpload", {"audienceId": made.id, "uploadId": "first"}).next_offset
    assert start > 0
    assert Uploader(client).send(messages(header(made.id), data, start)).matched_row_count == 2
