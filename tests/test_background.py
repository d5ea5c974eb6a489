"""Health, before and after the checks of the database."""

import signal
from collections.abc import Sequence
from functools import partial

import pytest
from grpc_health.v1 import health_pb2

from audience_service import background
from audience_service.domain.core.errors import StoreUnavailable
from audience_service.mongo.embedded.store import embedded_store
from audience_service.mongo.store import Store
from tests.conftest import Service, run_service
from tests.support.proxy import health
from tests.support.waiting import eventually

SERVING = health_pb2.HealthCheckResponse.SERVING


def is_serving(service: Service) -> bool:
    return health(service) == SERVING


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store, with short intervals between the checks."""
    monkeypatch.setattr(background, "_HEALTH_INTERVAL_SECONDS", 0.05)
    return embedded_store([], ("contact",))


def test_a_store_without_tenant_isolation_ends_the_process_and_is_never_healthy(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A default collation may show an org the records of another."""
    signals: list[int] = []
    monkeypatch.setattr("os.kill", lambda _pid, number: signals.append(number))
    monkeypatch.setattr(Store, "collated_collections", lambda *_: ["contact"])
    for service in run_service("embedded", store):
        eventually(lambda: len(signals) > 1)  # the first check has set the health
        assert health(service) != SERVING
    assert set(signals) == {signal.SIGTERM}


def test_a_process_is_not_healthy_before_its_check_of_isolation_succeeds(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is lost during the check is checked again."""
    failures = [StoreUnavailable("lost")] * 2

    def collated_collections(*_: object) -> Sequence[str]:
        if failures:
            raise failures.pop()
        return []

    monkeypatch.setattr(Store, "collated_collections", collated_collections)
    for service in run_service("embedded", store):
        eventually(partial(is_serving, service))
        assert failures == []
