"""The change feed on scripted streams: what is told to whom, and when it is not all."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, OperationFailure

from audience_service.domain.watches.watch import Changes
from audience_service.mongo.changes import MongoChanges
from tests.conftest import Service
from tests.scripted import ScriptedDatabase, ScriptedStream
from tests.waiting import eventually

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
Feeds = Callable[..., MongoChanges]


@pytest.fixture
def feeds() -> Iterator[Feeds]:
    """Feeds on databases, closed in the end."""
    made: list[MongoChanges] = []

    def make(database: Any, **limits: Any) -> MongoChanges:
        made.append(MongoChanges(database, lambda: None, lambda: NOON, retry_seconds=0.01, **limits))
        return made[-1]

    yield make
    for feed in made:
        feed.close()


def test_each_org_is_told_of_its_own_records_and_first_that_it_does_not_know_all(feeds: Feeds) -> None:
    database = ScriptedDatabase()
    feed = feeds(database)
    ours, theirs = feed.subscribe("acme", "contact"), feed.subscribe("acme2", "contact")
    stream = database.opened()
    stream.settle()
    assert ours.follows
    assert (ours.has_news, ours.is_complete, ours.take().complete) == (True, False, False)
    assert not ours.has_news
    for operation, sk in (("insert", "acme/contact/a"), ("update", "acme2/contact/b"), ("replace", "acme/contact/c")):
        stream.tell(operation, sk)
    stream.settle()
    taken, written = ours.take(), frozenset(("acme/contact/a", "acme/contact/c"))
    assert taken == Changes(written, complete=True, complete_at=taken.complete_at)
    assert theirs.take().keys == {"acme2/contact/b"}
    assert (ours.take().keys, ours.has_news) == (frozenset(), False)


def test_one_stream_serves_a_datatype_and_asks_for_no_more_than_keys(feeds: Feeds) -> None:
    database = ScriptedDatabase()
    feed = feeds(database)
    for org in ("acme", "umbrella"):
        feed.subscribe(org, "contact")
    database.opened()
    [(name, stages, options)] = database.asked
    assert name == "contact"
    assert stages[0]["$project"].keys() == {"operationType", "clusterTime", "documentKey.sk", "fullDocument.sk"}
    assert options["full_document"] == "updateLookup"


@pytest.mark.parametrize(
    ("operation", "sk"), [("delete", None), ("update", None), ("drop", None), ("rename", None), ("invalidate", None)]
)
def test_a_change_that_does_not_say_whose_it_is_makes_what_is_told_incomplete(
    feeds: Feeds, operation: str, sk: str | None
) -> None:
    database = ScriptedDatabase()
    subscription = feeds(database).subscribe("acme", "contact")
    stream = database.opened()
    stream.settle()
    subscription.take()
    assert subscription.is_complete
    stream.tell(operation, sk)
    eventually(lambda: not subscription.is_complete)
    assert not subscription.take().complete


@pytest.mark.parametrize(
    "error", [AutoReconnect("gone"), OperationFailure("history lost", 286), ValueError("a defect")]
)
def test_a_stream_that_breaks_is_opened_anew_and_says_that_it_has_missed_something(feeds: Feeds, error: Any) -> None:
    database = ScriptedDatabase()
    subscription = feeds(database).subscribe("acme", "contact")
    first = database.opened()
    first.settle()
    subscription.take()
    first.fail(error)
    second = database.opened()
    second.settle()
    assert (subscription.follows, subscription.has_news, subscription.take().complete) == (True, True, False)
    second.tell("insert", "acme/contact/a")
    second.settle()
    taken = subscription.take()
    assert taken == Changes(frozenset(("acme/contact/a",)), complete=True, complete_at=taken.complete_at)


def test_a_deployment_that_has_change_streams_no_more_is_followed_by_nobody_from_then_on(feeds: Feeds) -> None:
    database = ScriptedDatabase()
    feed = feeds(database)
    subscription = feed.subscribe("acme", "contact")
    stream = database.opened()
    stream.settle()
    subscription.take()
    stream.fail(OperationFailure("only on replica sets", 40573))
    eventually(lambda: not feed.is_reading("contact"))
    assert (subscription.follows, subscription.take().complete) == (False, False)


def test_nothing_is_complete_while_the_stream_is_away(feeds: Feeds) -> None:
    database = ScriptedDatabase()
    database.is_away = True
    subscription = feeds(database).subscribe("acme", "contact")
    eventually(lambda: len(database.asked) > 1)
    assert (subscription.take().complete, subscription.take().complete) == (False, False)
    database.is_away = False
    database.opened().settle()
    assert [subscription.take().complete for _ in range(2)] == [False, True]


def test_up_to_when_nothing_is_missing_is_the_last_changes_time_or_when_there_was_none(feeds: Feeds) -> None:
    database = ScriptedDatabase()
    feed = feeds(database)
    subscription = feed.subscribe("acme", "contact")
    stream = database.opened()
    stream.settle()
    subscription.take()
    assert subscription.take().complete_at == NOON
    later = datetime(2026, 3, 1, 13, 30, 15, tzinfo=UTC)
    stream.is_patient = True
    stream.tell("insert", "umbrella/contact/a", int(later.timestamp()))
    eventually(lambda: subscription.take().complete_at == later)
    stream.is_patient = False
    eventually(lambda: subscription.take().complete_at == NOON)


def test_nothing_is_missing_up_to_when_it_was_asked_for_changes_not_when_there_were_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moments, released = [NOON], threading.Event()

    def wait(_: ScriptedStream) -> None:
        if len(moments) > 1:
            released.wait(10)
        moments.append(NOON + timedelta(minutes=1))

    monkeypatch.setattr(ScriptedStream, "try_next", wait)
    database: Any = ScriptedDatabase()
    feed = MongoChanges(database, lambda: None, lambda: moments[-1])
    subscription = feed.subscribe("acme", "contact")
    eventually(lambda: subscription.take().complete_at is not None)
    assert subscription.take().complete_at == NOON
    released.set()
    feed.close()


def test_where_shards_tell_of_their_changes_apart_silence_says_nothing(feeds: Feeds) -> None:
    database = ScriptedDatabase(is_mongos=True)
    subscription = feeds(database).subscribe("acme", "contact")
    stream = database.opened()
    stream.settle()
    subscription.take()
    assert subscription.take() == Changes(complete=True, complete_at=None)
    stream.tell("insert", "umbrella/contact/a", int(NOON.timestamp()))
    stream.settle()
    assert subscription.take().complete_at == NOON


def test_a_stream_that_is_opened_anew_knows_nothing_of_up_to_when_the_one_before_had_told(feeds: Feeds) -> None:
    database = ScriptedDatabase(is_mongos=True)
    subscription = feeds(database).subscribe("acme", "contact")
    first = database.opened()
    first.tell("insert", "umbrella/contact/a", int(NOON.timestamp()))
    first.settle()
    subscription.take()
    assert subscription.take().complete_at == NOON
    first.fail(AutoReconnect("gone"))
    database.opened().settle()
    subscription.take()
    assert subscription.take() == Changes(complete=True, complete_at=None)


def test_who_has_news_already_or_asks_for_another_org_is_not_woken_for_more() -> None:
    database, rung = ScriptedDatabase(), []
    anyone: Any = database
    feed = MongoChanges(anyone, lambda: rung.append(1))
    subscription = feed.subscribe("acme", "contact")
    stream = database.opened()
    stream.settle()
    subscription.take()
    before = len(rung)
    for key in "abc":
        stream.tell("update", f"umbrella/contact/{key}")
    stream.settle()
    assert len(rung) == before
    for key in "abc":
        stream.tell("update", f"acme/contact/{key}")
    stream.settle()
    assert len(rung) == before + 1
    for _ in range(3):
        stream.tell("delete")
    stream.settle()
    assert len(rung) == before + 2
    feed.close()


def test_more_changes_than_are_kept_one_by_one_are_told_to_be_too_many(feeds: Feeds) -> None:
    database = ScriptedDatabase()
    subscription = feeds(database, max_keys=3).subscribe("acme", "contact")
    stream = database.opened()
    stream.settle()
    subscription.take()
    for key in "abcd":
        stream.tell("insert", f"acme/contact/{key}")
    stream.settle()
    taken = subscription.take()
    assert (taken.keys, taken.complete) == (frozenset(), False)


def test_a_deployment_without_change_streams_is_followed_by_nobody(real_service: Service, feeds: Feeds) -> None:
    feed = feeds(real_service.store.database)
    subscription = feed.subscribe("acme", "contact")
    eventually(lambda: not feed.is_reading("contact"))
    assert not subscription.follows
    assert not subscription.take().complete
