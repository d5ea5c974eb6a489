"""Health, before and after the checks of the database."""

import signal
import threading
from collections.abc import Sequence
from functools import partial

import pytest
import structlog.testing
from grpc_health.v1 import health_pb2

from audience_service import background
from audience_service.domain.core.errors import OutOfTime, StoreUnavailable
from audience_service.mongo.embedded.store import embedded_store
from audience_service.mongo.erasure.sweeper import ErasureSweeper
from audience_service.mongo.store import Store
from tests.conftest import Service, run_service
from tests.support.proxy import health
from tests.support.stores import with_methods
from tests.support.waiting import eventually

SERVING = health_pb2.HealthCheckResponse.SERVING


def is_serving(service: Service) -> bool:
    return health(service) == SERVING


def is_not_serving(service: Service) -> bool:
    return not is_serving(service)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store, with short intervals between the checks."""
    monkeypatch.setattr(background, "_HEALTH_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(background, "_RECHECK_SECONDS", 0.05)
    return embedded_store([], ("contact",))


@pytest.mark.slow
def test_a_store_without_tenant_isolation_ends_the_process_and_is_never_healthy(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A default collation may show an org the records of another."""
    signals: list[int] = []
    monkeypatch.setattr("os.kill", lambda _pid, number: signals.append(number))
    unsafe = with_methods(store, collated_collections=lambda *_: ["contact"])
    for service in run_service("embedded", unsafe):
        eventually(lambda: len(signals) > 1)  # the first check has set the health
        assert health(service) != SERVING
    assert set(signals) == {signal.SIGTERM}


def test_a_process_is_not_healthy_before_its_check_of_isolation_succeeds(store: Store) -> None:
    """A database that is lost during the check is checked again."""
    failures = [StoreUnavailable("lost")] * 2

    def collated_collections(*_: object) -> Sequence[str]:
        if failures:
            raise failures.pop()
        return []

    for service in run_service("embedded", with_methods(store, collated_collections=collated_collections)):
        eventually(partial(is_serving, service))
        assert failures == []


class Probes:
    """The outcomes of the next health checks; after the last one the database answers."""

    def __init__(self) -> None:
        self.outcomes: list[Exception] = []
        self.count = 0

    def of(self, store: Store) -> Store:
        """The store, whose checks have these outcomes."""
        return with_methods(store, check_reachable=lambda _: self._check())

    def _check(self) -> None:
        self.count += 1
        if self.outcomes:
            raise self.outcomes.pop()

    def wait(self) -> None:
        """Wait until every outcome was seen, and the check after them."""
        eventually(lambda: not self.outcomes)
        seen = self.count
        eventually(lambda: self.count > seen + 1)


@pytest.mark.slow
def test_health_follows_the_database_through_any_exception(store: Store) -> None:
    """The loop outlives defects of the check itself: health froze after them."""
    probes = Probes()
    for service in run_service("embedded", probes.of(store)):
        eventually(partial(is_serving, service))
        for error in (StoreUnavailable("lost"), OutOfTime("slow"), ZeroDivisionError("a defect")):
            probes.outcomes = [error] * 1_000_000
            eventually(partial(is_not_serving, service))
            probes.outcomes = []
            eventually(partial(is_serving, service))


def test_one_failed_check_does_not_change_health(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round trip of 800 ms makes a check fail now and then."""
    probes = Probes()
    statuses: list[bool] = []
    for service in run_service("embedded", probes.of(store)):
        eventually(partial(is_serving, service))
        monkeypatch.setattr(service.app.server, "set_healthy", lambda *, healthy: statuses.append(healthy))
        for error in (OutOfTime("slow"), StoreUnavailable("lost"), ZeroDivisionError("a defect")):
            probes.outcomes = [error]
            probes.wait()
    assert statuses == []


@pytest.mark.slow
def test_a_failing_sweep_is_counted_and_does_not_stop_the_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[str] = []

    def fail(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(store.snapshot_sweeper, "sweep", fail)
    monkeypatch.setattr(store.upload_sweeper, "sweep", lambda _: swept.append("uploads"))
    for service in run_service("embedded", store, snapshot_lease_seconds=1):
        eventually(lambda: len(swept) > 1)
        assert service.app.background_tasks.failure_counts["sweep of snapshots"] >= 2


@pytest.mark.slow
def test_a_long_removal_of_a_person_delays_no_other_sweep(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The removal may take ten minutes."""
    removing, removed = threading.Event(), threading.Event()
    swept: list[str] = []

    def remove(*_: object) -> None:
        removing.set()
        removed.wait(50)

    monkeypatch.setattr(ErasureSweeper, "sweep", remove)
    monkeypatch.setattr(store.sync_sweeper, "sweep", lambda _: swept.append("syncs"))
    for _ in run_service("embedded", store, snapshot_lease_seconds=1):
        assert removing.wait(40)
        swept.clear()
        eventually(lambda: len(swept) > 1)
        removed.set()


def test_a_sweep_that_the_database_interrupts_is_logged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An erased person whose removal fails would otherwise remain unnoticed."""

    def fail(*_: object) -> None:
        raise StoreUnavailable("another key")

    monkeypatch.setattr(ErasureSweeper, "sweep", fail)
    with structlog.testing.capture_logs() as lines:
        for service in run_service("embedded", store):
            eventually(lambda: any("sweep of erasures" in line["event"] for line in lines))
            assert not service.app.background_tasks.failure_counts
    # The sweepers of other servers in this process may fail at the same time.
    found = {(line["log_level"], line["reason"], line["error"]) for line in lines if "sweep" in line["event"]}
    assert found == {("warning", "STORE_UNAVAILABLE", "another key")}
