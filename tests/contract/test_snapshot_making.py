"""The making of snapshots: leases that are renewed, turns that are waited for, and services that stop meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audience_service.domain.errors import StoreUnavailable
from audience_service.domain.snapshots import maker as snapshot_maker
from tests.client import Client, Refusal
from tests.conftest import Service, run_service
from tests.snapshots import EARLY
from tests.waiting import eventually

EVERYONE: dict[str, Any] = {"datatype": "contact", "where": {}}
Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


@contextmanager
def beside(service: Service, **settings: Any) -> Iterator[Service]:
    """Another service on the same store, which is not closed with it."""

    class Open(type(service.store)):  # type: ignore[misc]
        def close(self) -> None: ...

    fields = {name: getattr(service.store, name) for name in service.store.__dataclass_fields__}
    yield from run_service(service.kind, Open(**fields), **settings)


@pytest.fixture
def go_on(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Freezing waits until this is set."""
    found = threading.Event()
    original = type(service.store.frozen).freeze

    def freeze(*arguments: Any) -> Any:
        assert found.wait(20)
        return original(*arguments)

    monkeypatch.setattr(type(service.store.frozen), "freeze", freeze)
    yield found
    found.set()


def test_a_lease_that_cannot_be_renewed_once_is_renewed_by_the_next_beat(
    service: Service, org: str, insert: Insert, go_on: threading.Event, monkeypatch: pytest.MonkeyPatch
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
    with beside(service, snapshot_lease_seconds=4) as other:
        early = other.client(org).call("CreateSnapshot", {"filter": EVERYONE}, timeout=EARLY)
        assert failed.wait(20)
        far = datetime.now(UTC) + timedelta(seconds=4)
        found = {"pk": early.id, "lease_until": {"$gt": far}}
        eventually(lambda: service.store.database["audience_snapshot"].count_documents(found) == 1)
        go_on.set()
        eventually(lambda: other.client(org).call("GetSnapshot", {"id": early.id}).state == "READY")


@pytest.mark.parametrize("write", ["renew", "finish"])
@pytest.mark.parametrize("arrives", [False, True])
def test_a_database_that_is_away_for_a_moment_costs_no_snapshot(
    client: Client, service: Service, insert: Insert, monkeypatch: pytest.MonkeyPatch, write: str, arrives: bool
) -> None:
    ids = insert([{}, {}])
    snapshots = type(service.store.snapshots)
    original, times = getattr(snapshots, write), []

    def away(*arguments: Any) -> Any:
        times.append(write)
        if len(times) < 3:
            if arrives:
                original(*arguments)
            raise StoreUnavailable("the answer was lost")
        return original(*arguments)

    monkeypatch.setattr(snapshots, write, away)
    made = client.snapshot(filter=EVERYONE)
    eventually(lambda: len(times) == 3)  # a finish that arrived is seen before it is written again
    assert client.members(snapshotId=made.id) == sorted(ids)


def test_calls_that_wait_leave_threads_for_others(
    service: Service, org: str, insert: Insert, go_on: threading.Event
) -> None:
    insert([{}])
    with beside(service, threads=4, max_streams=2) as other, ThreadPoolExecutor(4) as pool:
        client = other.client(org)
        calls = [pool.submit(client.call, "CreateSnapshot", {"filter": EVERYONE}) for _ in range(4)]
        eventually(lambda: sum(call.done() for call in calls) == 3)
        assert {call.result().state for call in calls if call.done()} == {"CREATING"}
        go_on.set()
        assert sorted(call.result().state for call in calls) == ["CREATING"] * 3 + ["READY"]
        eventually(lambda: client.call("ListSnapshots", {"state": "READY"}).total_size == 4)


def test_more_than_may_wait_their_turn_are_refused_and_leave_nothing(
    service: Service,
    org: str,
    insert: Insert,
    go_on: threading.Event,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    insert([{}])
    monkeypatch.setattr(snapshot_maker, "_TURNS", 2)
    with beside(service, snapshots_at_once=1) as other:
        client = other.client(org)
        for _ in range(2):
            assert client.call("CreateSnapshot", {"filter": EVERYONE}, timeout=EARLY).state == "CREATING"
        refusal = refused(lambda: client.call("CreateSnapshot", {"filter": EVERYONE, "requestId": "r"}))
        assert (refusal.code.name, refusal.info.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_SNAPSHOTS")
        assert (dict(refusal.info.metadata), refusal.retry_seconds) == ({"limit": "2"}, 5)
        assert client.call("ListSnapshots").total_size == 2
        go_on.set()
        eventually(lambda: client.call("ListSnapshots", {"state": "READY"}).total_size == 2)
        assert client.snapshot(filter=EVERYONE, requestId="r").count == 1


def test_a_request_that_is_repeated_while_it_is_made_waits_though_its_audience_has_gone(
    service: Service, client: Client, insert: Insert, go_on: threading.Event
) -> None:
    insert([{}])
    segment = client.create(name="all", filter=EVERYONE)
    request = {"audienceId": segment.id, "requestId": "r"}
    early = client.call("CreateSnapshot", request, timeout=EARLY)
    client.call("DeleteSegment", {"id": segment.id})
    assert client.call("CreateSnapshot", request, timeout=EARLY) == early
    go_on.set()
    made = client.snapshot(**request)
    assert (made.id, made.count) == (early.id, 1)


def test_a_service_that_stops_gives_up_what_waits_for_its_turn_too(
    service: Service, client: Client, org: str, insert: Insert, go_on: threading.Event
) -> None:
    insert([{}])
    with beside(service, snapshots_at_once=1) as other:
        for _ in range(2):
            other.client(org).call("CreateSnapshot", {"filter": EVERYONE}, timeout=EARLY)
    assert client.call("ListSnapshots", {"state": "FAILED"}).total_size == 2


def test_a_lease_is_renewed_for_as_long_as_it_takes(
    service: Service, org: str, insert: Insert, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert([{}])
    go_on = threading.Event()
    original = type(service.store.frozen).freeze

    def freeze(*arguments: Any) -> Any:
        assert go_on.wait(20)
        return original(*arguments)

    monkeypatch.setattr(type(service.store.frozen), "freeze", freeze)
    with beside(service, snapshot_lease_seconds=2) as other:
        client = other.client(org)
        early = client.call("CreateSnapshot", {"filter": EVERYONE}, timeout=EARLY)
        manifests = service.store.database["audience_snapshot"]
        far = datetime.now(UTC) + timedelta(seconds=3)
        eventually(lambda: manifests.count_documents({"pk": early.id, "lease_until": {"$gt": far}}) == 1)
        go_on.set()
        eventually(lambda: client.call("GetSnapshot", {"id": early.id}).state == "READY")


def test_a_service_that_stops_gives_up_what_it_makes(
    client: Client, service: Service, org: str, insert: Insert, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert([{}])
    go_on = threading.Event()
    original = type(service.store.frozen).freeze

    def freeze(*arguments: Any) -> Any:
        assert go_on.wait(20)
        return original(*arguments)

    monkeypatch.setattr(type(service.store.frozen), "freeze", freeze)
    with beside(service) as other:
        request = {"filter": EVERYONE, "requestId": "r"}
        early = other.client(org).call("CreateSnapshot", request, timeout=EARLY)
    told = client.call("GetSnapshot", {"id": early.id})
    assert (told.state, told.failure) == ("FAILED", "the service that made it was stopped")
    go_on.set()
    assert client.snapshot(**request).id == early.id


def test_one_that_takes_too_long_is_stopped_in_the_database_and_failed(real_service: Service) -> None:
    org = "frozen-slowly"
    real_service.insert(org, [{"data": {"text": "a" * 60 + str(n)}} for n in range(2_000)])
    slow = {"datatype": "contact", "where": {"$or": [{"text": {"$regex": f".*a.*b.*c.*={n}"}} for n in range(500)]}}
    with beside(real_service, snapshot_timeout_seconds=0.5) as other:
        begun = time.monotonic()
        failed = other.client(org).call("CreateSnapshot", {"filter": slow})
    assert (failed.state, time.monotonic() - begun < 5) == ("FAILED", True)
    assert failed.failure == "it took longer than the 0.5 seconds that a snapshot may take"
