"""Snapshots whose making is cut short: never read as whole, finished by their request, cleared away."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audience_service.domain import snapshot_maker
from audience_service.domain.caller import Deadline
from audience_service.domain.errors import StoreUnavailable
from audience_service.domain.snapshot import SnapshotState
from audience_service.domain.snapshot_ports import Lease
from tests.client import Client, Refusal
from tests.conftest import Service, run_service
from tests.waiting import eventually

EVERYONE: dict[str, Any] = {"datatype": "contact", "where": {}}
Insert = Callable[..., list[str]]
Refused = Callable[..., Refusal]


class Held:
    """Freezing that has written its rows and goes no further until it is let go."""

    def __init__(self) -> None:
        self.wrote, self.go_on, self.ended = threading.Event(), threading.Event(), threading.Event()


@pytest.fixture
def held(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """The next snapshot is held; its lease is not renewed."""
    found, first = Held(), threading.Lock()
    original = type(service.store.frozen).freeze

    def freeze(*arguments: Any) -> Any:
        frozen = original(*arguments)
        if first.acquire(blocking=False):
            found.wrote.set()
            assert found.go_on.wait(20)
        return frozen

    maker = service.app._maker
    made = maker._make

    def make(*arguments: Any) -> None:
        made(*arguments)
        found.ended.set()

    monkeypatch.setattr(type(service.store.frozen), "freeze", freeze)
    monkeypatch.setattr(maker, "_make", make)
    monkeypatch.setattr(type(service.store.snapshots), "renew", lambda *_: True)
    yield found
    found.go_on.set()
    assert found.ended.wait(20)


def rows_of(service: Service, rows_id: str) -> int:
    """How many rows an attempt has."""
    return int(service.store.database["audience_member"].count_documents({"audience": rows_id}))


def expire_lease(service: Service, snapshot_id: str) -> None:
    """As if the process that makes it had died a while ago."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    service.store.database["audience_snapshot"].update_one({"pk": snapshot_id}, {"$set": {"lease_until": past}})


def begin(client: Client, held: Held, **request: Any) -> str:
    """A snapshot that has all its rows and no more."""
    early = client.call("CreateSnapshot", {"filter": EVERYONE, **request}, timeout=0.5)
    assert early.state == "CREATING"
    assert held.wrote.wait(20)
    return str(early.id)


def test_one_that_was_given_up_is_failed_and_can_write_nothing_any_more(
    client: Client, service: Service, insert: Insert, refused: Refused, held: Held
) -> None:
    insert([{}, {}])
    snapshot_id = begin(client, held)
    moment = datetime.now(UTC)
    service.store.sweeper.sweep(moment, moment)
    assert client.call("GetSnapshot", {"id": snapshot_id}).state == "CREATING", "its lease is good"
    expire_lease(service, snapshot_id)
    moment = datetime.now(UTC)
    service.store.sweeper.sweep(moment, moment + timedelta(hours=1))
    told = client.call("GetSnapshot", {"id": snapshot_id})
    assert (told.state, told.failure) == ("FAILED", "the service that made it ended")
    assert rows_of(service, f"{snapshot_id}.1") == 2, "a command may be writing them still"
    held.go_on.set()
    assert held.ended.wait(20)
    assert client.call("GetSnapshot", {"id": snapshot_id}) == told
    assert rows_of(service, f"{snapshot_id}.1") == 0
    assert (
        refused(lambda: client.call("StreamMembers", {"snapshotId": snapshot_id})).info.reason == "SNAPSHOT_NOT_READY"
    )


def test_rows_of_a_dead_attempt_go_once_no_command_can_write_them(
    client: Client, service: Service, insert: Insert, held: Held
) -> None:
    insert([{}, {}])
    snapshot_id = begin(client, held)
    expire_lease(service, snapshot_id)
    moment = datetime.now(UTC)
    service.store.sweeper.sweep(moment, moment + timedelta(hours=1))
    service.store.sweeper.sweep(moment + timedelta(minutes=59), moment)
    assert rows_of(service, f"{snapshot_id}.1") == 2
    service.store.sweeper.sweep(moment + timedelta(minutes=61), moment)
    assert rows_of(service, f"{snapshot_id}.1") == 0


def test_its_request_makes_it_anew_and_nothing_of_the_first_attempt_is_in_it(
    client: Client, service: Service, org: str, insert: Insert, held: Held
) -> None:
    ids = insert([{}, {}])
    snapshot_id = begin(client, held, requestId="r")
    service.store.database["contact"].delete_one({"pk": ids[0]})
    ids += insert([{}])
    living = client.call("CreateSnapshot", {"filter": EVERYONE, "requestId": "r"}, timeout=0.5)
    assert (living.id, living.state) == (snapshot_id, "CREATING"), "its lease is good: it is not made twice"
    expire_lease(service, snapshot_id)
    made = client.snapshot(filter=EVERYONE, requestId="r")
    assert (made.id, made.count) == (snapshot_id, 2)
    held.go_on.set()
    assert held.ended.wait(20)
    assert client.members(snapshotId=made.id) == sorted(ids[1:])
    assert client.call("GetSnapshot", {"id": snapshot_id}) == made
    assert rows_of(service, f"{snapshot_id}.1") == 0


def test_two_repeated_requests_at_once_begin_one_attempt(
    client: Client, service: Service, insert: Insert, held: Held
) -> None:
    insert([{}, {}])
    snapshot_id = begin(client, held, requestId="r")
    expire_lease(service, snapshot_id)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(client.snapshot, filter=EVERYONE, requestId="r") for _ in range(4)]
        answers = [call.result() for call in calls]
    assert all(answer == answers[0] for answer in answers)
    assert [rows_of(service, f"{snapshot_id}.{attempt}") for attempt in (1, 2, 3)] == [2, 2, 0]
    later = datetime.now(UTC) + timedelta(days=1)
    service.store.sweeper.sweep(later, later)
    assert [rows_of(service, f"{snapshot_id}.{attempt}") for attempt in (1, 2)] == [0, 2]


def test_an_attempt_is_begun_once_though_it_has_failed_meanwhile(
    client: Client, service: Service, org: str, insert: Insert
) -> None:
    insert([{}])
    made = client.snapshot(filter=EVERYONE)
    service.store.database["audience_snapshot"].update_one({"pk": made.id}, {"$set": {"state": "FAILED"}})
    snapshots, until, deadline = service.store.snapshots, datetime.now(UTC) + timedelta(hours=1), Deadline.after(20)
    second = replace(snapshots.get(org, made.id, deadline), state=SnapshotState.CREATING, attempt=2)
    assert snapshots.take_over(org, second, Lease("a", until), until, deadline)
    snapshots.fail(org, second, until, deadline)
    assert not snapshots.take_over(org, second, Lease("b", until), until, deadline)


def test_one_deleted_while_it_is_made_does_not_come_back(
    client: Client, service: Service, insert: Insert, refused: Refused, held: Held
) -> None:
    insert([{}, {}])
    snapshot_id = begin(client, held, requestId="r")
    client.call("DeleteSnapshot", {"id": snapshot_id})
    held.go_on.set()
    assert held.ended.wait(20)
    assert refused(lambda: client.call("GetSnapshot", {"id": snapshot_id})).info.reason == "SNAPSHOT_NOT_FOUND"
    assert rows_of(service, f"{snapshot_id}.1") == 0
    later = datetime.now(UTC) + timedelta(days=1)
    service.store.sweeper.sweep(later, later)
    assert service.store.database["audience_snapshot"].count_documents({"pk": snapshot_id}) == 0
    assert client.snapshot(filter=EVERYONE, requestId="r").id != snapshot_id


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
    with beside(service, snapshot_lease_seconds=0.4) as other:
        early = other.client(org).call("CreateSnapshot", {"filter": EVERYONE}, timeout=0.3)
        assert failed.wait(20)
        far = datetime.now(UTC) + timedelta(seconds=1)
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
    monkeypatch.setattr(snapshot_maker, "_PAUSE_SECONDS", 0.01)
    made = client.snapshot(filter=EVERYONE)
    assert len(times) == 3
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
            assert client.call("CreateSnapshot", {"filter": EVERYONE}, timeout=0.3).state == "CREATING"
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
    early = client.call("CreateSnapshot", request, timeout=0.5)
    client.call("DeleteSegment", {"id": segment.id})
    assert client.call("CreateSnapshot", request, timeout=0.5) == early
    go_on.set()
    made = client.snapshot(**request)
    assert (made.id, made.count) == (early.id, 1)


def test_a_service_that_stops_gives_up_what_waits_for_its_turn_too(
    service: Service, client: Client, org: str, insert: Insert, go_on: threading.Event
) -> None:
    insert([{}])
    with beside(service, snapshots_at_once=1) as other:
        for _ in range(2):
            other.client(org).call("CreateSnapshot", {"filter": EVERYONE}, timeout=0.5)
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
    with beside(service, snapshot_lease_seconds=0.4) as other:
        client = other.client(org)
        early = client.call("CreateSnapshot", {"filter": EVERYONE}, timeout=0.3)
        manifests = service.store.database["audience_snapshot"]
        far = datetime.now(UTC) + timedelta(seconds=1)
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
        early = other.client(org).call("CreateSnapshot", request, timeout=0.5)
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
