"""The making of snapshots: leases that are renewed, turns that are waited for, and services that stop meanwhile."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audience_service.domain.core.errors import StoreUnavailable
from audience_service.domain.core.jobs import STOPPED
from audience_service.pb.audience.v1.resources_pb2 import CreationState
from audience_service.wiring import snapshots as snapshot_wiring
from tests.conftest import Service, run_service
from tests.support.client import Client, Refusal
from tests.support.waiting import eventually

ALL_CONTACTS: dict[str, Any] = {"datatype": "contact", "where": {}}
Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]
CREATING = CreationState.CREATION_STATE_CREATING
READY = CreationState.CREATION_STATE_READY
FAILED = CreationState.CREATION_STATE_FAILED


@contextmanager
def second_service(service: Service, **settings: Any) -> Iterator[Service]:
    """Another service on the same store, which is not closed with it."""

    class Open(type(service.store)):  # type: ignore[misc]
        def close(self) -> None: ...

    fields = {name: getattr(service.store, name) for name in service.store.__dataclass_fields__}
    yield from run_service(service.kind, Open(**fields), **settings)


@pytest.fixture
def resume(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Freezing waits until this is set."""
    found = threading.Event()
    original = type(service.store.snapshot_rows).write

    def write(*arguments: Any) -> Any:
        assert found.wait(40)
        return original(*arguments)

    monkeypatch.setattr(type(service.store.snapshot_rows), "write", write)
    yield found
    found.set()


@pytest.mark.slow
def test_a_lease_that_cannot_be_renewed_once_is_renewed_by_the_next_beat(
    service: Service, org: str, insert: Insert, resume: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert([{}])
    snapshots = type(service.store.snapshots)
    renew, failed = snapshots.renew, threading.Event()

    def fails_once(*arguments: Any) -> Any:
        if threading.current_thread().name == "snapshot-leases" and not failed.is_set():
            failed.set()
            raise RuntimeError("as a driver's error that nobody knows")
        return renew(*arguments)

    monkeypatch.setattr(snapshots, "renew", fails_once)
    with second_service(service, snapshot_lease_seconds=4) as other:
        early = other.client(org).call("CreateSnapshot", {"filter": ALL_CONTACTS})
        assert failed.wait(40)
        far = datetime.now(UTC) + timedelta(seconds=4)
        found = {"pk": early.id, "lease_until": {"$gt": far}}
        eventually(lambda: service.store.database["audience_snapshot"].count_documents(found) == 1)
        resume.set()
        eventually(lambda: other.client(org).call("GetSnapshot", {"id": early.id}).creation_state == READY)


@pytest.mark.parametrize(("write", "writes"), [("renew", 5), ("finish", 3)])
@pytest.mark.parametrize("arrives", [False, True])
@pytest.mark.slow
def test_a_short_database_outage_loses_no_snapshot(
    client: Client,
    service: Service,
    insert: Insert,
    monkeypatch: pytest.MonkeyPatch,
    write: str,
    writes: int,
    arrives: bool,
) -> None:
    ids = insert([{}, {}])
    snapshots = type(service.store.snapshots)
    original, times = getattr(snapshots, write), []

    def fail(*arguments: Any) -> Any:
        if threading.current_thread().name == "snapshot-leases":  # which renews at any time on a slow machine
            return original(*arguments)
        times.append(write)
        if len(times) < 3:
            if arrives:
                original(*arguments)
            raise StoreUnavailable("the answer was lost")
        return original(*arguments)

    monkeypatch.setattr(snapshots, write, fail)
    made = client.snapshot(filter=ALL_CONTACTS)
    eventually(lambda: len(times) == writes)  # two fail and are repeated; "renew" also reports two stages
    assert client.members(snapshotId=made.id) == sorted(ids)


def test_create_holds_no_thread_while_snapshots_are_created(
    service: Service, org: str, insert: Insert, resume: threading.Event
) -> None:
    """More calls than the server has threads return immediately; their snapshots wait in the queue at progress 0."""
    insert([{}])
    with second_service(service, max_concurrent_snapshots=1) as other:
        client = other.client(org)
        made = [client.call("CreateSnapshot", {"filter": ALL_CONTACTS}) for _ in range(8)]
        eventually(lambda: client.call("GetSnapshot", {"id": made[0].id}).progress == 10)
        waiting = [client.call("GetSnapshot", {"id": snapshot.id}) for snapshot in made[1:]]
        assert {(snapshot.creation_state, snapshot.progress) for snapshot in waiting} == {(CREATING, 0)}
        resume.set()
        assert [client.created(snapshot).creation_state for snapshot in made] == [READY] * 8


def test_snapshots_beyond_the_queue_limit_are_refused_and_leave_nothing(
    service: Service,
    org: str,
    insert: Insert,
    resume: threading.Event,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    insert([{}])
    monkeypatch.setattr(snapshot_wiring, "WAITING_PER_RUNNING", 1)
    with second_service(service, max_concurrent_snapshots=1) as other:
        client = other.client(org)
        for _ in range(2):
            assert client.call("CreateSnapshot", {"filter": ALL_CONTACTS}).creation_state == CREATING
        refusal = refused(lambda: client.call("CreateSnapshot", {"filter": ALL_CONTACTS, "requestId": "r"}))
        assert (refusal.code.name, refusal.info.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_SNAPSHOTS")
        assert dict(refusal.info.metadata) == {"quota": "snapshots_in_creation", "limit": "2"}
        assert 5 <= (refusal.retry_seconds or 0) <= 10
        assert client.call("ListSnapshots").total_size == 2
        resume.set()
        eventually(lambda: client.call("ListSnapshots", {"creationState": READY}).total_size == 2)
        assert client.snapshot(filter=ALL_CONTACTS, requestId="r").count == 1


def test_a_request_that_is_repeated_during_the_creation_returns_it_though_its_audience_was_deleted(
    service: Service, client: Client, insert: Insert, resume: threading.Event
) -> None:
    insert([{}])
    segment = client.create(name="all", filter=ALL_CONTACTS)
    request = {"audienceId": segment.id, "requestId": "r"}
    early = client.call("CreateSnapshot", request)
    client.call("DeleteSegment", {"id": segment.id})
    again = client.call("CreateSnapshot", request)
    assert (again.id, again.creation_state) == (early.id, CREATING)
    resume.set()
    made = client.snapshot(**request)
    assert (made.id, made.count) == (early.id, 1)


def test_a_stopping_service_fails_queued_snapshots(
    service: Service, client: Client, org: str, insert: Insert, resume: threading.Event
) -> None:
    insert([{}])
    with second_service(service, max_concurrent_snapshots=1) as other:
        for _ in range(2):
            other.client(org).call("CreateSnapshot", {"filter": ALL_CONTACTS})
    assert client.call("ListSnapshots", {"creationState": FAILED}).total_size == 2


@pytest.mark.slow
def test_a_lease_is_renewed_for_as_long_as_it_takes(
    service: Service, org: str, insert: Insert, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert([{}])
    resume = threading.Event()
    original = type(service.store.snapshot_rows).write

    def write(*arguments: Any) -> Any:
        assert resume.wait(40)
        return original(*arguments)

    monkeypatch.setattr(type(service.store.snapshot_rows), "write", write)
    with second_service(service, snapshot_lease_seconds=3) as other:
        client = other.client(org)
        early = client.call("CreateSnapshot", {"filter": ALL_CONTACTS})
        manifests = service.store.database["audience_snapshot"]
        far = datetime.now(UTC) + timedelta(seconds=4)
        eventually(lambda: manifests.count_documents({"pk": early.id, "lease_until": {"$gt": far}}) == 1)
        resume.set()
        eventually(lambda: client.call("GetSnapshot", {"id": early.id}).creation_state == READY)


def test_a_stopping_service_fails_running_snapshots(
    client: Client, service: Service, org: str, insert: Insert, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert([{}])
    resume = threading.Event()
    original = type(service.store.snapshot_rows).write

    def write(*arguments: Any) -> Any:
        assert resume.wait(40)
        return original(*arguments)

    monkeypatch.setattr(type(service.store.snapshot_rows), "write", write)
    with second_service(service) as other:
        request = {"filter": ALL_CONTACTS, "requestId": "r"}
        early = other.client(org).call("CreateSnapshot", request)
    failed = client.call("GetSnapshot", {"id": early.id})
    assert (failed.creation_state, failed.error) == (FAILED, STOPPED)
    resume.set()
    assert client.snapshot(**request).id == early.id


def test_one_that_takes_too_long_is_stopped_in_the_database_and_failed(real_service: Service) -> None:
    org = "frozen-slowly"
    real_service.insert(org, [{"data": {"text": "a" * 60 + str(n)}} for n in range(2_000)])
    slow = {"datatype": "contact", "where": {"$or": [{"text": {"$regex": f".*a.*b.*c.*={n}"}} for n in range(500)]}}
    with second_service(real_service, snapshot_timeout_seconds=0.5) as other:
        client = other.client(org)
        failed = client.created(client.call("CreateSnapshot", {"filter": slow}))
    assert failed.creation_state == FAILED
    assert failed.error == "OUT_OF_TIME: the job took longer than the limit of 0.5 seconds"
