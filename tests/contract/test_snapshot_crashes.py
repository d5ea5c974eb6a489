"""Interrupted snapshots: never read as complete, finished by a repeated request, and cleaned up."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import OutOfTime
from audience_service.domain.core.idempotency import CreationState
from audience_service.domain.core.lease import Lease
from tests.conftest import Service
from tests.support.client import Client, Refusal
from tests.support.snapshots import state_of
from tests.support.waiting import eventually

ALL_CONTACTS: dict[str, Any] = {"datatype": "contact", "where": {}}
Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


class Handoff:
    """Freezing that has written its rows and goes no further until it is let go."""

    def __init__(self) -> None:
        self.wrote, self.resume, self.ended = threading.Event(), threading.Event(), threading.Event()


@pytest.fixture
def handoff(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Handoff]:
    """Pause the creation of the next snapshot, and do not renew its lease."""
    found, first = Handoff(), threading.Lock()
    original = type(service.store.snapshot_rows).write

    def write(*arguments: Any) -> Any:
        result = original(*arguments)
        if first.acquire(blocking=False):
            found.wrote.set()
            assert found.resume.wait(40)
        return result

    runner = service.app._snapshot_worker.runner
    run, runs = runner._run, list[Any]()

    def run_job(running: Any) -> None:
        runs.append(running)
        run(running)
        if running is runs[0]:
            found.ended.set()

    monkeypatch.setattr(type(service.store.snapshot_rows), "write", write)
    monkeypatch.setattr(runner, "_run", run_job)
    monkeypatch.setattr(type(service.store.snapshots), "renew", lambda *_: True)
    yield found
    found.resume.set()
    assert found.ended.wait(40)


def rows_of(service: Service, list_version_id: str) -> int:
    """How many rows an attempt has."""
    return int(service.store.database["audience_member"].count_documents({"audience": list_version_id}))


def expire_lease(service: Service, snapshot_id: str) -> None:
    """As if the process that makes it had died a while ago."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    service.store.database["audience_snapshot"].update_one({"pk": snapshot_id}, {"$set": {"lease_until": past}})


def begin(client: Client, handoff: Handoff, **request: Any) -> str:
    """A snapshot that has all its rows and no more."""
    early = client.call("CreateSnapshot", {"filter": ALL_CONTACTS, **request})
    assert state_of(early) == "CREATING"
    assert handoff.wrote.wait(40)
    return str(early.id)


def test_an_expired_attempt_is_failed_and_cannot_write(
    client: Client, service: Service, insert: Insert, refused: Refused, handoff: Handoff
) -> None:
    insert([{}, {}])
    snapshot_id = begin(client, handoff)
    timestamp = datetime.now(UTC)
    service.store.snapshot_sweeper.sweep(timestamp, timestamp)
    assert state_of(client.call("GetSnapshot", {"id": snapshot_id})) == "CREATING", "its lease is good"
    expire_lease(service, snapshot_id)
    timestamp = datetime.now(UTC)
    service.store.snapshot_sweeper.sweep(timestamp, timestamp + timedelta(hours=1))
    failed = client.call("GetSnapshot", {"id": snapshot_id})
    assert (state_of(failed), failed.error) == ("FAILED", "the process that created it ended")
    assert rows_of(service, f"{snapshot_id}.1") == 2, "a command may be writing them still"
    handoff.resume.set()
    assert handoff.ended.wait(40)
    assert client.call("GetSnapshot", {"id": snapshot_id}) == failed
    assert rows_of(service, f"{snapshot_id}.1") == 0
    assert (
        refused(lambda: client.call("StreamMembers", {"snapshotId": snapshot_id})).info.reason == "SNAPSHOT_NOT_READY"
    )


def test_rows_of_a_dead_attempt_go_once_no_command_can_write_them(
    client: Client, service: Service, insert: Insert, handoff: Handoff
) -> None:
    insert([{}, {}])
    snapshot_id = begin(client, handoff)
    expire_lease(service, snapshot_id)
    timestamp = datetime.now(UTC)
    service.store.snapshot_sweeper.sweep(timestamp, timestamp + timedelta(hours=1))
    service.store.snapshot_sweeper.sweep(timestamp + timedelta(minutes=59), timestamp)
    assert rows_of(service, f"{snapshot_id}.1") == 2
    service.store.snapshot_sweeper.sweep(timestamp + timedelta(minutes=61), timestamp)
    assert rows_of(service, f"{snapshot_id}.1") == 0


def test_a_repeated_request_restarts_without_rows_of_the_first_attempt(
    client: Client, service: Service, org: str, insert: Insert, handoff: Handoff
) -> None:
    ids = insert([{}, {}])
    snapshot_id = begin(client, handoff, requestId="r")
    service.store.database["contact"].delete_one({"pk": ids[0]})
    ids += insert([{}])
    restarted = client.call("CreateSnapshot", {"filter": ALL_CONTACTS, "requestId": "r"})
    assert (restarted.id, state_of(restarted)) == (snapshot_id, "CREATING"), "its lease is good: it is not made twice"
    expire_lease(service, snapshot_id)
    made = client.snapshot(filter=ALL_CONTACTS, requestId="r")
    assert (made.id, made.count) == (snapshot_id, 2)
    handoff.resume.set()
    assert handoff.ended.wait(40)
    assert client.members(snapshotId=made.id) == sorted(ids[1:])
    assert client.call("GetSnapshot", {"id": snapshot_id}) == made
    assert rows_of(service, f"{snapshot_id}.1") == 0


def test_concurrent_repeated_requests_start_one_attempt(
    client: Client, service: Service, insert: Insert, handoff: Handoff
) -> None:
    insert([{}, {}])
    snapshot_id = begin(client, handoff, requestId="r")
    expire_lease(service, snapshot_id)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(client.snapshot, filter=ALL_CONTACTS, requestId="r") for _ in range(4)]
        answers = [call.result() for call in calls]
    assert all(answer == answers[0] for answer in answers)
    assert [rows_of(service, f"{snapshot_id}.{attempt}") for attempt in (1, 2, 3)] == [2, 2, 0]
    later = datetime.now(UTC) + timedelta(days=1)
    service.store.snapshot_sweeper.sweep(later, later)
    assert [rows_of(service, f"{snapshot_id}.{attempt}") for attempt in (1, 2)] == [0, 2]


def test_an_attempt_is_begun_once_though_it_has_failed_meanwhile(
    client: Client, service: Service, org: str, insert: Insert
) -> None:
    insert([{}])
    made = client.snapshot(filter=ALL_CONTACTS)
    service.store.database["audience_snapshot"].update_one({"pk": made.id}, {"$set": {"state": "FAILED"}})
    snapshots, until, deadline = service.store.snapshots, datetime.now(UTC) + timedelta(hours=1), Deadline.after(20)
    second = replace(snapshots.get(org, made.id, deadline), state=CreationState.CREATING, attempt=2)
    assert snapshots.take_over(org, second, Lease("a", until), until, deadline)
    snapshots.fail(org, second, until, deadline)
    assert not snapshots.take_over(org, second, Lease("b", until), until, deadline)


def test_a_snapshot_deleted_during_creation_stays_deleted(
    client: Client, service: Service, insert: Insert, refused: Refused, handoff: Handoff
) -> None:
    insert([{}, {}])
    snapshot_id = begin(client, handoff, requestId="r")
    client.call("DeleteSnapshot", {"id": snapshot_id})
    handoff.resume.set()
    assert handoff.ended.wait(40)
    assert refused(lambda: client.call("GetSnapshot", {"id": snapshot_id})).info.reason == "SNAPSHOT_NOT_FOUND"
    assert rows_of(service, f"{snapshot_id}.1") == 0
    later = datetime.now(UTC) + timedelta(days=1)
    service.store.snapshot_sweeper.sweep(later, later)
    assert service.store.database["audience_snapshot"].count_documents({"pk": snapshot_id}) == 0
    assert client.snapshot(filter=ALL_CONTACTS, requestId="r").id != snapshot_id


def test_an_attempt_that_loses_its_lease_stops_and_its_rows_are_swept(
    client: Client, service: Service, insert: Insert, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the snapshot is deleted during the copy, the attempt ends before it counts, and the sweep deletes its rows."""
    insert([{}, {}])
    original: Any = type(service.store.snapshot_rows).write
    stopped = threading.Event()

    def write(*arguments: Any) -> Any:
        *others, report_written = arguments

        def delete_first() -> None:
            client.call("DeleteSnapshot", {"id": others[2].id})
            report_written()
            others[5].check()  # as the next command does

        try:
            return original(*others, delete_first)
        except OutOfTime:
            stopped.set()
            raise

    monkeypatch.setattr(type(service.store.snapshot_rows), "write", write)
    early = client.call("CreateSnapshot", {"filter": ALL_CONTACTS})
    assert stopped.wait(40)
    assert rows_of(service, f"{early.id}.1") == 2
    later = datetime.now(UTC) + timedelta(days=1)
    service.store.snapshot_sweeper.sweep(later, later)
    eventually(lambda: rows_of(service, f"{early.id}.1") == 0)
