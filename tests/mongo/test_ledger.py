"""What a ledger makes of bulk writes that fail by more than keys that are taken."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo.errors import BulkWriteError

from audience_service.domain.caller import Deadline
from audience_service.domain.errors import StoreUnavailable
from audience_service.domain.watches.ports import Overtaken
from audience_service.domain.watches.watch import Cause, Change, Event, Flip
from audience_service.mongo.ledger import MongoLedger

TAKEN, SHUTDOWN, NOT_KEPT = 11000, 91, 64
EVENTS = [
    Event(
        seq, Flip(f"contact-{seq}", f"acme/contact/{seq}", Change.ENTERED), Cause.DATA, datetime(2026, 3, 1, tzinfo=UTC)
    )
    for seq in (1, 2)
]


class Failing:
    """A database whose bulk writes fail with some codes, of writes or of the write concern."""

    client = None

    def __init__(self, *codes: int, concern: int = 0) -> None:
        errors = [{"code": code} for code in codes]
        concerns = [{"code": concern}] if concern else []
        self._details = {"writeErrors": errors, "writeConcernErrors": concerns}

    def __getitem__(self, _: str) -> "Failing":
        return self

    def insert_many(self, *_: Any, **__: Any) -> None:
        """Fail."""
        raise BulkWriteError(self._details)

    bulk_write = insert_many


def ledger(*codes: int, concern: int = 0) -> MongoLedger:
    """A ledger on such a database."""
    database: Any = Failing(*codes, concern=concern)
    return MongoLedger(database)


@pytest.mark.parametrize("method", ["append", "apply"])
def test_keys_that_are_taken_hide_no_other_error(method: str) -> None:
    with pytest.raises(StoreUnavailable):
        getattr(ledger(TAKEN, SHUTDOWN), method)("acme", "watch-1", EVENTS, Deadline(None))


@pytest.mark.parametrize("method", ["append", "apply"])
def test_keys_that_are_taken_do_not_hide_that_what_was_written_is_not_kept_by_a_majority(method: str) -> None:
    with pytest.raises(BulkWriteError):
        getattr(ledger(TAKEN, concern=NOT_KEPT), method)("acme", "watch-1", EVENTS, Deadline(None))


def test_who_finds_keys_taken_is_overtaken_where_it_appends_and_goes_on_where_it_applies() -> None:
    with pytest.raises(Overtaken):
        ledger(TAKEN).append("acme", "watch-1", EVENTS, Deadline(None))
    ledger(TAKEN).apply("acme", "watch-1", EVENTS, Deadline(None))
