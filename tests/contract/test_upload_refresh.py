"""Refreshing uploaded lists: unmatched rows are matched again."""

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import pytest

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.idempotency import CreationState
from audience_service.domain.core.jobs import STOPPED
from audience_service.domain.uploads.publisher import Publisher
from audience_service.mongo.embedded.store import embedded_store
from audience_service.pb.audience.v1.resources_pb2 import CREATION_STATE_CREATING
from tests.conftest import Service, run_service
from tests.support.client import Client, Refusal
from tests.support.uploads import Uploader, chunk, emails, header, messages, unmatched

Insert = Callable[..., list[str]]


@pytest.fixture
def uploader(client: Client) -> Uploader:
    return Uploader(client)


def test_a_refresh_adds_contacts_of_previously_unmatched_rows(
    client: Client, insert: Insert, uploader: Uploader
) -> None:
    insert([{"id": "ann", "data": {"email": "ann@example.com"}}])
    made = client.custom(name="list")
    uploader.upload(made.id, emails("ann", "new", "late"))
    before = client.refresh(made.id)
    assert (before.version, before.contact_count) == (1, 1)
    insert([{"id": "new", "data": {"email": "NEW@example.com"}}])
    after = client.refresh(made.id)
    assert (after.version, after.contact_count) == (2, 2)
    assert client.members(audienceId=made.id) == ["contact-ann", "contact-new"]
    upload = client.call("GetUpload", {"audienceId": made.id, "uploadId": "first"})
    assert (upload.matched_row_count, upload.unmatched_row_count, upload.matched_contact_count) == (2, 1, 2)
    assert unmatched(client, made.id) == [(4, ["late@example.com"])]


def test_a_refresh_processes_uploads_in_order_since_the_last_replacement(
    client: Client, insert: Insert, uploader: Uploader
) -> None:
    made = client.custom(name="list")
    uploader.upload(made.id, emails("old"), uploadId="0")
    uploader.upload(made.id, emails("kept"), uploadId="1", mode="replace")
    uploader.upload(made.id, emails("taken", "kept"), uploadId="2")
    uploader.upload(made.id, emails("taken"), uploadId="3", mode="remove")
    insert([{"id": name, "data": {"email": f"{name}@example.com"}} for name in ("old", "kept", "taken")])
    assert client.refresh(made.id).contact_count == 1
    assert client.members(audienceId=made.id) == ["contact-kept"]
    assert unmatched(client, made.id) == []


def test_a_removal_row_removes_only_contacts_of_earlier_uploads(
    client: Client, insert: Insert, uploader: Uploader, service: Service, org: str
) -> None:
    contacts = service.store.database["contact"]
    insert([{"id": name, "data": {"email": f"{name}@example.com"}} for name in ("before", "behind", "both", "other")])
    made = client.custom(name="list")
    uploader.upload(made.id, emails("before", "both", "other"), uploadId="1")
    phones = {name: f"+1415555267{number}" for number, name in enumerate(("before", "behind", "both"))}
    uploader.upload(made.id, "\n".join(["phone", *phones.values()]), uploadId="2", mode="remove")
    uploader.upload(made.id, emails("behind", "both"), uploadId="3")
    assert client.refresh(made.id).version == 3
    for name, phone in phones.items():
        contacts.update_one({"sk": f"{org}/contact/{name}"}, {"$set": {"data.phone": phone}})
    refreshed = client.refresh(made.id)
    assert (refreshed.version, refreshed.contact_count) == (4, 3)
    assert client.members(audienceId=made.id) == ["contact-behind", "contact-both", "contact-other"]
    assert unmatched(client, made.id) == []


def test_the_last_upload_decides_for_contacts_matched_by_several(
    client: Client, insert: Insert, uploader: Uploader
) -> None:
    modes = {"1": "append", "2": "remove", "3": "append", "4": "remove"}
    on, off = client.custom(name="on"), client.custom(name="off")
    for made, last in ((on, 3), (off, 4)):
        for number, mode in list(modes.items())[:last]:
            uploader.upload(made.id, emails("new"), uploadId=number, mode=mode)
    insert([{"id": "new", "data": {"email": "new@example.com"}}])
    assert client.refresh(on.id).contact_count == 1
    assert client.refresh(off.id).contact_count == 0
    assert client.members(audienceId=on.id) == ["contact-new"]
    assert client.members(audienceId=off.id) == []


def test_uploads_count_as_of_when_they_were_published_not_when_they_were_begun(
    client: Client, insert: Insert, uploader: Uploader, refused: Callable[..., Refusal]
) -> None:
    made, data = client.custom(name="list"), emails("new")
    begun = header(made.id, uploadId="removed", mode="remove")
    refused(lambda: uploader.send(iter([begun, chunk(0, data)])))
    uploader.upload(made.id, data, uploadId="put on")
    uploader.send(messages(begun, data))
    insert([{"id": "new", "data": {"email": "new@example.com"}}])
    assert client.refresh(made.id).contact_count == 0


def test_a_refresh_updates_the_identifier_index_once(
    client: Client, uploader: Uploader, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = client.custom(name="list")
    for number in range(3):
        uploader.upload(made.id, "email,phone\nnobody@example.com,\n", uploadId=str(number))
    updates: list[str] = []
    kind: Any = type(service.store.identifiers)
    original = kind.update

    def update(self: Any, org: str, datatype: str, rule: Any, deadline: Any) -> None:
        updates.append(rule.name)
        original(self, org, datatype, rule, deadline)

    monkeypatch.setattr(kind, "update", update)
    client.refresh(made.id)
    assert [name.rpartition(".")[0] for name in sorted(updates)] == ["email.3", "phone.3"]


def test_a_row_that_matches_only_listed_contacts_is_a_duplicate(
    client: Client, insert: Insert, uploader: Uploader, service: Service, org: str
) -> None:
    insert([{"id": "ann", "data": {"email": "ann@example.com"}}])
    made = client.custom(name="list")
    uploader.upload(made.id, "email,phone\nann@example.com,\n,+14155552671\n")
    contacts = service.store.database["contact"]
    contacts.update_one({"sk": f"{org}/contact/ann"}, {"$set": {"data.phone": "+14155552671"}})
    assert client.refresh(made.id).contact_count == 1
    upload = client.call("GetUpload", {"audienceId": made.id, "uploadId": "first"})
    assert (
        upload.matched_row_count,
        upload.duplicate_row_count,
        upload.unmatched_row_count,
        upload.matched_contact_count,
    ) == (
        1,
        1,
        0,
        1,
    )


def test_an_upload_that_is_published_during_a_refresh_keeps_the_contacts_of_both(
    client: Client, insert: Insert, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refresh starts again with the new list instead of failing."""
    made = client.custom(name="list")
    uploader.upload(made.id, emails("late"))
    insert([{"id": name, "data": {"email": f"{name}@example.com"}} for name in ("late", "other")])
    original, times = Publisher.edit, list[None]()

    def edit(*arguments: Any) -> Any:
        if not times:
            times.append(None)
            uploader.upload(made.id, emails("other"), uploadId="second")
        return original(*arguments)

    monkeypatch.setattr(Publisher, "edit", edit)
    refreshed = client.refresh(made.id)
    assert (refreshed.contact_count, refreshed.version) == (2, 3)
    assert client.members(audienceId=made.id) == ["contact-late", "contact-other"]
    assert unmatched(client, made.id) == []


def test_a_server_that_stops_marks_the_refreshes_of_its_lists_failed() -> None:
    """The old list stays, and the error names the stopped server."""
    reached, opened = threading.Event(), threading.Event()

    class Blocking:
        """Identifiers whose update waits once it is armed."""

        is_armed = False

        def __init__(self, repository: Any) -> None:
            self._repository = repository

        def update(self, org: str, datatype: str, rule: Any, deadline: Deadline) -> None:
            """Wait for the test, if armed."""
            if self.is_armed:
                reached.set()
                assert opened.wait(40)
            self._repository.update(org, datatype, rule, deadline)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._repository, name)

    store = embedded_store([], ("contact",))
    identifiers: Any = Blocking(store.identifiers)
    try:
        for service in run_service("embedded", dataclasses.replace(store, identifiers=identifiers)):
            client = service.client("stopping")
            made = client.custom(name="list").id
            Uploader(client).upload(made, emails("nobody"))
            identifiers.is_armed = True
            running = client.call("RefreshCustomAudience", {"id": made})
            assert running.latest_refresh.state == CREATION_STATE_CREATING
            assert reached.wait(40)
        stored = store.custom_audiences.get("stopping", made, Deadline.after(10))
    finally:
        opened.set()
    assert stored.creation_state is CreationState.READY
    assert stored.refresh is not None
    assert (stored.refresh.state, stored.refresh.error) == (CreationState.FAILED, STOPPED)
