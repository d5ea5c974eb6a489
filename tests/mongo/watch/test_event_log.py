"""Bulk writes of the event log that fail for another reason than a duplicate key."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo.errors import BulkWriteError

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import StoreUnavailable
from audience_service.domain.core.lease import LeaseLost
from audience_service.domain.history.model import Cause, ChangeKind, Event, MembershipChange
from audience_service.mongo.core.scope import TenantScope
from audience_service.mongo.watch.event_log import MongoEventLog

DUPLICATE_KEY, SHUTDOWN, WRITE_CONCERN_FAILED = 11000, 91, 64
EVENTS = [
    Event(
        seq,
        MembershipChange(f"contact-{seq}", f"acme/contact/{seq}", ChangeKind.ENTERED),
        Cause.DATA,
        datetime(2026, 3, 1, tzinfo=UTC),
    )
    for seq in (1, 2)
]


class FailingDatabase:
    """A database whose bulk writes fail with some codes, of writes or of the write concern."""

    client = None

    def __init__(self, *codes: int, concern: int = 0) -> None:
        errors = [{"code": code} for code in codes]
        concerns = [{"code": concern}] if concern else []
        self._details = {"writeErrors": errors, "writeConcernErrors": concerns}

    def __getitem__(self, _: str) -> "FailingDatabase":
        return self

    def insert_many(self, *_: Any, **__: Any) -> None:
        """Fail."""
        raise BulkWriteError(self._details)

    bulk_write = insert_many


def event_log(*codes: int, concern: int = 0) -> MongoEventLog:
    """An event log on such a database."""
    database: Any = FailingDatabase(*codes, concern=concern)
    return MongoEventLog(database, TenantScope())


@pytest.mark.parametrize("method", ["append", "apply"])
def test_duplicate_keys_do_not_hide_other_errors(method: str) -> None:
    with pytest.raises(StoreUnavailable):
        getattr(event_log(DUPLICATE_KEY, SHUTDOWN), method)("acme", "watch-1", EVENTS, Deadline(None))


@pytest.mark.parametrize("method", ["append", "apply"])
def test_duplicate_keys_do_not_hide_a_write_concern_error(method: str) -> None:
    with pytest.raises(StoreUnavailable):
        getattr(event_log(DUPLICATE_KEY, concern=WRITE_CONCERN_FAILED), method)(
            "acme", "watch-1", EVENTS, Deadline(None)
        )


def test_duplicate_keys_mean_a_lost_lease_to_append_and_success_to_apply() -> None:
    with pytest.raises(LeaseLost):
        event_log(DUPLICATE_KEY).append("acme", "watch-1", EVENTS, Deadline(None))
    event_log(DUPLICATE_KEY).apply("acme", "watch-1", EVENTS, Deadline(None))
