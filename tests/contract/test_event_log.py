"""The event log's repository apart from the reconciler, on every store."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo.errors import BulkWriteError

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import StoreRefused, StoreUnavailable
from audience_service.domain.core.lease import LeaseLost
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.history.model import Cause, ChangeKind, Event, MembershipChange
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.watch.event_log import MongoEventLog
from tests.conftest import Service

NEVER = Deadline(None)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MATCH_NONE = CompiledFilter("contact", {"sk": {"$eq": "nobody"}})


def event(seq: int, sk: str, change: ChangeKind) -> Event:
    """An event."""
    return Event(seq, MembershipChange(f"contact-{sk[-1]}", sk, change), Cause.DATA, NOON)


def test_the_last_event_decides_membership_in_any_order_of_application(service: Service, org: str) -> None:
    event_log, watch_epoch, sk = service.store.event_log, f"watch-{org}", f"{org}/contact/a"
    changes = [ChangeKind.ENTERED, ChangeKind.EXITED, ChangeKind.ENTERED]
    events = [event(seq, sk, change) for seq, change in enumerate(changes, 1)]
    for applied in (events, events[:2], events[1:2], events[:1]):
        event_log.apply(org, watch_epoch, applied, NEVER)
        [difference] = event_log.evaluate(org, watch_epoch, MATCH_NONE, [sk], NEVER)
        assert difference.kind is ChangeKind.EXITED


def test_no_event_can_name_a_record_of_another_org(service: Service, org: str) -> None:
    event_log, watch_epoch = service.store.event_log, f"watch-{org}"
    events = [event(1, f"{org}/contact/a", ChangeKind.ENTERED), event(2, f"{org}2/contact/b", ChangeKind.ENTERED)]
    with pytest.raises(ValueError, match="another org"):
        event_log.append(org, watch_epoch, events, NEVER)
    assert event_log.read(org, watch_epoch, 0, None, 10, NEVER) == []


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"writeErrors": [{"code": 11000}]}, LeaseLost),
        ({"writeErrors": [{"code": 11000}], "writeConcernErrors": [{"code": 64}]}, StoreUnavailable),
        ({"writeErrors": [{"code": 13}]}, StoreRefused),
        ({"writeErrors": [], "writeConcernErrors": [{"code": 64}]}, StoreUnavailable),
    ],
)
def test_only_duplicate_key_errors_mean_a_lost_lease(
    service: Service, org: str, details: dict[str, Any], expected: Any
) -> None:
    class Failing:
        """A collection whose writes fail."""

        def insert_many(self, *_: Any, **__: Any) -> None:
            """Fail."""
            raise BulkWriteError(details)

    event_log: Any = MongoEventLog(service.store.database, TenantScope())
    event_log._events = Failing()
    with pytest.raises(expected):
        event_log.append(org, f"watch-{org}", [event(1, f"{org}/contact/a", ChangeKind.ENTERED)], NEVER)
