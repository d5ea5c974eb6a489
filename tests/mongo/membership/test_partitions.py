"""What workers agree on, whose clocks differ and who come at the same time."""

from datetime import UTC, datetime, timedelta
from typing import Any

from audience_service.domain.core.context import Deadline
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.membership.partitions import MongoPartitions
from tests.conftest import Service

START = datetime.now(UTC).replace(microsecond=0)  # what is older expires
MINUTE, MILLISECOND = timedelta(minutes=1), timedelta(milliseconds=1)


class Worker:
    """A process whose clock shows these timestamps in turn, and then stays at the last."""

    def __init__(self, service: Service, org: str, *times: datetime) -> None:
        left = list(times)
        self._org = org
        self._partitions = MongoPartitions(
            service.store.database, TenantScope(), lambda: left.pop(0) if left[1:] else left[0]
        )

    def find(self) -> Any:
        return self._partitions.find(self._org, "name", Deadline.after(20))

    def get_or_create(self, *keys: str) -> Any:
        return list(self._partitions.get_or_create(self._org, "name", keys, Deadline.after(20)))


def test_keys_hold_for_an_hour_after_their_last_use(service: Service, org: str) -> None:
    assert Worker(service, org, START).find() is None
    assert Worker(service, org, START).get_or_create("k1") == ["k1"]
    assert Worker(service, org, START + 59 * MINUTE).get_or_create("k2") == ["k1"]
    assert Worker(service, org, START + 118 * MINUTE).find() == ["k1"]
    assert Worker(service, f"{org}2", START).find() is None
    late = START + 178 * MINUTE
    assert Worker(service, org, late).find() is None
    assert Worker(service, org, late).get_or_create("k3") == ["k3"]
    assert Worker(service, org, late).get_or_create("k2") == ["k3"]


def test_keys_valid_when_the_request_began_are_agreed_on(service: Service, org: str) -> None:
    Worker(service, org, START).get_or_create("k1")
    end = START + 60 * MINUTE
    assert Worker(service, org, end - MILLISECOND, end).get_or_create("k2") == ["k1"]


def test_a_slow_clock_does_not_shorten_the_validity(service: Service, org: str) -> None:
    Worker(service, org, START).get_or_create("k1")
    assert Worker(service, org, START - 50 * MINUTE).find() == ["k1"]
    assert Worker(service, org, START + 30 * MINUTE).find() == ["k1"]
