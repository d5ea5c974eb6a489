"""What the ledger's repository promises beside the rounds that use it, on every store."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo.errors import BulkWriteError

from audience_service.domain.caller import Deadline
from audience_service.domain.filters import CompiledFilter
from audience_service.domain.watches.ports import Overtaken
from audience_service.domain.watches.watch import Cause, Change, Event, Flip
from audience_service.mongo.ledger import MongoLedger
from tests.conftest import Service

NEVER = Deadline(None)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOBODY = CompiledFilter("contact", {"sk": {"$eq": "nobody"}})


def event(seq: int, sk: str, change: Change) -> Event:
    """An event."""
    return Event(seq, Flip(f"contact-{sk[-1]}", sk, change), Cause.DATA, NOON)


def test_of_several_events_of_a_record_the_last_says_whether_it_is_in_in_whatever_order_they_are_applied(
    service: Service, org: str
) -> None:
    ledger, generation, sk = service.store.ledger, f"watch-{org}", f"{org}/contact/a"
    changes = [Change.ENTERED, Change.EXITED, Change.ENTERED]
    events = [event(seq, sk, change) for seq, change in enumerate(changes, 1)]
    for applied in (events, events[:2], events[1:2], events[:1]):
        ledger.apply(org, generation, applied, NEVER)
        [flip] = ledger.judge(org, generation, NOBODY, [sk], NEVER)
        assert flip.change is Change.EXITED


def test_no_event_is_about_another_orgs_record(service: Service, org: str) -> None:
    ledger, generation = service.store.ledger, f"watch-{org}"
    events = [event(1, f"{org}/contact/a", Change.ENTERED), event(2, f"{org}2/contact/b", Change.ENTERED)]
    with pytest.raises(ValueError, match="another org"):
        ledger.append(org, generation, events, NEVER)
    assert ledger.read(org, generation, 0, None, 10, NEVER) == []


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"writeErrors": [{"code": 11000}]}, Overtaken),
        ({"writeErrors": [{"code": 11000}], "writeConcernErrors": [{"code": 64}]}, BulkWriteError),
        ({"writeErrors": [{"code": 13}]}, BulkWriteError),
        ({"writeErrors": [], "writeConcernErrors": [{"code": 64}]}, BulkWriteError),
    ],
)
def test_a_number_is_taken_where_the_database_says_so_and_nothing_else(
    service: Service, org: str, details: dict[str, Any], expected: Any
) -> None:
    class Failing:
        """A collection that writes nothing."""

        def insert_many(self, *_: Any, **__: Any) -> None:
            """Fail."""
            raise BulkWriteError(details)

    ledger: Any = MongoLedger(service.store.database)
    ledger._ledger = Failing()
    with pytest.raises(expected):
        ledger.append(org, f"watch-{org}", [event(1, f"{org}/contact/a", Change.ENTERED)], NEVER)
