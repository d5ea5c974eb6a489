"""What workers agree on, whose clocks differ and who come at the same time."""

from datetime import UTC, datetime, timedelta
from typing import Any

from audience_service.domain.caller import Deadline
from audience_service.mongo.partitions import MongoPartitions
from tests.conftest import Service

BEGUN = datetime.now(UTC).replace(microsecond=0)  # what is older expires
MINUTE, MILLISECOND = timedelta(minutes=1), timedelta(milliseconds=1)


class Worker:
    """A process whose clock shows these moments one after the other, and then stands still."""

    def __init__(self, service: Service, org: str, *moments: datetime) -> None:
        left = list(moments)
        self._org = org
        self._partitions = MongoPartitions(service.store.database, lambda: left.pop(0) if left[1:] else left[0])

    def find(self) -> Any:
        return self._partitions.find(self._org, "name", Deadline.after(20))

    def agree(self, *keys: str) -> Any:
        return list(self._partitions.agree(self._org, "name", keys, Deadline.after(20)))


def test_keys_hold_for_an_hour_after_their_last_use(service: Service, org: str) -> None:
    assert Worker(service, org, BEGUN).find() is None
    assert Worker(service, org, BEGUN).agree("k1") == ["k1"]
    assert Worker(service, org, BEGUN + 59 * MINUTE).agree("k2") == ["k1"]
    assert Worker(service, org, BEGUN + 118 * MINUTE).find() == ["k1"]
    assert Worker(service, f"{org}2", BEGUN).find() is None
    late = BEGUN + 178 * MINUTE
    assert Worker(service, org, late).find() is None
    assert Worker(service, org, late).agree("k3") == ["k3"]
    assert Worker(service, org, late).agree("k2") == ["k3"]


def test_keys_that_were_held_when_an_agreement_was_sought_are_agreed_on(service: Service, org: str) -> None:
    Worker(service, org, BEGUN).agree("k1")
    end = BEGUN + 60 * MINUTE
    assert Worker(service, org, end - MILLISECOND, end).agree("k2") == ["k1"]


def test_a_clock_that_is_behind_shortens_nothing(service: Service, org: str) -> None:
    Worker(service, org, BEGUN).agree("k1")
    assert Worker(service, org, BEGUN - 50 * MINUTE).find() == ["k1"]
    assert Worker(service, org, BEGUN + 30 * MINUTE).find() == ["k1"]
